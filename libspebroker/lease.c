/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A lease as the broker told it once. Everything is checked when it arrives, so that accessors cannot fail:
 * the VMM hands these numbers to the kernel, where a wrong one fails late or not at all.
 */

#include "libspebroker/lease.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "libspebroker/fields.h"
#include "util/cpuset.h"

struct spebroker_lease {
        unsigned n_ref;
        struct json_object *parameters; /* owns every string below */
        const char *change;
        struct json_object *lease;
        const char *id;
        const char *vm;
        const char *vm_origin;
        const char *instance;
        int64_t pmu_type;
        const char *cpus;
        CpuSet cpu_set; /* the same */
        int64_t vcpus;
        int64_t buffer_size;
        int64_t requested_buffer_size;
        const char *limited_by;
        int64_t charge;
        struct json_object *memlock;
        int64_t memlock_bytes;
        const char *memlock_state;
        int64_t interrupt;
        const char *mode;
        const char *state;
        const char *reason;
        bool contended;
        bool misplaced; /* false of a broker that does not look */
        bool restart_required;
        struct json_object *owner;
        int64_t owner_pid;
        const char *owner_cgroup;
        int64_t owner_uid;
        int64_t since_usec;
        int64_t remaining_usec;
};

static const Field parameter_fields[] = {
        FIELD("lease", FIELD_OBJECT, struct spebroker_lease, lease),
        FIELD_OR_NULL("change", FIELD_STRING, struct spebroker_lease, change),
};

static const Field lease_fields[] = {
        FIELD("leaseId", FIELD_STRING, struct spebroker_lease, id),
        FIELD("vm", FIELD_STRING, struct spebroker_lease, vm),
        FIELD("vmOrigin", FIELD_STRING, struct spebroker_lease, vm_origin),
        FIELD("instance", FIELD_STRING, struct spebroker_lease, instance),
        FIELD_RANGE_OR_NULL("pmuType", struct spebroker_lease, pmu_type, 0, INT_MAX),
        FIELD("cpus", FIELD_STRING, struct spebroker_lease, cpus),
        FIELD_RANGE("vcpus", struct spebroker_lease, vcpus, 1, INT_MAX),
        FIELD_RANGE("bufferSize", struct spebroker_lease, buffer_size, 0, INT64_MAX),
        FIELD_RANGE("requestedBufferSize", struct spebroker_lease, requested_buffer_size, 0, INT64_MAX),
        FIELD_OR_NULL("limitedBy", FIELD_STRING, struct spebroker_lease, limited_by),
        FIELD_RANGE("charge", struct spebroker_lease, charge, 0, INT64_MAX),
        FIELD("memlock", FIELD_OBJECT, struct spebroker_lease, memlock),
        FIELD_RANGE("interrupt", struct spebroker_lease, interrupt, 0, INT_MAX),
        FIELD("mode", FIELD_STRING, struct spebroker_lease, mode),
        FIELD("state", FIELD_STRING, struct spebroker_lease, state),
        FIELD_OR_NULL("reason", FIELD_STRING, struct spebroker_lease, reason),
        FIELD("contended", FIELD_BOOL, struct spebroker_lease, contended),
        FIELD_OR_NULL("misplaced", FIELD_BOOL, struct spebroker_lease, misplaced),
        FIELD("restartRequired", FIELD_BOOL, struct spebroker_lease, restart_required),
        FIELD("owner", FIELD_OBJECT, struct spebroker_lease, owner),
        FIELD_RANGE("sinceUSec", struct spebroker_lease, since_usec, 0, INT64_MAX),
        FIELD_RANGE_OR_NULL("remainingUSec", struct spebroker_lease, remaining_usec, 0, INT64_MAX),
};

static const Field memlock_fields[] = {
        FIELD_RANGE("bytes", struct spebroker_lease, memlock_bytes, 0, INT64_MAX),
        FIELD("state", FIELD_STRING, struct spebroker_lease, memlock_state),
};

static const Field owner_fields[] = {
        FIELD_RANGE_OR_NULL("pid", struct spebroker_lease, owner_pid, 0, INT_MAX),
        FIELD_OR_NULL("cgroup", FIELD_STRING, struct spebroker_lease, owner_cgroup),
        FIELD_RANGE("uid", struct spebroker_lease, owner_uid, 0, UINT32_MAX),
};

bool lease_is(const struct spebroker_lease *lease, const char *state) {
        return strcmp(lease->state, state) == 0;
}

static int lease_read(struct spebroker_lease *lease) {
        int r;

        r = fields_read(lease->parameters, parameter_fields, ELEMENTS_OF(parameter_fields), lease);
        if (r < 0)
                return r;
        r = fields_read(lease->lease, lease_fields, ELEMENTS_OF(lease_fields), lease);
        if (r < 0)
                return r;
        r = fields_read(lease->memlock, memlock_fields, ELEMENTS_OF(memlock_fields), lease);
        if (r < 0)
                return r;
        r = fields_read(lease->owner, owner_fields, ELEMENTS_OF(owner_fields), lease);
        if (r < 0)
                return r;

        if (cpuset_parse(lease->cpus, strlen(lease->cpus), &lease->cpu_set) != 0)
                return -EPROTO;

        /* To KVM, 0 would mean 'no limit'. */
        if (lease->buffer_size == 0 && !lease_is(lease, "queued"))
                return -EPROTO;

        return 0;
}

int lease_new(struct json_object *parameters, struct spebroker_lease **ret_lease) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        int r;

        lease = calloc(1, sizeof(*lease));
        if (!lease)
                return -ENOMEM;
        lease->n_ref = 1;
        lease->parameters = json_object_get(parameters);

        r = lease_read(lease);
        if (r < 0)
                return r;

        *ret_lease = steal_ptr(lease);
        return 0;
}

int lease_new_listed(struct json_object *lease, struct spebroker_lease **ret_lease) {
        struct json_object *parameters;
        int r;

        parameters = json_object_new_object();
        if (!parameters || json_object_object_add(parameters, "lease", lease) < 0) {
                json_object_put(parameters);
                return -ENOMEM;
        }
        json_object_get(lease); /* adding takes one */

        r = lease_new(parameters, ret_lease);
        json_object_put(parameters);
        return r;
}

int lease_new_changed(const struct spebroker_lease *lease, const char *change,
                      struct spebroker_lease **ret_lease) {
        struct spebroker_lease *copy;

        copy = malloc(sizeof(*copy));
        if (!copy)
                return -ENOMEM;

        *copy = *lease;
        copy->n_ref = 1;
        copy->parameters = json_object_get(lease->parameters);
        copy->change = change;

        *ret_lease = copy;
        return 0;
}

int lease_new_ended(const struct spebroker_lease *lease, const char *reason,
                    struct spebroker_lease **ret_lease) {
        struct spebroker_lease *ended;
        int r;

        r = lease_new_changed(lease, "ended", &ended);
        if (r < 0)
                return r;

        ended->state = "ended";
        ended->reason = reason;
        ended->remaining_usec = -1;

        *ret_lease = ended;
        return 0;
}

struct spebroker_lease *spebroker_lease_ref(struct spebroker_lease *lease) {
        if (lease)
                lease->n_ref++;
        return lease;
}

struct spebroker_lease *spebroker_lease_unref(struct spebroker_lease *lease) {
        if (!lease || --lease->n_ref > 0)
                return NULL;

        json_object_put(lease->parameters);
        free(lease);
        return NULL;
}

const char *spebroker_lease_get_id(const struct spebroker_lease *lease) {
        return lease->id;
}

const char *spebroker_lease_get_change(const struct spebroker_lease *lease) {
        return lease->change;
}

const char *spebroker_lease_get_state(const struct spebroker_lease *lease) {
        return lease->state;
}

const char *spebroker_lease_get_reason(const struct spebroker_lease *lease) {
        return lease->reason;
}

const char *spebroker_lease_get_vm(const struct spebroker_lease *lease) {
        return lease->vm;
}

const char *spebroker_lease_get_vm_origin(const struct spebroker_lease *lease) {
        return lease->vm_origin;
}

const char *spebroker_lease_get_instance(const struct spebroker_lease *lease) {
        return lease->instance;
}

int spebroker_lease_get_pmu_type(const struct spebroker_lease *lease) {
        return (int)lease->pmu_type;
}

const char *spebroker_lease_get_cpus(const struct spebroker_lease *lease) {
        return lease->cpus;
}

int spebroker_lease_get_cpu_set(const struct spebroker_lease *lease, size_t size, cpu_set_t *set) {
        /* CPU_SET_S() writes a whole word, also one of which @size has but the first bytes. */
        if (size % sizeof(unsigned long) != 0)
                return -EINVAL;

        CPUSET_FOREACH(cpu, &lease->cpu_set)
                if (cpu / CHAR_BIT >= size)
                        return -ERANGE;

        CPU_ZERO_S(size, set);
        CPUSET_FOREACH(cpu, &lease->cpu_set)
                CPU_SET_S(cpu, size, set);

        return 0;
}

unsigned int spebroker_lease_get_vcpus(const struct spebroker_lease *lease) {
        return (unsigned int)lease->vcpus;
}

uint64_t spebroker_lease_get_buffer_size(const struct spebroker_lease *lease) {
        return (uint64_t)lease->buffer_size;
}

uint64_t spebroker_lease_get_requested_buffer_size(const struct spebroker_lease *lease) {
        return (uint64_t)lease->requested_buffer_size;
}

const char *spebroker_lease_get_limited_by(const struct spebroker_lease *lease) {
        return lease->limited_by;
}

uint64_t spebroker_lease_get_charge(const struct spebroker_lease *lease) {
        return (uint64_t)lease->charge;
}

uint64_t spebroker_lease_get_memlock_bytes(const struct spebroker_lease *lease) {
        return (uint64_t)lease->memlock_bytes;
}

const char *spebroker_lease_get_memlock_state(const struct spebroker_lease *lease) {
        return lease->memlock_state;
}

int spebroker_lease_get_interrupt(const struct spebroker_lease *lease) {
        return (int)lease->interrupt;
}

const char *spebroker_lease_get_mode(const struct spebroker_lease *lease) {
        return lease->mode;
}

bool spebroker_lease_is_contended(const struct spebroker_lease *lease) {
        return lease->contended;
}

bool spebroker_lease_is_misplaced(const struct spebroker_lease *lease) {
        return lease->misplaced;
}

bool spebroker_lease_is_restart_required(const struct spebroker_lease *lease) {
        return lease->restart_required;
}

pid_t spebroker_lease_get_owner_pid(const struct spebroker_lease *lease) {
        return (pid_t)lease->owner_pid;
}

const char *spebroker_lease_get_owner_cgroup(const struct spebroker_lease *lease) {
        return lease->owner_cgroup;
}

int64_t spebroker_lease_get_owner_uid(const struct spebroker_lease *lease) {
        return lease->owner_uid;
}

int64_t spebroker_lease_get_since_usec(const struct spebroker_lease *lease) {
        return lease->since_usec;
}

int64_t spebroker_lease_get_remaining_usec(const struct spebroker_lease *lease) {
        return lease->remaining_usec;
}
