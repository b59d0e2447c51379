/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Counts of users. An entry is in the tree exactly while its count is not zero, so the tree is no larger than
 * what may be taken.
 */

#include "broker/quota.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>

typedef struct QuotaUser {
        uid_t uid;
        unsigned n;
} QuotaUser;

static int compare_users(const void *a, const void *b) {
        const QuotaUser *x = a, *y = b;

        return x->uid < y->uid ? -1 : x->uid > y->uid;
}

void quota_deinit(Quota *quota) {
        assert(quota->n == 0);
        assert(!quota->users);

        *quota = (Quota){0};
}

static int get_user(Quota *quota, uid_t uid, QuotaUser **ret_user) {
        const QuotaUser key = {.uid = uid};
        QuotaUser **node, *fresh;

        node = tfind(&key, &quota->users, compare_users);
        if (node) {
                *ret_user = *node;
                return 0;
        }

        fresh = calloc(1, sizeof(*fresh));
        if (!fresh)
                return -ENOMEM;
        fresh->uid = uid;
        if (!tsearch(fresh, &quota->users, compare_users)) {
                free(fresh);
                return -ENOMEM;
        }

        *ret_user = fresh;
        return 0;
}

int quota_take(Quota *quota, uid_t uid, QuotaToken *ret_token) {
        QuotaUser *user;
        int r;

        if (quota->n >= quota->max)
                return QUOTA_E_ALL;

        r = get_user(quota, uid, &user);
        if (r < 0)
                return r;
        if (user->n >= quota->user_max)
                return QUOTA_E_USER;

        user->n++;
        quota->n++;
        *ret_token = (QuotaToken){.quota = quota, .user = user};
        return 0;
}

void quota_refund(QuotaToken *token) {
        Quota *quota = token->quota;
        QuotaUser *user = token->user;

        if (!quota)
                return;

        assert(user->n > 0 && quota->n > 0);

        *token = QUOTA_TOKEN_NULL;
        quota->n--;
        if (--user->n > 0)
                return;

        tdelete(user, &quota->users, compare_users);
        free(user);
}
