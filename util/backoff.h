/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How long to wait before something that failed is tried again: not at all the first time, then twice as long
 * from time to time, up to a bound. The half of each delay is random, so that those who failed together do
 * not come back together.
 */

#include <stdbool.h>
#include <stdint.h>

/* A restarting broker is back within some hundred milliseconds. */
#define BACKOFF_FIRST_USEC UINT64_C(10000)

typedef struct Backoff {
        uint64_t max_usec; /* no less than BACKOFF_FIRST_USEC */
        uint64_t usec;     /* of the delay before; 0: there was none */
        bool tried;
} Backoff;

#define BACKOFF_INIT(max) ((Backoff){.max_usec = (max)})

/* The delay before the next attempt. */
uint64_t backoff_next(Backoff *backoff);

/* It worked: the next failure is the first one. */
void backoff_reset(Backoff *backoff);
