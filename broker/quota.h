/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How many of one thing there may be, of one user and in all. What was taken is held by a QuotaToken,
 * embedded in the thing; refunding the token is the only way back, is idempotent, and a zeroed token is a
 * legal, empty one. A user is known while something is taken.
 */

#include <sys/types.h>

/* What LimitExceeded calls the limits that no key sets. */
#define LIMIT_WAITING           "Waiting"
#define LIMIT_WAITING_PER_USER  "WaitingPerUser"
#define LIMIT_WATCHERS          "Watchers"
#define LIMIT_WATCHERS_PER_USER "WatchersPerUser"

enum {
        _QUOTA_E_SUCCESS,
        QUOTA_E_USER, /* this user has all that one may have */
        QUOTA_E_ALL,  /* there are no more */
};

typedef struct Quota {
        unsigned user_max;
        unsigned max;
        unsigned n;
        void *users; /* a tsearch() tree, private to quota.c */
} Quota;

typedef struct QuotaToken {
        Quota *quota; /* NULL: nothing is taken */
        struct QuotaUser *user;
} QuotaToken;

#define QUOTA_INIT(of_user, in_all) ((Quota){.user_max = (of_user), .max = (in_all)})
#define QUOTA_TOKEN_NULL            ((QuotaToken){0})

void quota_deinit(Quota *quota); /* asserts that all has been refunded */
/* QUOTA_E_USER, QUOTA_E_ALL or -ENOMEM, with nothing taken. */
int quota_take(Quota *quota, uid_t uid, QuotaToken *ret_token);
void quota_refund(QuotaToken *token);
