/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The sum of a state file (broker/record-sum.h), as another hand would make it. */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

#define SEAL_SIZE 17

static inline void seal(const char *text, char ret_digits[static SEAL_SIZE]) {
        uint64_t sum = 14695981039346656037U;

        for (const char *p = text; *p; p++)
                sum = (sum ^ (unsigned char)*p) * 1099511628211U;
        (void)snprintf(ret_digits, SEAL_SIZE, "%016" PRIx64, sum);
}
