/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Turns that take no time, for tests of who comes after whom: on a slow machine every turn is a long one, and
 * who rests after it is not next. Linked with --wrap=clock_gettime.
 */

#include <stdbool.h>
#include <time.h>

static bool turns_are_quick;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time) {
        if (!turns_are_quick || (clock != CLOCK_THREAD_CPUTIME_ID && clock != CLOCK_PROCESS_CPUTIME_ID))
                return __real_clock_gettime(clock, ret_time);

        *ret_time = (struct timespec){0};
        return 0;
}
