/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * RLIMIT_MEMLOCK of another process: how much memory it may lock, and how much the kernel may pin for it. Who
 * may change it: a process of the same user, as far as the hard limit; anybody with CAP_SYS_RESOURCE.
 */

#include <stdbool.h>
#include <stdint.h>

#include "host/owner.h"

enum {
        _MEMLOCK_E_SUCCESS,
        MEMLOCK_E_NO_PROCESS,    /* it is gone */
        MEMLOCK_E_NOT_PERMITTED, /* CAP_SYS_RESOURCE is missing, or something else forbids it */
        MEMLOCK_E_CHANGED,       /* the limit is another than was expected, and stays it */
};

#define MEMLOCK_UNLIMITED UINT64_MAX

typedef struct MemlockLimit {
        uint64_t soft; /* bytes, or MEMLOCK_UNLIMITED */
        uint64_t hard;
} MemlockLimit;

bool memlock_limit_equal(const MemlockLimit *a, const MemlockLimit *b);

/* Everybody may read it, where /proc shows the process. */
int memlock_limit_read(const Owner *owner, MemlockLimit *ret_limit);
/*
 * Sets @limit where the limit is @expected (NULL: whatever it is). Limits are set by pid; the pidfd says
 * whether that was the owner all along, and what another process, or somebody else, would have lost is given
 * back.
 */
int memlock_limit_replace(const Owner *owner, const MemlockLimit *expected, const MemlockLimit *limit);

/* True if the running process has CAP_SYS_RESOURCE. */
bool memlock_limit_is_able(void);
