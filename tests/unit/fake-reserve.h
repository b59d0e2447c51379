/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Perf's exclusivity as a few sets in the test's process, in place of the real bpf/reserve.h.
 */

#include "bpf/reserve.h"

typedef struct FakeReserve {
        /* Set by a test. */
        CpuSet taken;  /* somebody has a CPU-wide event there; or a task-bound one that has all of them */
        CpuSet absent; /* perf does not have these CPUs */
        int error;     /* what every event fails with; 0: none does */
        bool keeps;    /* what is held stays so after reserve_free(), and is adopted */
        void (*released_fn)(unsigned cpu); /* called when it is held no longer */

        /* What the broker did. */
        CpuSet held;
        uint32_t pmu_type[CPUSET_MAX]; /* of which */
        unsigned n_opens;              /* calls of perf_event_open(), if they were */
} FakeReserve;

extern FakeReserve fake_reserve;
