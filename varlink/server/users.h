/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How many connections each user has: a sorted array, since there are few users and many connections. */

#include <stddef.h>
#include <sys/types.h>

typedef struct UserCount {
        uid_t uid;
        unsigned n;
} UserCount;

typedef struct UserCounts {
        UserCount *items; /* sorted by uid; none of them zero */
        size_t n_items;
        size_t size;
} UserCounts;

void user_counts_deinit(UserCounts *counts);
unsigned user_counts_get(const UserCounts *counts, uid_t uid);
/* 0 or -ENOMEM. */
int user_counts_add(UserCounts *counts, uid_t uid);
/* Takes back one that was added. */
void user_counts_remove(UserCounts *counts, uid_t uid);
