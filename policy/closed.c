/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Closed is what a lease that may not share holds, what an earlier waiter is kept free for, and what the
 * operator has given to guests, or to nobody.
 */

#include "policy/closed.h"

#include "util/cleanup.h"

void closed_cpus_add(ClosedCpus *closed, LeaseMode mode, const CpuSet *cpus) {
        if (mode == LEASE_MODE_SHARED)
                return;

        cpuset_or(&closed->cpu_wide, cpus);
        if (mode == LEASE_MODE_EXCLUSIVE)
                cpuset_or(&closed->task_bound, cpus);
}

void closed_cpus(const Model *model, const Claims *claims, ClosedCpus *ret_closed) {
        static const AssignmentOwner without_host[] = {ASSIGNMENT_OWNER_GUEST, ASSIGNMENT_OWNER_NONE};

        *ret_closed = (ClosedCpus){0};
        for (size_t i = 0; i < ELEMENTS_OF(without_host); i++) {
                CpuSet cpus;

                assignment_table_owned_by(&model->assignments, without_host[i], &cpus);
                closed_cpus_add(ret_closed, LEASE_MODE_EXCLUSIVE, &cpus);
        }

        for (LeaseMode mode = 0; mode < _LEASE_MODE_MAX; mode++) {
                closed_cpus_add(ret_closed, mode, &model->occupancy.held[mode]);
                if (claims)
                        closed_cpus_add(ret_closed, mode, &claims->by_mode[mode]);
        }
}
