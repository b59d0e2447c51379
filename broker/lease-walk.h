/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A walk through all leases that pauses, while leases come and go: each that is there throughout is met once,
 * in the order of their age; and one that came behind the last, if it is asked for once more.
 */

#include <sys/queue.h>

typedef struct Lease Lease;
typedef struct LeaseTable LeaseTable;

typedef struct LeaseWalk {
        LIST_ENTRY(LeaseWalk) link;
        LeaseTable *table;
        Lease *last; /* that was met, or what is before it now; NULL: it is at the beginning */
} LeaseWalk;

void lease_walk_begin(LeaseWalk *walk, LeaseTable *table);
/* The next one, or NULL. */
Lease *lease_walk_next(LeaseWalk *walk);
/* However far it is. */
void lease_walk_end(LeaseWalk *walk);

/* @lease is about to go: no walk goes on from it. */
void lease_walks_skip(LeaseTable *table, const Lease *lease);
