/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table knows the walks, of which there are few: one of each user who is being answered. A new lease
 * goes to the end of the table and none ever moves, so all that a walk has to be told is that the one that
 * it has met last goes.
 */

#include "broker/lease-walk.h"

#include "broker/lease.h"

void lease_walk_begin(LeaseWalk *walk, LeaseTable *table) {
        walk->table = table;
        walk->last = NULL;
        LIST_INSERT_HEAD(&table->walks, walk, link);
}

Lease *lease_walk_next(LeaseWalk *walk) {
        Lease *lease = walk->last ? TAILQ_NEXT(walk->last, link) : TAILQ_FIRST(&walk->table->all);

        if (lease)
                walk->last = lease;
        return lease;
}

void lease_walk_end(LeaseWalk *walk) {
        LIST_REMOVE(walk, link);
}

void lease_walks_skip(LeaseTable *table, const Lease *lease) {
        LeaseWalk *walk;

        LIST_FOREACH(walk, &table->walks, link)
                if (walk->last == lease)
                        walk->last = TAILQ_PREV(lease, LeaseList, link);
}
