/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Counts of leases per CPU and mode, with a set per mode of the CPUs whose count is not 0, so that the usual
 * question, "who is on these CPUs", is a few operations on sets.
 */

#include "policy/occupancy.h"

#include <assert.h>
#include <stddef.h>

void occupancy_add(Occupancy *occupancy, LeaseMode mode, const CpuSet *cpus) {
        CPUSET_FOREACH(cpu, cpus)
                occupancy->n[mode][cpu]++;

        cpuset_or(&occupancy->held[mode], cpus);
}

void occupancy_remove(Occupancy *occupancy, LeaseMode mode, const CpuSet *cpus) {
        CPUSET_FOREACH(cpu, cpus) {
                assert(occupancy->n[mode][cpu] > 0);
                if (--occupancy->n[mode][cpu] == 0)
                        cpuset_remove(&occupancy->held[mode], cpu);
        }
}

/* The CPUs held in @mode by others than the lease that holds @self_cpus (NULL: none) in @self_mode. */
static void held_by_others(const Occupancy *occupancy, LeaseMode mode, const CpuSet *self_cpus,
                           LeaseMode self_mode, CpuSet *ret_cpus) {
        *ret_cpus = occupancy->held[mode];
        if (!self_cpus || mode != self_mode)
                return;

        CPUSET_FOREACH(cpu, self_cpus)
                if (occupancy->n[mode][cpu] == 1)
                        cpuset_remove(ret_cpus, cpu);
}

void occupancy_conflicts(const Occupancy *occupancy, LeaseMode mode, const CpuSet *self_cpus,
                         LeaseMode self_mode, CpuSet *ret_cpus) {
        CpuSet held;

        held_by_others(occupancy, LEASE_MODE_EXCLUSIVE, self_cpus, self_mode, ret_cpus);
        if (mode != LEASE_MODE_EXCLUSIVE)
                return;

        held_by_others(occupancy, LEASE_MODE_GUEST, self_cpus, self_mode, &held);
        cpuset_or(ret_cpus, &held);
        held_by_others(occupancy, LEASE_MODE_SHARED, self_cpus, self_mode, &held);
        cpuset_or(ret_cpus, &held);
}
