/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A lease follows its CPUs, since they alone say which SPU it is on (policy/placement.h). What it holds does
 * not shrink when CPUs go off line, nor while its SPU is gone: both are usually back soon, and nobody else
 * can be granted them meanwhile. What it is told are the CPUs that it can use, and never none: where there is
 * none, those that it holds, with the reason.
 */

#include "broker/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/end.h"
#include "broker/grant.h"
#include "broker/manager.h"
#include "host/locked-memory.h"
#include "policy/charge.h"
#include "policy/placement.h"

/* Memory was missing: KVM has charged for its buffers, or has tried to. */
static bool has_grown(const Manager *manager, const Lease *lease) {
        return lease->charge.bytes > charge_lease(lease->request.policy.vcpus, lease->buffer_size,
                                                  manager->model.limits.host_page_size);
}

/*
 * KVM takes the SPU of a VM once, so it matters whether a VCPU of the lease has had SPE enabled. Nothing says
 * so, but enabling it charges bufferSize bytes per VCPU to the VMM's locked memory, and KVM never gives them
 * back before the VM is destroyed (Alexandru Elisei, KVM: arm64: Add Statistical Profiling Extension support,
 * RFC v6 33/35, 14 Nov 2025). So a process that has locked less than one buffer has not enabled it, whatever
 * else it locks, unless it said that KVM wanted more; of any other, and of one that cannot be asked, it must
 * be assumed.
 */
static bool has_locked(const Owner *process, uint64_t size) {
        uint64_t locked;

        return locked_memory_read(process, &locked) != 0 || locked >= size;
}

/* Of a control group, one of the processes that are in it now; one that ends meanwhile is none. */
static bool may_have_enabled(const Cgroup *cgroup, uint64_t size) {
        _cleanup_(freep) pid_t *pids = NULL;
        bool may = false;
        size_t n;

        if (cgroup_list(cgroup, &pids, &n) != 0)
                return true;

        for (size_t i = 0; i < n && !may; i++) {
                _cleanup_(owner_freep) Owner *process = NULL;
                int r = owner_new(pids[i], &process);

                may = r < 0 || (r == 0 && has_locked(process, size));
        }
        return may;
}

static bool may_be_enabled(const Manager *manager, const Lease *lease) {
        const Owner *owner = lease->owner->owner;

        if (has_grown(manager, lease))
                return true;
        return owner->cgroup ? may_have_enabled(owner->cgroup, lease->buffer_size)
                             : has_locked(owner, lease->buffer_size);
}

/* From now on the lease is on @instance, whatever that is called. */
static void follow(Manager *manager, Lease *lease, Instance *instance) {
        Instance *left = lease->instance;

        if (left == instance)
                return;

        ledger_move(&lease->charge, instance);
        lease->instance = instance;
        memcpy(lease->instance_name, instance->name, sizeof(lease->instance_name));
        if (left->state != INSTANCE_STATE_READY)
                manager_mark_dirty(manager, DIRTY_INSTANCES);
}

static void take_over(Manager *manager, Lease *lease, const Placement *placement) {
        lease->restart_required = false;
        lease->pmu_type = placement->instance->pmu_type;
        if (!cpuset_equal(&lease->cpus, &placement->cpus))
                lease_hold(manager, lease, &placement->cpus);
}

void lease_place(Manager *manager, Lease *lease) {
        Instance *left = lease->instance;
        Placement placement;
        bool decided;

        placement_find(&manager->model.instances, left, lease->pmu_type, &lease->cpus, &placement);
        if (!placement.instance)
                return;

        /* Once for each SPU that comes: a VM does not come to need less of a restart by waiting. */
        decided = lease->restart_required && placement.instance == left &&
                  lease->now_pmu_type == left->pmu_type;
        follow(manager, lease, placement.instance);
        lease->now_pmu_type = placement.instance->pmu_type;

        if (lease->state == LEASE_STATE_REVOKED)
                lease->restart_required = lease->restart_required || !placement.same;
        else if (placement.same)
                lease->restart_required = false;
        else if (!decided && !may_be_enabled(manager, lease))
                take_over(manager, lease, &placement);
        else
                lease->restart_required = true;
}

/* Of a lease that is away: true if its SPU is there, and only its CPUs are off line. */
static bool is_off_line(const Lease *lease) {
        return lease->instance->state == INSTANCE_STATE_READY && !lease_is_displaced(lease);
}

static int restart_reason(const Lease *lease, char **ret_reason) {
        static const char advice[] = "which KVM does not give to a VM that has had the old one: restart the "
                                     "VM, or release the lease and acquire anew";

        if (lease->now_pmu_type != lease->pmu_type)
                return asprintf(ret_reason, "its SPU has come back as another one (PMU type %u, was %u), %s",
                                lease->now_pmu_type, lease->pmu_type, advice);

        return asprintf(ret_reason, "its SPU has come back with other CPUs, %s", advice);
}

static int missing_reason(const CpuSet *missing, char **ret_reason) {
        char text[CPUSET_TEXT_MAX];

        cpuset_format(missing, text, sizeof(text));
        return asprintf(ret_reason, "of its CPUs, %s %s off line", text,
                        cpuset_count(missing) == 1 ? "is" : "are");
}

/* What is to be said of a granted lease; NULL: nothing, or no memory to say it. */
static char *make_reason(const Lease *lease) {
        CpuSet missing = lease->cpus;
        char *reason;

        if (lease->away)
                return strdup(is_off_line(lease)
                                      ? "all its CPUs are off line: it is revoked unless one is back in time"
                                      : "its SPU is gone: the lease is revoked unless it is back in time");
        if (lease->restart_required)
                return restart_reason(lease, &reason) < 0 ? NULL : reason;

        cpuset_subtract(&missing, &lease->usable);
        if (cpuset_is_empty(&missing))
                return NULL;
        return missing_reason(&missing, &reason) < 0 ? NULL : reason;
}

void lease_look(Manager *manager, Lease *lease) {
        uint64_t now = manager_now_monotonic(manager);

        lease->usable = CPUSET_NULL;
        if (lease->instance->state == INSTANCE_STATE_READY) {
                lease->usable = lease->cpus;
                cpuset_and(&lease->usable, &lease->instance->effective);
        }

        lease->away = cpuset_is_empty(&lease->usable);
        if (lease->away || lease->state == LEASE_STATE_REVOKED)
                lease->usable = lease->cpus;

        if (!lease->away) {
                lease_unlink_away(lease);
        } else if (lease_is_holding(lease) && !lease->away_linked) {
                lease_link_away(lease, now + manager->config->gone_grace_usec);
                manager_mark_dirty(manager, DIRTY_DEADLINES);
        }

        if (lease->state == LEASE_STATE_GRANTED) {
                _cleanup_(freep) char *reason = make_reason(lease);

                lease_set_reason(lease, reason);
        }
}

void lease_away_over(Manager *manager, Lease *lease) {
        lease->restart_required = true;
        lease_set_reason(lease, is_off_line(lease)
                                        ? "its CPUs have been off line for longer than GoneGraceSec"
                                        : "its SPU has been gone for longer than GoneGraceSec");
        lease_revoked(manager, lease);
}

bool lease_is_displaced(const Lease *lease) {
        return lease->instance->state == INSTANCE_STATE_READY &&
               !cpuset_intersects(&lease->cpus, &lease->instance->cpus);
}
