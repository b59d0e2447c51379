/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What each user has: connections, bytes that are buffered for them, and a place among those who wait to be
 * served. A user is here while it has a connection; a sorted array, since there are few users and many
 * connections.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

typedef enum UserPlace {
        USER_IDLE,  /* in no queue */
        USER_FRESH, /* it had nothing to do until now */
        USER_ROUND, /* it takes its turns with the others */
        USER_RESTS, /* its last turn was long: it gets the next one after a while */
} UserPlace;

typedef struct User {
        uid_t uid;
        unsigned n;   /* connections */
        size_t bytes; /* of storage, on all of them */
        UserPlace place;
        TAILQ_ENTRY(User) place_link;
        uint64_t took_usec;                             /* by its turns since a reply in parts was begun */
        uint64_t rests_until_usec;                      /* CLOCK_MONOTONIC */
        TAILQ_HEAD(ReadyConnections, Connection) ready; /* have something to do */
        unsigned n_ready;
} User;

typedef TAILQ_HEAD(UserQueue, User) UserQueue;

typedef struct Users {
        User **items; /* sorted by uid */
        size_t n_items;
        size_t size;
        size_t bytes; /* of all */
} Users;

/* All of them must be gone. */
void users_deinit(Users *users);
/* How many connections @uid has. */
unsigned users_count(const Users *users, uid_t uid);
/* One connection more. 0 or -ENOMEM. */
int users_ref(Users *users, uid_t uid, User **ret_user);
/* One less; with the last one @user is freed, which must be in no queue then. */
void users_unref(Users *users, User *user);
/* Replaces @before bytes, charged earlier, by @after. */
void users_charge(Users *users, User *user, size_t before, size_t after);
