/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one place that says which CPUs are closed to new host sessions. The kernel's side (bpf/arbiter.h,
 * bpf/reserve.h) only looks up what comes out of here.
 */

#include "policy/decide.h"
#include "util/cpuset.h"

typedef struct ClosedCpus {
        CpuSet cpu_wide;   /* to CPU-wide sessions: guest and exclusive leases, CPUs kept for guests, drained
                              ones */
        CpuSet task_bound; /* to task-bound ones: exclusive leases, CPUs kept for guests, drained ones */
} ClosedCpus;

/*
 * What is closed by the leases and assignments of @model, and for the waiters that are to be let in next
 * (@claims; NULL: none).
 */
void closed_cpus(const Model *model, const Claims *claims, ClosedCpus *ret_closed);
/* And for a lease of @mode on @cpus that is about to be granted. A shared one closes nothing. */
void closed_cpus_add(ClosedCpus *closed, LeaseMode mode, const CpuSet *cpus);
