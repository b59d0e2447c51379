/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Deadlines: points in time of CLOCK_MONOTONIC in microseconds, where UINT64_MAX is never. For those who have
 * no event loop that knows the time.
 */

#include <stdint.h>
#include <time.h>

#define NSEC_PER_USEC UINT64_C(1000)
#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC  (1000 * USEC_PER_MSEC)
#define USEC_PER_MIN  (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MIN)
#define USEC_PER_DAY  (24 * USEC_PER_HOUR)

static inline uint64_t clock_read_usec(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
}

static inline uint64_t clock_now_usec(void) {
        return clock_read_usec(CLOCK_MONOTONIC);
}

/* How much of the CPU this thread has had: what something costs, however busy the machine is. */
static inline uint64_t clock_cpu_usec(void) {
        return clock_read_usec(CLOCK_THREAD_CPUTIME_ID);
}

/* The deadline @usec from now; never, where that is beyond all time. */
static inline uint64_t clock_deadline(uint64_t usec) {
        uint64_t deadline;

        return __builtin_add_overflow(clock_now_usec(), usec, &deadline) ? UINT64_MAX : deadline;
}

/* Microseconds until @deadline; 0 once it is over, UINT64_MAX for never. */
static inline uint64_t clock_left(uint64_t deadline) {
        uint64_t now;

        if (deadline == UINT64_MAX)
                return UINT64_MAX;

        now = clock_now_usec();
        return deadline > now ? deadline - now : 0;
}

static inline struct timespec clock_timespec(uint64_t usec) {
        return (struct timespec){
                .tv_sec = (time_t)(usec / USEC_PER_SEC),
                .tv_nsec = (long)(usec % USEC_PER_SEC * NSEC_PER_USEC),
        };
}
