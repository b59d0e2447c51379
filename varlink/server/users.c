/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What users have. An entry exists only while its user has a connection, so a host where every user has
 * connected once does not remember them all.
 */

#include "varlink/server/users.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void users_deinit(Users *users) {
        assert(users->n_items == 0);

        free(users->items);
        *users = (Users){0};
}

/* The first entry with this uid or a larger one. */
static size_t users_position(const Users *users, uid_t uid) {
        size_t low = 0, high = users->n_items;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (users->items[middle]->uid < uid)
                        low = middle + 1;
                else
                        high = middle;
        }

        return low;
}

static User *users_find(const Users *users, uid_t uid, size_t *ret_position) {
        size_t i = users_position(users, uid);

        *ret_position = i;
        return i < users->n_items && users->items[i]->uid == uid ? users->items[i] : NULL;
}

unsigned users_count(const Users *users, uid_t uid) {
        size_t i;
        const User *user = users_find(users, uid, &i);

        return user ? user->n : 0;
}

static int users_make_room(Users *users) {
        size_t size = users->size ? users->size * 2 : 8;
        User **items;

        if (users->n_items < users->size)
                return 0;

        items = reallocarray(users->items, size, sizeof(User *));
        if (!items)
                return -ENOMEM;

        users->items = items;
        users->size = size;
        return 0;
}

int users_ref(Users *users, uid_t uid, User **ret_user) {
        size_t i;
        User *user = users_find(users, uid, &i);
        int r;

        if (!user) {
                r = users_make_room(users);
                if (r < 0)
                        return r;
                user = calloc(1, sizeof(*user));
                if (!user)
                        return -ENOMEM;
                user->uid = uid;
                TAILQ_INIT(&user->ready);
                memmove(users->items + i + 1, users->items + i, (users->n_items - i) * sizeof(User *));
                users->items[i] = user;
                users->n_items++;
        }

        user->n++;
        *ret_user = user;
        return 0;
}

void users_unref(Users *users, User *user) {
        size_t i;

        assert(user->n > 0);

        if (--user->n > 0)
                return;

        assert(user->bytes == 0 && user->place == USER_IDLE && TAILQ_EMPTY(&user->ready));
        (void)users_find(users, user->uid, &i);
        users->n_items--;
        memmove(users->items + i, users->items + i + 1, (users->n_items - i) * sizeof(User *));
        free(user);
}

void users_charge(Users *users, User *user, size_t before, size_t after) {
        assert(user->bytes >= before && users->bytes >= before);

        user->bytes += after - before;
        users->bytes += after - before;
}
