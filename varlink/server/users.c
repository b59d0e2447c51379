/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What users have. An entry exists only while its user has a connection, so a host where every user has
 * connected once does not remember them all.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "varlink/server/users.h"

void user_counts_deinit(UserCounts *counts) {
        free(counts->items);
        *counts = (UserCounts){0};
}

/* The first entry with this uid or a larger one. */
static size_t user_counts_position(const UserCounts *counts, uid_t uid) {
        size_t low = 0, high = counts->n_items;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (counts->items[middle].uid < uid)
                        low = middle + 1;
                else
                        high = middle;
        }

        return low;
}

unsigned user_counts_get(const UserCounts *counts, uid_t uid) {
        size_t i = user_counts_position(counts, uid);

        return i < counts->n_items && counts->items[i].uid == uid ? counts->items[i].n : 0;
}

int user_counts_add(UserCounts *counts, uid_t uid) {
        size_t i = user_counts_position(counts, uid);

        if (i < counts->n_items && counts->items[i].uid == uid) {
                counts->items[i].n++;
                return 0;
        }

        if (counts->n_items == counts->size) {
                size_t size = counts->size ? counts->size * 2 : 8;
                UserCount *items = reallocarray(counts->items, size, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                counts->items = items;
                counts->size = size;
        }

        memmove(counts->items + i + 1, counts->items + i, (counts->n_items - i) * sizeof(*counts->items));
        counts->items[i] = (UserCount){.uid = uid, .n = 1};
        counts->n_items++;
        return 0;
}

void user_counts_remove(UserCounts *counts, uid_t uid) {
        size_t i = user_counts_position(counts, uid);

        assert(i < counts->n_items && counts->items[i].uid == uid);

        if (--counts->items[i].n > 0)
                return;
        counts->n_items--;
        memmove(counts->items + i, counts->items + i + 1, (counts->n_items - i) * sizeof(*counts->items));
}

size_t user_counts_charge(UserCounts *counts, uid_t uid, size_t before, size_t after) {
        UserCount *item = &counts->items[user_counts_position(counts, uid)];

        assert(item->uid == uid && item->bytes >= before);

        item->bytes += after - before;
        return item->bytes;
}
