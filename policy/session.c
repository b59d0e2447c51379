/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One rule, said twice: for one session and one lease, to name who stands in the way, and for the sums of all
 * sessions, to decide without walking them. A test holds the two to each other.
 */

#include "policy/session.h"

void session_conflicts(SessionKind kind, const CpuSet *reach, bool of_owner, LeaseMode mode,
                       const CpuSet *cpus, const CpuSet *guest_cpus, CpuSet *ret_cpus) {
        *ret_cpus = CPUSET_NULL;
        if (mode == LEASE_MODE_SHARED)
                return;

        *ret_cpus = *reach;
        cpuset_and(ret_cpus, cpus);
        if (kind == SESSION_KIND_CPU || mode == LEASE_MODE_EXCLUSIVE || of_owner)
                return;

        cpuset_and(ret_cpus, guest_cpus);
}

bool session_occupancy_is_empty(const SessionOccupancy *sessions) {
        return cpuset_is_empty(&sessions->cpu_wide) && cpuset_is_empty(&sessions->task_bound) &&
               cpuset_is_empty(&sessions->unholdable);
}

void session_occupancy_conflicts(const SessionOccupancy *sessions, LeaseMode mode, const CpuSet *own,
                                 const CpuSet *guest_cpus, CpuSet *ret_cpus) {
        CpuSet task_bound = sessions->task_bound;

        *ret_cpus = CPUSET_NULL;
        if (mode == LEASE_MODE_SHARED)
                return;

        if (mode != LEASE_MODE_EXCLUSIVE) {
                cpuset_and(&task_bound, guest_cpus);
                cpuset_or(&task_bound, own);
        }
        *ret_cpus = sessions->cpu_wide;
        cpuset_or(ret_cpus, &task_bound);
        cpuset_or(ret_cpus, &sessions->unholdable);
}
