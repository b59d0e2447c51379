/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A walk through all host sessions that pauses, while they come and go: each that is there throughout is met
 * once, in the order of their age; and one that came behind the last, if it is asked for once more.
 */

#include <sys/queue.h>

typedef struct Session Session;
typedef struct SessionTable SessionTable;

typedef struct SessionWalk {
        LIST_ENTRY(SessionWalk) link;
        SessionTable *table;
        Session *last; /* that was met, or what is before it now; NULL: it is at the beginning */
} SessionWalk;

void session_walk_begin(SessionWalk *walk, SessionTable *table);
/* The next one, or NULL. */
Session *session_walk_next(SessionWalk *walk);
/* However far it is. */
void session_walk_end(SessionWalk *walk);

/* @session is about to leave the table: no walk goes on from it. */
void session_walks_skip(SessionTable *table, const Session *session);
