/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The refusals that were answered last, of leases and of host sessions: what ListRefusals has.
 */

#include <sys/queue.h>
#include <sys/types.h>

#include "broker/refusal-journal.h"
#include "util/rate-limit.h"

typedef struct Manager Manager;
typedef struct Refusal Refusal;

#define REFUSALS_MAX 1024U

/* Whose some of them are. */
typedef struct RefusalUser {
        LIST_ENTRY(RefusalUser) link;
        uid_t uid;
        unsigned n;
        RefusalRates rates;
} RefusalUser;

/* Goes through all, newest first, and pauses while others come and go: who is there throughout is met once.
 */
typedef struct RefusalWalk {
        LIST_ENTRY(RefusalWalk) link;
        Refusal *next; /* NULL: it is through */
} RefusalWalk;

typedef struct RefusalLog {
        TAILQ_HEAD(RefusalList, Refusal) entries; /* newest first */
        LIST_HEAD(, RefusalUser) users;
        LIST_HEAD(, RefusalWalk) walks;
        unsigned n;
        RateLimit journal; /* of all users */
} RefusalLog;

void refusal_log_init(RefusalLog *log);
void refusal_log_deinit(RefusalLog *log);
/* Takes it out and frees it. */
void refusal_log_remove(RefusalLog *log, Refusal *refusal);
/* -ENOMEM, or takes over @refusal: once there are as many as may be, in the place of the oldest of whoever
 * has most. */
int refusal_log_add(RefusalLog *log, Refusal *refusal);

void refusal_walk_begin(RefusalWalk *walk, RefusalLog *log);
/* The next one, or NULL. */
Refusal *refusal_walk_next(RefusalWalk *walk);
/* However far it is. */
void refusal_walk_end(RefusalWalk *walk);

/*
 * The one way of a refused request for a lease, after whoever asked has been answered: those who watch, the
 * journal, the list, the counter. Takes over @refusal.
 */
void refusal_record(Manager *manager, Refusal *refusal);
