/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * decide() and decide_move() for whoever is not C: reads hosts and requests as JSON, one case a line, and
 * writes an answer a line. No rule is known here; a case that is not understood ends the program.
 */

#include <err.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/decide.h"
#include "util/cleanup.h"

#define CHARGES_MAX 64U

/* The host of one case. */
typedef struct Case {
        Model model;
        LimitOverride overrides[8];
        LedgerCharge charges[CHARGES_MAX];
        size_t n_charges;
        Claims ahead;
} Case;

static struct json_object *get(struct json_object *object, const char *key) {
        struct json_object *value;

        if (!json_object_object_get_ex(object, key, &value))
                errx(1, "there is no %s", key);
        return value;
}

static const char *get_string(struct json_object *object, const char *key) {
        return json_object_get_string(get(object, key)); /* NULL for null */
}

static uint64_t get_size(struct json_object *object, const char *key) {
        return (uint64_t)json_object_get_int64(get(object, key));
}

static CpuSet get_cpus(struct json_object *object, const char *key) {
        const char *text = get_string(object, key);
        CpuSet set;

        if (!text || cpuset_parse(text, strlen(text), &set) != 0)
                errx(1, "%s: not CPUs", key);
        return set;
}

static LeaseMode get_mode(struct json_object *object) {
        LeaseMode mode = lease_mode_from_string(get_string(object, "mode"));

        if (mode < 0)
                errx(1, "not a mode");
        return mode;
}

static VmOrigin get_vm_origin(struct json_object *object) {
        for (VmOrigin origin = 0; origin < _VM_ORIGIN_MAX; origin++)
                if (strcmp(get_string(object, "origin"), vm_origin_to_string(origin)) == 0)
                        return origin;
        errx(1, "not an origin");
}

static void must(int r, const char *what) {
        if (r != 0)
                errx(1, "%s: %i", what, r);
}

/* ---- what there is ---- */

static void read_limits(struct json_object *object, Case *c) {
        struct json_object *limits = get(object, "limits"), *sections = get(object, "overrides");
        size_t n = json_object_array_length(sections);

        if (n > ELEMENTS_OF(c->overrides))
                errx(1, "too many sections");
        for (size_t i = 0; i < n; i++) {
                struct json_object *section = json_object_array_get_idx(sections, i);

                c->overrides[i] = (LimitOverride){
                        .vm = (char *)get_string(section, "vm"),
                        .uid = (uid_t)get_size(section, "uid"),
                        .max_buffer_size = get_size(section, "MaxBufferSize"),
                        .max_memory = get_size(section, "MaxMemory"),
                };
        }

        c->model.limits = (Limits){
                .max_buffer_size = get_size(limits, "MaxBufferSize"),
                .max_memory_per_vm = get_size(limits, "MaxMemoryPerVM"),
                .max_memory_per_user = get_size(limits, "MaxMemoryPerUser"),
                .max_memory = get_size(limits, "MaxMemory"),
                .max_leases = (unsigned)get_size(limits, "MaxLeases"),
                .max_leases_per_user = (unsigned)get_size(limits, "MaxLeasesPerUser"),
                .overrides = c->overrides,
                .n_overrides = n,
                .host_page_size = (uint64_t)sysconf(_SC_PAGESIZE),
        };
}

static void read_instance(struct json_object *object, unsigned index, Case *c) {
        Instance *instance = NULL;

        must(instance_new(get_string(object, "name"), index, &instance), "instance_new");
        instance->state = strcmp(get_string(object, "state"), "ready") == 0 ? INSTANCE_STATE_READY
                                                                            : INSTANCE_STATE_PARTIAL;
        instance->guest = GUEST_SUPPORT_YES;
        instance->pmu_type = (uint32_t)get_size(object, "pmuType");
        instance->cpus = get_cpus(object, "cpus");
        instance->effective = get_cpus(object, "onlineCpus");
        instance->max_buffer_size = get_size(object, "maxBufferSize");
        must(instance_table_add(&c->model.instances, instance), "instance_table_add");
}

static void read_assignment(struct json_object *object, Case *c) {
        CpuSet cpus = get_cpus(object, "cpus");
        AssignmentOrigin origin = assignment_origin_from_string(get_string(object, "origin"));
        AssignmentOwner owner = assignment_owner_from_string(get_string(object, "owner"));

        must(assignment_table_set(&c->model.assignments, &cpus, owner, get_string(object, "vm"), origin,
                                  UINT64_MAX),
             "assignment_table_set");
}

static void read_lease(struct json_object *object, Case *c) {
        Instance *instance = instance_table_find(&c->model.instances, get_string(object, "instance"));
        CpuSet cpus = get_cpus(object, "cpus");

        if (!instance || c->n_charges == CHARGES_MAX)
                errx(1, "no place for a lease");
        must(ledger_charge(&c->model.ledger, (uid_t)get_size(get(object, "owner"), "uid"),
                           get_string(object, "vm"), instance, get_size(object, "charge"),
                           &c->charges[c->n_charges++]),
             "ledger_charge");
        occupancy_add(&c->model.occupancy, get_mode(object), &cpus);
}

static void read_session(struct json_object *object, Case *c) {
        CpuSet cpus = get_cpus(object, "cpus");
        SessionOccupancy *sums = &c->model.sessions;
        bool cpu_wide = strcmp(get_string(object, "kind"), session_kind_to_string(SESSION_KIND_CPU)) == 0;

        cpuset_or(cpu_wide ? &sums->cpu_wide : &sums->task_bound, &cpus);
}

static void read_claim(struct json_object *object, Case *c) {
        CpuSet cpus = get_cpus(object, "cpus");

        claims_add(&c->ahead, get_mode(object), &cpus);
}

typedef void (*ReadFn)(struct json_object *object, Case *c);

static void read_all(struct json_object *object, const char *key, ReadFn read, Case *c) {
        struct json_object *array = get(object, key);

        for (size_t i = 0; i < json_object_array_length(array); i++)
                read(json_object_array_get_idx(array, i), c);
}

static void read_case(struct json_object *object, Case *c) {
        struct json_object *instances = get(object, "instances");

        memset(c, 0, sizeof(*c));
        c->model.assignments.default_owner = assignment_owner_from_string(get_string(object, "defaultOwner"));
        c->model.unprotected_reason = get_string(object, "unprotected");
        read_limits(object, c);
        for (unsigned i = 0; i < json_object_array_length(instances); i++)
                read_instance(json_object_array_get_idx(instances, i), i, c);
        read_all(object, "assignments", read_assignment, c);
        read_all(object, "leases", read_lease, c);
        read_all(object, "sessions", read_session, c);
        read_all(object, "claims", read_claim, c);
        c->model.sessions.unholdable = get_cpus(object, "unholdable");
}

static void case_deinit(Case *c) {
        while (c->n_charges > 0)
                ledger_refund(&c->charges[--c->n_charges]);
        ledger_deinit(&c->model.ledger);
        assignment_table_deinit(&c->model.assignments);
        instance_table_deinit(&c->model.instances);
}

static PolicyRequest read_request(struct json_object *object) {
        PolicyRequest request = {
                .uid = (uid_t)get_size(object, "uid"),
                .administrator = json_object_get_boolean(get(object, "administrator")),
                .vm = get_string(object, "vm"),
                .vm_origin = get_vm_origin(object),
                .vcpus = (unsigned)get_size(object, "vcpus"),
                .has_cpus = get(object, "cpus") != NULL,
                .instance = get_string(object, "instance"),
                .buffer_size = get_size(object, "size"),
                .exact = json_object_get_boolean(get(object, "exact")),
                .mode = get_mode(object),
                .own_sessions = get_cpus(object, "ownSessions"),
        };

        if (request.has_cpus)
                request.cpus = get_cpus(object, "cpus");
        return request;
}

/* ---- what is said ---- */

static void say_cpus(const char *key, const CpuSet *set) {
        char text[CPUSET_TEXT_MAX];

        cpuset_format(set, text, sizeof(text));
        printf(", \"%s\": \"%s\"", key, text);
}

static void say_offer(const char *key, const Offer *offer) {
        printf(", \"%s\": {\"instance\": \"%s\"", key, offer->instance->name);
        say_cpus("cpus", &offer->cpus);
        printf(", \"bufferSize\": %ju, \"charge\": %ju, \"mode\": \"%s\", \"limitedBy\": ",
               (uintmax_t)offer->buffer_size, (uintmax_t)offer->charge, lease_mode_to_string(offer->mode));
        printf(offer->limited_by ? "\"%s\"}" : "null}", offer->limited_by);
}

static void say(const Decision *d) {
        printf("{\"granted\": %s, \"refusals\": [", d->granted ? "true" : "false");
        for (size_t i = 0; i < d->n_refusals; i++) {
                const RefusalFacts *facts = &d->refusals[i];

                printf("%s{\"error\": \"%s\"", i > 0 ? ", " : "", refusal_kind_to_string(facts->kind));
                if (facts->kind == REFUSAL_BUSY) {
                        say_cpus("cpus", &facts->cpus);
                        printf(", \"byClaim\": %s, \"bySession\": %s", facts->by_claim ? "true" : "false",
                               facts->by_session ? "true" : "false");
                }
                if (facts->reason)
                        printf(", \"reason\": \"%s\"", facts->reason);
                printf("}");
        }
        printf("]");
        if (d->has_offer)
                say_offer("offer", &d->offer);
        if (d->has_counter_offer)
                say_offer("counterOffer", &d->counter_offer);
        printf("}\n");
}

/* "held", if it is not null, are the CPUs of a lease on "instance" that moves. */
static void answer(struct json_object *object) {
        struct json_object *asked = get(object, "request");
        PolicyRequest request = read_request(asked);
        Decision decision;
        Case c;

        read_case(object, &c);
        if (get(object, "held")) {
                CpuSet held = get_cpus(object, "held");

                decide_move(&c.model, &request, instance_table_find(&c.model.instances, request.instance),
                            &held, &c.ahead, &decision);
        } else
                decide(&c.model, &request, &c.ahead, true, &decision);
        say(&decision);
        case_deinit(&c);
}

int main(void) {
        char *line = NULL;
        size_t size = 0;

        while (getline(&line, &size, stdin) > 0) {
                struct json_object *object = json_tokener_parse(line);

                if (!object)
                        errx(1, "not JSON");
                answer(object);
                json_object_put(object);
        }

        free(line);
        return fflush(stdout) == 0 ? 0 : 1;
}
