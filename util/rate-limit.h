/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * So many of something per interval, and a count of what was left out, to be told with the next that is not.
 */

#include <stdbool.h>
#include <stdint.h>

typedef struct RateLimit {
        uint64_t begin_usec; /* of the interval */
        unsigned n;          /* in it */
        unsigned left_out;   /* since the last that was allowed */
} RateLimit;

/* True if one more is allowed at @now_usec; else it is counted as left out. */
static inline bool rate_limit_allows(RateLimit *limit, uint64_t now_usec, unsigned max,
                                     uint64_t interval_usec) {
        if (now_usec - limit->begin_usec >= interval_usec) {
                limit->begin_usec = now_usec;
                limit->n = 0;
        }

        if (limit->n >= max) {
                limit->left_out++;
                return false;
        }

        limit->n++;
        return true;
}

/* How many were left out since this was asked last. */
static inline unsigned rate_limit_take_left_out(RateLimit *limit) {
        unsigned n = limit->left_out;

        limit->left_out = 0;
        return n;
}
