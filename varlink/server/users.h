/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What each user has: connections, and bytes that are buffered for them. A sorted array, since there are few
 * users and many connections.
 */

#include <stddef.h>
#include <sys/types.h>

typedef struct UserCount {
        uid_t uid;
        unsigned n;
        size_t bytes;
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
/* Replaces @before bytes, charged earlier, by @after; returns the user's sum. The user has a connection. */
size_t user_counts_charge(UserCounts *counts, uid_t uid, size_t before, size_t after);
