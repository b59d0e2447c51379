/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The interface's objects as JSON. Member order is the interface description's; what the broker cannot do yet
 * is said as such (level none), never left to be guessed.
 */

#include "broker/encode.h"

#include <string.h>

#include "broker/assign.h"
#include "broker/lease-memlock.h"
#include "broker/lease-reason.h"
#include "broker/manager.h"
#include "util/spe-interrupt.h"

void encode_int_or_null(JsonWriter *w, const char *key, bool there, uint64_t value) {
        if (there)
                json_write_int(w, key, (int64_t)value);
        else
                json_write_null(w, key);
}

static void encode_owner(JsonWriter *w, const Owner *owner) {
        json_write_object_begin(w, "owner");
        encode_int_or_null(w, "pid", !owner->cgroup, (uint64_t)owner->pid);
        json_write_string(w, "cgroup", owner->cgroup ? owner->cgroup->path : NULL);
        json_write_int(w, "uid", owner->uid);
        json_write_string(w, "command", *owner->command ? owner->command : NULL);
        json_write_string(w, "unit", owner->unit);
        json_write_object_end(w);
}

static void encode_memlock(JsonWriter *w, const Lease *lease) {
        json_write_object_begin(w, "memlock");
        json_write_int(w, "bytes", (int64_t)lease->charge.bytes);
        json_write_string(w, "state", memlock_state_to_string(lease_memlock_get_state(lease)));
        json_write_object_end(w);
}

/* Time is left while it waits, while it is being revoked or killed, and while it is away. */
static void encode_remaining(JsonWriter *w, const Lease *lease) {
        uint64_t now = manager_now_monotonic(lease->owner->manager), deadline = lease_get_deadline(lease);

        encode_int_or_null(w, "remainingUSec", deadline != UINT64_MAX, deadline > now ? deadline - now : 0);
}

void encode_lease(JsonWriter *w, const char *key, const Lease *lease) {
        _cleanup_(freep) char *explained = lease_explain(lease);
        bool there = lease->instance && !lease->away;

        json_write_object_begin(w, key);
        json_write_string(w, "leaseId", lease->id);
        json_write_string(w, "vm", lease->request.vm);
        json_write_string(w, "vmOrigin", vm_origin_to_string(lease->request.policy.vm_origin));
        json_write_string(w, "instance", lease->instance_name);
        encode_int_or_null(w, "pmuType", there, lease->now_pmu_type);
        json_write_cpuset(w, "cpus", &lease->usable);
        json_write_int(w, "vcpus", lease->request.policy.vcpus);
        json_write_int(w, "bufferSize", (int64_t)lease->buffer_size);
        json_write_int(w, "requestedBufferSize", (int64_t)lease->request.policy.buffer_size);
        json_write_string(w, "limitedBy", lease->limited_by);
        json_write_int(w, "charge", (int64_t)lease->charge.bytes);
        encode_memlock(w, lease);
        json_write_int(w, "interrupt", SPE_INTERRUPT);
        json_write_string(w, "mode", lease_mode_to_string(lease->request.policy.mode));
        json_write_string(w, "state", lease_state_to_string(lease->state));
        json_write_string(w, "reason", explained ?: lease->reason); /* without memory, in short */
        json_write_bool(w, "contended", lease->contended);
        json_write_bool(w, "misplaced", lease->misplacement != NULL);
        json_write_bool(w, "restartRequired", lease->restart_required);
        encode_owner(w, lease->owner->owner);
        json_write_int(w, "sinceUSec", (int64_t)lease->since_usec);
        encode_remaining(w, lease);
        json_write_object_end(w);
}

void encode_lease_reply(VarlinkCall *call, const Lease *lease, LeaseChange change, bool continues) {
        JsonWriter *w = varlink_call_reply(call, continues);

        encode_lease(w, "lease", lease);
        json_write_string(w, "change", lease_change_to_string(change));
        varlink_call_send(call);
}

void encode_assign_reply(VarlinkCall *call, const Manager *manager, const CpuSet *cpus, bool continues) {
        JsonWriter *w = varlink_call_reply(call, continues);
        const Lease *lease;

        json_write_array_begin(w, "affected");
        TAILQ_FOREACH(lease, &manager->leases.all, link)
                if (assign_bars(manager, lease, cpus))
                        encode_lease(w, NULL, lease);
        json_write_array_end(w);
        encode_draining(w, manager, cpus);
        varlink_call_send(call);
}

void encode_assign_first_reply(VarlinkCall *call, const Manager *manager, const CpuSet *cpus,
                               bool continues) {
        JsonWriter *w = varlink_call_reply(call, continues);
        const Lease *lease;

        json_write_array_begin(w, "affected");
        TAILQ_FOREACH(lease, &manager->leases.all, link)
                if (lease->affected_generation == manager->settle_generation ||
                    assign_bars(manager, lease, cpus))
                        encode_lease(w, NULL, lease);
        json_write_array_end(w);
        encode_draining(w, manager, cpus);
        varlink_call_send(call);
}

/* @cpus: where it decides. */
static void encode_assignment(JsonWriter *w, const Manager *manager, const Assignment *assignment,
                              const CpuSet *cpus) {
        uint64_t now = manager_now_realtime(manager);
        bool ends = assignment->until_usec != UINT64_MAX;

        json_write_object_begin(w, NULL);
        json_write_cpuset(w, "cpus", cpus);
        json_write_string(w, "owner", assignment_owner_to_string(assignment->owner));
        json_write_string(w, "vm", assignment->vm);
        json_write_string(w, "origin", assignment_origin_to_string(assignment->origin));
        json_write_string(w, "state", assign_is_draining(manager, cpus) ? "draining" : "active");
        encode_int_or_null(w, "remainingUSec", ends,
                           assignment->until_usec > now ? assignment->until_usec - now : 0);
        json_write_object_end(w);
}

/* The assignments that decide on some of @cpus: each with the CPUs that no higher origin speaks of. */
static void encode_assignments(JsonWriter *w, const Manager *manager, const CpuSet *cpus) {
        const AssignmentTable *table = &manager->model.assignments;
        CpuSet left = *cpus;

        json_write_array_begin(w, "assignments");
        for (size_t i = table->n; i > 0; i--) { /* from the highest origin down; disjoint within one */
                const Assignment *assignment = table->entries[i - 1];
                CpuSet decides = assignment->cpus;

                cpuset_and(&decides, &left);
                if (cpuset_is_empty(&decides))
                        continue;
                cpuset_subtract(&left, &decides);
                encode_assignment(w, manager, assignment, &decides);
        }
        json_write_array_end(w);
}

static void encode_capability(JsonWriter *w, const char *key, int64_t value) {
        encode_int_or_null(w, key, value >= 0, (uint64_t)value);
}

static void encode_capabilities(JsonWriter *w, const Spu *spu) {
        json_write_object_begin(w, "capabilities");
        encode_capability(w, "archInst", spu ? spu->capabilities.arch_inst : -1);
        encode_capability(w, "ernd", spu ? spu->capabilities.ernd : -1);
        encode_capability(w, "countSize", spu ? spu->capabilities.count_size : -1);
        encode_capability(w, "minInterval", spu ? spu->capabilities.min_interval : -1);
        json_write_array_begin(w, "formats");
        for (size_t i = 0; spu && i < spu->capabilities.n_formats; i++)
                json_write_string(w, NULL, spu->capabilities.formats[i]);
        json_write_array_end(w);
        json_write_object_end(w);
}

void encode_instance(JsonWriter *w, const char *key, const Manager *manager, const Instance *instance) {
        const Spu *spu = topology_find(manager->topology, instance->name);
        CpuSet leased = CPUSET_NULL, sessions = manager->model.sessions.cpu_wide;

        cpuset_or(&sessions, &manager->model.sessions.task_bound);
        cpuset_and(&sessions, &instance->cpus);
        if (manager->model.ledger.total.n_leases > 0) {
                for (LeaseMode mode = 0; mode < _LEASE_MODE_MAX; mode++)
                        cpuset_or(&leased, &manager->model.occupancy.held[mode]);
                cpuset_and(&leased, &instance->cpus);
        }

        json_write_object_begin(w, key);
        json_write_string(w, "name", instance->name);
        encode_int_or_null(w, "pmuType", instance->state == INSTANCE_STATE_READY, instance->pmu_type);
        json_write_string(w, "state", instance_state_to_string(instance->state));
        json_write_string(w, "guest", guest_support_to_string(instance->guest));
        json_write_string(w, "guestReason", instance->guest_reason);
        json_write_cpuset(w, "cpus", &instance->cpus);
        json_write_cpuset(w, "onlineCpus", &instance->effective);
        json_write_cpuset(w, "leasedCpus", &leased);
        json_write_cpuset(w, "sessionCpus", &sessions);
        encode_assignments(w, manager, &instance->cpus);
        encode_int_or_null(w, "maxBufferSize", instance->max_buffer_size > 0, instance->max_buffer_size);
        encode_capabilities(w, spu);
        json_write_string(w, "driver", driver_kind_to_string(manager->topology->driver));
        json_write_int(w, "charge", (int64_t)instance->charge);
        json_write_int(w, "leases", instance->n_leases);
        json_write_string(w, "problem", spu ? spu->problem : instance->problem);
        json_write_object_end(w);
}

void encode_instances(JsonWriter *w, const Manager *manager) {
        const InstanceTable *table = &manager->model.instances;

        json_write_array_begin(w, "instances");
        for (size_t i = 0; i < table->n; i++)
                encode_instance(w, NULL, manager, table->entries[i]);
        json_write_array_end(w);
}

void encode_offer(JsonWriter *w, const char *key, const Offer *offer) {
        json_write_object_begin(w, key);
        json_write_string(w, "instance", offer->instance->name);
        json_write_int(w, "pmuType", offer->instance->pmu_type);
        json_write_cpuset(w, "cpus", &offer->cpus);
        json_write_int(w, "bufferSize", (int64_t)offer->buffer_size);
        json_write_int(w, "charge", (int64_t)offer->charge);
        json_write_string(w, "mode", lease_mode_to_string(offer->mode));
        json_write_string(w, "limitedBy", offer->limited_by);
        json_write_object_end(w);
}
