/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Refusals in words. Each kind fills in exactly the fields of its error in the interface, and one sentence
 * that says what was asked, what stands against it and what is there instead.
 */

#include "broker/refusal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "broker/lease.h"
#include "broker/manager.h"
#include "broker/refusal-fill.h"
#include "util/parse.h"

Refusal *refusal_free(Refusal *refusal) {
        if (!refusal)
                return NULL;

        for (size_t i = 0; i < refusal->n_instances; i++) {
                free(refusal->instances[i].name);
                free(refusal->instances[i].cpus);
        }
        for (size_t i = 0; i < refusal->n_holders; i++) {
                free(refusal->holders[i].vm);
                free(refusal->holders[i].command);
                free(refusal->holders[i].cpus);
        }
        free(refusal->instances);
        free(refusal->holders);
        free(refusal->message);
        free(refusal->vm);
        free(refusal->instance);
        free(refusal->reason);
        free(refusal->cpus);
        free(refusal->assigned_vm);
        free(refusal->allowed);
        free(refusal);
        return NULL;
}

const char *refusal_get_error(const Refusal *refusal) {
        return refusal->kind == REFUSAL_NO_SUCH_LEASE ? "NoSuchLease" : refusal_kind_to_string(refusal->kind);
}

int refusal_copy(const char *text, char **ret_copy) {
        char *p = strdup(text);

        if (!p)
                return -ENOMEM;

        *ret_copy = p;
        return 0;
}

int refusal_copy_cpus(const CpuSet *cpus, char **ret_text) {
        char text[CPUSET_TEXT_MAX];

        cpuset_format(cpus, text, sizeof(text));
        return refusal_copy(text, ret_text);
}

int refusal_say(Refusal *refusal, const char *format, ...) {
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&refusal->message, format, ap);
        va_end(ap);

        if (n < 0) {
                refusal->message = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* The instances that there are, as fields and as words: "arm_spe_0 has 0-3, arm_spe_1 has 4-11". */
static int list_instances(const Manager *manager, Refusal *refusal, char **ret_words) {
        const InstanceTable *table = &manager->model.instances;
        _cleanup_(freep) char *words = NULL;
        size_t size;
        FILE *f;

        refusal->instances = calloc(table->n + 1, sizeof(*refusal->instances));
        if (!refusal->instances)
                return -ENOMEM;

        f = open_memstream(&words, &size);
        if (!f)
                return -ENOMEM;

        for (size_t i = 0; i < table->n; i++) {
                RefusalInstance *entry = &refusal->instances[i];
                int r;

                r = refusal_copy(table->entries[i]->name, &entry->name);
                refusal->n_instances = i + 1;
                if (r == 0)
                        r = refusal_copy_cpus(&table->entries[i]->cpus, &entry->cpus);
                if (r < 0) {
                        fclose(f);
                        return r;
                }
                fprintf(f, "%s%s has CPUs %s", i > 0 ? ", " : "", entry->name,
                        *entry->cpus ? entry->cpus : "unknown");
        }

        /* glibc's fclose() does not tell if it could not trim the text, and leaves none then. */
        if (fclose(f) != 0 || !words)
                return -ENOMEM;

        *ret_words = steal_ptr(words);
        return 0;
}

static int fill_no_such_instance(const Manager *manager, const LeaseRequest *request, Refusal *refusal) {
        _cleanup_(freep) char *words = NULL;
        int r;

        r = list_instances(manager, refusal, &words);
        if (r < 0)
                return r;
        r = refusal_copy(request->instance ?: "", &refusal->instance);
        if (r < 0)
                return r;

        if (refusal->n_instances == 0)
                return refusal_say(refusal,
                                   "this host has no SPU: no arm_spe_* in /sys/bus/event_source/devices");

        return refusal_say(refusal, "there is no SPU %s here: %s", refusal->instance, words);
}

static int fill_instance(const RefusalFacts *facts, Refusal *refusal) {
        const Instance *instance = facts->instance;
        const char *reason;
        int r;

        if (facts->kind == REFUSAL_INSTANCE_NOT_READY) {
                refusal->state = instance_state_to_string(instance->state);
                reason = instance->problem ?: "it is not there any more";
        } else
                reason = instance->guest_reason ?: "KVM cannot use it";

        r = refusal_copy(instance->name, &refusal->instance);
        if (r == 0)
                r = refusal_copy(reason, &refusal->reason);
        if (r < 0)
                return r;

        if (refusal->state)
                return refusal_say(refusal, "%s is %s: %s", instance->name, refusal->state, reason);

        return refusal_say(refusal, "%s cannot be given to a guest: %s", instance->name, reason);
}

static int fill_no_instance_for_cpus(const Manager *manager, const RefusalFacts *facts, Refusal *refusal) {
        _cleanup_(freep) char *words = NULL;
        int r;

        r = list_instances(manager, refusal, &words);
        if (r == 0)
                r = refusal_copy_cpus(&facts->cpus, &refusal->cpus);
        if (r < 0)
                return r;

        return refusal_say(refusal, "no one SPU has all of CPUs %s on line: %s", refusal->cpus,
                           *words ? words : "this host has no SPU");
}

static int fill_not_assigned(const RefusalFacts *facts, Refusal *refusal) {
        int r;

        refusal->owner = assignment_owner_to_string(facts->owner);
        r = refusal_copy_cpus(&facts->cpus, &refusal->cpus);
        if (r == 0 && facts->vm)
                r = refusal_copy(facts->vm, &refusal->assigned_vm);
        if (r < 0)
                return r;

        if (facts->needs_own_cpus)
                return refusal_say(
                        refusal,
                        "an exclusive lease needs an administrator, or CPUs assigned to VM %s: CPUs %s "
                        "are not",
                        refusal->vm, refusal->cpus);
        if (facts->vm)
                return refusal_say(refusal, "CPUs %s are assigned to VM %s", refusal->cpus, facts->vm);
        if (facts->owner == ASSIGNMENT_OWNER_NONE)
                return refusal_say(refusal, "CPUs %s are drained: nobody may profile there", refusal->cpus);

        return refusal_say(refusal, "CPUs %s are assigned to the host", refusal->cpus);
}

static int fill_size(const RefusalFacts *facts, Refusal *refusal) {
        refusal->requested = facts->requested;
        refusal->nearest = facts->nearest;
        return refusal_say(
                refusal,
                "a buffer of %" PRIu64
                " bytes cannot be represented in PMBIDR_EL1.MaxBuffSize; the nearest size is %" PRIu64,
                facts->requested, facts->nearest);
}

static int fill_limit(const RefusalFacts *facts, Refusal *refusal) {
        char requested[FORMAT_SIZE_MAX], available[FORMAT_SIZE_MAX];

        refusal->limit = facts->limit;
        refusal->requested = facts->requested;
        refusal->available = facts->available;
        return refusal_say(refusal, "%s would be exceeded: %s asked, %s left", facts->limit,
                           format_size(facts->requested, requested),
                           format_size(facts->available, available));
}

static int fill_unprotected(const RefusalFacts *facts, Refusal *refusal) {
        int r;

        r = refusal_copy(facts->reason, &refusal->reason);
        if (r < 0)
                return r;

        return refusal_say(refusal,
                           "host sessions cannot be kept off this lease as the configuration wants: %s",
                           refusal->reason);
}

static int fill(const Manager *manager, const LeaseRequest *request, const RefusalFacts *facts,
                Refusal *refusal) {
        switch (facts->kind) {
        case REFUSAL_NO_SUCH_INSTANCE:
                return fill_no_such_instance(manager, request, refusal);
        case REFUSAL_INSTANCE_NOT_READY:
        case REFUSAL_GUEST_UNSUPPORTED:
                return fill_instance(facts, refusal);
        case REFUSAL_NO_INSTANCE_FOR_CPUS:
                return fill_no_instance_for_cpus(manager, facts, refusal);
        case REFUSAL_NOT_ASSIGNED:
                return fill_not_assigned(facts, refusal);
        case REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE:
                return fill_size(facts, refusal);
        case REFUSAL_LIMIT_EXCEEDED:
                return fill_limit(facts, refusal);
        case REFUSAL_ARBITRATION_UNAVAILABLE:
                return fill_unprotected(facts, refusal);
        case REFUSAL_BUSY:
                return refusal_fill_busy(manager, request, facts, refusal);
        case _REFUSAL_MAX:
                break;
        }

        return -ENOTRECOVERABLE;
}

int refusal_begin(const Manager *manager, RefusalKind kind, pid_t pid, uid_t uid, Refusal **ret_refusal) {
        Refusal *refusal;
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;

        refusal = calloc(1, sizeof(*refusal));
        if (!refusal)
                return -ENOMEM;

        sd_id128_to_string(id, refusal->id);
        refusal->kind = kind;
        refusal->when_usec = manager_now_realtime(manager);
        refusal->pid = pid;
        refusal->uid = uid;

        *ret_refusal = refusal;
        return 0;
}

int refusal_say_first(Refusal *refusal, const char *why) {
        _cleanup_(freep) char *rest = refusal->message;

        return refusal_say(refusal, "%s; %s", why, rest);
}

int refusal_new(const Manager *manager, const LeaseRequest *request, const RefusalFacts *facts,
                Refusal **ret_refusal) {
        _cleanup_(refusal_freep) Refusal *refusal = NULL;
        const Owner *owner = lease_request_get_owner(request);
        int r;

        r = refusal_begin(manager, facts->kind, owner->pid, owner->uid, &refusal);
        if (r == 0)
                r = refusal_copy(request->vm, &refusal->vm);
        if (r == 0)
                r = fill(manager, request, facts, refusal);
        if (r < 0)
                return r;

        *ret_refusal = steal_ptr(refusal);
        return 0;
}
