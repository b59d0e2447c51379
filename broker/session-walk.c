/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * As lease-walk.c: a new session goes to the end of the table and none ever moves, so all that a walk has to
 * be told is that the one that it has met last goes.
 */

#include "broker/session-walk.h"

#include "broker/session.h"

void session_walk_begin(SessionWalk *walk, SessionTable *table) {
        walk->table = table;
        walk->last = NULL;
        LIST_INSERT_HEAD(&table->walks, walk, link);
}

Session *session_walk_next(SessionWalk *walk) {
        Session *session = walk->last ? TAILQ_NEXT(walk->last, link) : TAILQ_FIRST(&walk->table->all);

        if (session)
                walk->last = session;
        return session;
}

void session_walk_end(SessionWalk *walk) {
        LIST_REMOVE(walk, link);
}

void session_walks_skip(SessionTable *table, const Session *session) {
        SessionWalk *walk;

        LIST_FOREACH(walk, &table->walks, link)
                if (walk->last == session)
                        walk->last = TAILQ_PREV(session, SessionList, link);
}
