/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The limits of the configuration, as numbers, with what a [VM NAME] or [User NAME] section overrides. A VM
 * section applies only to names that cannot be forged (any origin but caller), and beats the user's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/words.h"

/* What one section says; 0: nothing. */
typedef struct LimitOverride {
        char *vm;  /* the VM's name, or NULL for a user's section */
        uid_t uid; /* the user, if vm is NULL */
        uint64_t max_buffer_size;
        uint64_t max_memory;
} LimitOverride;

typedef struct Limits {
        uint64_t default_buffer_size;
        uint64_t max_buffer_size;
        uint64_t max_memory_per_vm;
        uint64_t max_memory_per_user;
        uint64_t max_memory;
        unsigned max_leases;
        unsigned max_leases_per_user;
        LimitOverride *overrides; /* owned by whoever fills this */
        size_t n_overrides;
        uint64_t host_page_size;
} Limits;

/* The three that overrides can change, for one VM of one user. */
typedef struct LimitsView {
        uint64_t max_buffer_size;
        uint64_t max_memory_per_vm;
        uint64_t max_memory_per_user;
} LimitsView;

void limits_view(const Limits *limits, uid_t uid, const char *vm, VmOrigin vm_origin, LimitsView *ret_view);
