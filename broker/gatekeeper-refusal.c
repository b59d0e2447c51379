/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the gate refused, or let through and told of, in words. The kernel says what was compared; whose
 * leases there are, the model says, as it is now.
 *
 * Anybody can be refused in a loop, as with host sessions (session-refusal.c), so the same holds: of one
 * process, equal ones are one entry that counts and is told of once; of one user, so many are kept; what
 * comes too fast is only counted.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/events.h"
#include "broker/gatekeeper-state.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "broker/refusal-fill.h"
#include "util/clock.h"

#define GATE_REFUSALS_PER_USER 64U
#define LOOK_MAX               256U
#define LOOK_INTERVAL_USEC     USEC_PER_SEC
#define JOURNAL_MAX            20U
#define JOURNAL_INTERVAL_USEC  (10 * USEC_PER_SEC)

#define MESSAGE_GATE "e25c5afe8b434db48178c1abba2d62df"

#define LIMIT_LEASE "lease"
#define DELETE      '\x7f'

typedef struct Case {
        const Manager *manager;
        const GateRefusal *facts;
        const LeaseOwner *owner; /* NULL: that process has no lease, not even one that is revoked */
        const Lease *lease;      /* of the owner's, one that holds CPUs, if there is one */
        char command[GATE_COMMAND_MAX];
        char what[48]; /* "SPU", "attribute 7" */
} Case;

static void name_attribute(const KvmNumbers *numbers, uint64_t attribute, char *name, size_t size) {
        static const struct {
                KvmNumber number;
                const char *name;
        } names[] = {
                {KVM_NUMBER_ATTRIBUTE_IRQ, "IRQ"},
                {KVM_NUMBER_ATTRIBUTE_SPU, "SPU"},
                {KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE, "MAX_BUFFER_SIZE"},
                {KVM_NUMBER_ATTRIBUTE_INIT, "INIT"},
        };

        for (size_t i = 0; i < ELEMENTS_OF(names); i++)
                if (kvm_number_is_known(numbers, names[i].number) &&
                    kvm_number(numbers, names[i].number) == attribute) {
                        (void)snprintf(name, size, "%s", names[i].name);
                        return;
                }

        (void)snprintf(name, size, "attribute %" PRIu64, attribute);
}

/* Whether the process, which may be in a control group of that path (NULL: not known), is the owner or in it.
 */
static bool is_of(const LeaseOwner *owner, pid_t pid, const char *path) {
        const Cgroup *group = owner->owner->cgroup;

        return group ? path && cgroup_has_path(group, path) : owner->key == (OwnerKey)pid;
}

/* Whether of two that the process is of, the kernel goes by @owner: by what it admits to something, then by
 * the process before its groups, then by the inner group. */
static bool is_before(const LeaseOwner *owner, const LeaseOwner *other) {
        const Cgroup *group = owner->owner->cgroup, *other_group = other->owner->cgroup;

        if (!owner->admitted != !other->admitted)
                return owner->admitted;
        return other_group && (!group || strlen(group->path) > strlen(other_group->path));
}

/* Whose lease it would have been by, or was, where it is revoked: the process's own, or that of a control
 * group that it is in. */
static const LeaseOwner *find_owner(const Manager *manager, pid_t pid) {
        _cleanup_(freep) char *path = NULL;
        const LeaseOwner *found = NULL;
        const Lease *lease;

        (void)cgroup_path_of_process(pid, &path);
        TAILQ_FOREACH(lease, &manager->leases.all, link)
                if (lease_is_charged(lease) && is_of(lease->owner, pid, path) &&
                    (!found || is_before(lease->owner, found)))
                        found = lease->owner;
        return found;
}

static void case_init(Case *c, const Manager *manager, const GateRefusal *facts) {
        const Lease *lease;

        *c = (Case){.manager = manager, .facts = facts};
        c->owner = find_owner(manager, facts->pid);
        if (c->owner)
                LIST_FOREACH(lease, &c->owner->leases, owner_link)
                        if (lease_is_charged(lease) && (!c->lease || lease_is_holding(lease)))
                                c->lease = lease;

        /* What a process calls itself may hold anything. */
        for (size_t i = 0; i < sizeof(c->command) - 1 && facts->command[i]; i++) {
                char byte = facts->command[i];

                c->command[i] = (unsigned char)byte < ' ' || byte == DELETE ? '?' : byte;
        }
        name_attribute(&manager->gatekeeper->numbers, facts->attribute, c->what, sizeof(c->what));
}

/* The sentence: @why is a clause. */
static int say(const Case *c, Refusal *refusal, const char *why) {
        return refusal_say(
                refusal,
                c->facts->refused
                        ? "%s (pid %i) may not set %s of SPE on a VCPU: %s"
                        : "%s (pid %i) has set %s of SPE on a VCPU, which is only reported here: %s",
                c->command, (int)c->facts->pid, c->what, why);
}

static int allow(Refusal *refusal, const char *text) {
        return refusal_copy(text, &refusal->allowed);
}

static int fill_no_lease(const Case *c, Refusal *refusal) {
        _cleanup_(freep) char *why = NULL;
        int r;

        if (!c->lease)
                r = asprintf(&why, "the process has no lease");
        else if (lease_is_holding(c->lease))
                r = asprintf(&why, "it had no lease yet, or is not the process that has lease %s",
                             c->lease->id);
        else
                r = asprintf(&why, "its lease %s is revoked", c->lease->id);
        if (r < 0) {
                why = NULL;
                return -ENOMEM;
        }

        r = say(c, refusal, why);
        return r < 0 ? r : allow(refusal, "a VMM that has a lease may (speadm run, or libspebroker(3))");
}

/* Of the owner's leases that hold CPUs on one SPU, one is. */
static bool is_first_there(const LeaseOwner *owner, const Lease *lease) {
        const Lease *other;

        LIST_FOREACH(other, &owner->leases, owner_link) {
                if (other == lease)
                        break;
                if (lease_is_holding(other) && strcmp(other->instance_name, lease->instance_name) == 0)
                        return false;
        }
        return lease_is_holding(lease);
}

/* Of all leases of the owner's on @lease's SPU. */
static CpuSet cpus_there(const LeaseOwner *owner, const Lease *lease) {
        CpuSet cpus = CPUSET_NULL;
        const Lease *other;

        LIST_FOREACH(other, &owner->leases, owner_link)
                if (lease_is_holding(other) && strcmp(other->instance_name, lease->instance_name) == 0)
                        cpuset_or(&cpus, &other->usable);
        return cpus;
}

/* The SPUs that the owner's leases are on. */
static int list_instances(const Case *c, Refusal *refusal) {
        const Lease *lease;
        size_t n = 0;

        LIST_FOREACH(lease, &c->owner->leases, owner_link)
                n++;
        refusal->instances = calloc(n + 1, sizeof(*refusal->instances));
        if (!refusal->instances)
                return -ENOMEM;

        LIST_FOREACH(lease, &c->owner->leases, owner_link) {
                RefusalInstance *entry = &refusal->instances[refusal->n_instances];
                CpuSet cpus;
                int r;

                if (!is_first_there(c->owner, lease))
                        continue;

                refusal->n_instances++;
                cpus = cpus_there(c->owner, lease);
                r = refusal_copy(lease->instance_name, &entry->name);
                if (r == 0)
                        r = refusal_copy_cpus(&cpus, &entry->cpus);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int name_spu(const Case *c, char **ret_name) {
        const InstanceTable *table = &c->manager->model.instances;

        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->state == INSTANCE_STATE_READY &&
                    table->entries[i]->pmu_type == c->facts->value)
                        return refusal_copy(table->entries[i]->name, ret_name);

        return asprintf(ret_name, "PMU type %" PRIu64, c->facts->value) < 0 ? -ENOMEM : 0;
}

static int fill_other_spu(const Case *c, Refusal *refusal) {
        _cleanup_(freep) char *why = NULL;
        const Lease *lease = c->lease;
        int r;

        r = name_spu(c, &refusal->instance);
        if (r == 0)
                r = list_instances(c, refusal);
        if (r < 0)
                return r;

        if (asprintf(&why, "%s is not the SPU of its lease %s, which is %s%s", refusal->instance, lease->id,
                     lease->instance_name, lease->away ? " and cannot be used now" : "") < 0) {
                why = NULL;
                return -ENOMEM;
        }
        r = say(c, refusal, why);
        if (r < 0 || lease->away)
                return r;

        free(why);
        if (asprintf(&why, "%s is allowed, PMU type %" PRIu32, lease->instance_name, lease->now_pmu_type) <
            0) {
                why = NULL;
                return -ENOMEM;
        }
        return allow(refusal, why);
}

static int fill_too_large(const Case *c, Refusal *refusal) {
        char asked[sizeof("18446744073709551615 bytes")] = "no limit", why[128], allowed[64];
        int r;

        refusal->limit = LIMIT_LEASE;
        refusal->requested = c->facts->value < INT64_MAX ? c->facts->value : INT64_MAX; /* on the wire */
        refusal->available = c->facts->allowed;
        if (c->facts->value > 0)
                (void)snprintf(asked, sizeof(asked), "%" PRIu64 " bytes", c->facts->value);
        (void)snprintf(why, sizeof(why), "%s is more than the %" PRIu64 " bytes of its lease", asked,
                       c->facts->allowed);
        (void)snprintf(allowed, sizeof(allowed), "%" PRIu64 " bytes and less are allowed", c->facts->allowed);
        r = say(c, refusal, why);
        return r < 0 ? r : allow(refusal, allowed);
}

static int make(const Case *c, Refusal **ret_refusal) {
        static const RefusalKind kinds[_GATE_CAUSE_MAX] = {
                [GATE_CAUSE_NO_LEASE] = REFUSAL_NO_SUCH_LEASE,
                [GATE_CAUSE_OTHER_SPU] = REFUSAL_NO_SUCH_INSTANCE,
                [GATE_CAUSE_TOO_LARGE] = REFUSAL_LIMIT_EXCEEDED,
        };
        _cleanup_(refusal_freep) Refusal *refusal = NULL;
        RefusalKind kind = kinds[c->facts->cause];
        int r;

        if (kind == REFUSAL_NO_SUCH_INSTANCE && !c->lease)
                kind = REFUSAL_NO_SUCH_LEASE; /* it has ended since */
        r = refusal_begin(c->manager, kind, c->facts->pid, c->facts->uid, &refusal);
        if (r == 0 && c->lease)
                r = refusal_copy(c->lease->request.vm, &refusal->vm);
        if (r < 0)
                return r;

        refusal->attribute = (RefusedAttribute){
                .number = c->facts->attribute,
                .value = c->facts->value,
                .let_through = !c->facts->refused,
                .times = 1,
        };
        if (kind == REFUSAL_NO_SUCH_LEASE)
                r = fill_no_lease(c, refusal);
        else
                r = kind == REFUSAL_NO_SUCH_INSTANCE ? fill_other_spu(c, refusal)
                                                     : fill_too_large(c, refusal);
        if (r < 0)
                return r;

        *ret_refusal = steal_ptr(refusal);
        return 0;
}

static bool is_repetition(const Refusal *refusal, const GateRefusal *facts) {
        const RefusedAttribute *attribute = &refusal->attribute;

        return attribute->times > 0 && refusal->pid == facts->pid && refusal->uid == facts->uid &&
               attribute->number == facts->attribute && attribute->value == facts->value &&
               attribute->let_through == !facts->refused;
}

/* What is kept of this user's: the entry that says the same already, or NULL; and the oldest one if there are
 * as many as may be. */
static Refusal *look_up(const RefusalLog *log, const GateRefusal *facts, Refusal **ret_oldest) {
        Refusal *refusal, *oldest = NULL;
        unsigned n = 0;

        *ret_oldest = NULL;
        TAILQ_FOREACH(refusal, &log->entries, link) {
                if (is_repetition(refusal, facts))
                        return refusal;
                if (refusal->attribute.times == 0 || refusal->uid != facts->uid)
                        continue;
                oldest = refusal;
                n++;
        }

        if (n >= GATE_REFUSALS_PER_USER)
                *ret_oldest = oldest;
        return NULL;
}

/* One more like @entry, just after it. */
static void count(Manager *manager, Refusal *entry) {
        RefusalLog *log = &manager->refusals;

        entry->attribute.times++;
        entry->when_usec = manager_now_realtime(manager);
        TAILQ_REMOVE(&log->entries, entry, link);
        TAILQ_INSERT_HEAD(&log->entries, entry, link);
}

static void write_journal(Manager *manager, const Case *c, const Refusal *refusal) {
        RateLimit *limit = &manager->gatekeeper->journal;
        char pid[LOG_NUMBER_MAX], uid[LOG_NUMBER_MAX], more[LOG_LEFT_OUT_MAX];
        const LogField fields[] = {
                {"SPE_BROKER_REFUSAL", refusal->id},
                {"SPE_BROKER_LEASE", c->lease ? c->lease->id : NULL},
                {"SPE_BROKER_VM", refusal->vm},
                {"SPE_BROKER_INSTANCE", refusal->instance},
                {"SPE_BROKER_GATE", c->facts->refused ? "refused" : "reported"},
                {"SPE_BROKER_PROCESS_PID", log_number(refusal->pid, pid)},
                {"SPE_BROKER_PROCESS_UID", log_number(refusal->uid, uid)},
                {"SPE_BROKER_PROCESS_COMMAND", c->command},
        };

        if (!rate_limit_allows(limit, manager_now_monotonic(manager), JOURNAL_MAX, JOURNAL_INTERVAL_USEC))
                return;

        log_left_out(rate_limit_take_left_out(limit), more);
        log_event(LOG_NOTICE, MESSAGE_GATE, fields, ELEMENTS_OF(fields), "%s%s", refusal->message, more);
}

static void enter(Manager *manager, const Case *c, Refusal *refusal, Refusal *before) {
        bool news = !before || strcmp(before->message, refusal->message) != 0;

        if (!news)
                refusal->attribute.times = before->attribute.times + 1;
        if (before)
                refusal_log_remove(&manager->refusals, before);
        if (news) {
                write_journal(manager, c, refusal);
                events_refusal(manager, refusal);
        }
        if (refusal_log_add(&manager->refusals, refusal) < 0)
                refusal_free(refusal);
}

void gatekeeper_refused(const GateRefusal *gate_refusal, void *userdata) {
        Manager *manager = userdata;
        Gatekeeper *gatekeeper = manager->gatekeeper;
        uint64_t now = manager_now_monotonic(manager);
        Refusal *refusal, *before, *oldest;
        Case c;

        before = look_up(&manager->refusals, gate_refusal, &oldest);
        if (before && now - before->attribute.looked_usec < LOOK_INTERVAL_USEC) {
                count(manager, before);
                return;
        }

        case_init(&c, manager, gate_refusal);
        if (!rate_limit_allows(&gatekeeper->refusals, now, LOOK_MAX, LOOK_INTERVAL_USEC) ||
            make(&c, &refusal) < 0) {
                gatekeeper->refusals_lost++;
                return;
        }

        refusal->attribute.looked_usec = now;
        if (oldest)
                refusal_log_remove(&manager->refusals, oldest);
        enter(manager, &c, refusal, before);
}
