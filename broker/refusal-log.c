/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A fixed number are kept, and whoever has most of them gives one up for the next: a user who is alone has
 * all the room, and one who is refused in a loop pushes out nobody who has fewer.
 */

#include "broker/refusal-log.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/events.h"
#include "broker/manager.h"

void refusal_log_init(RefusalLog *log) {
        *log = (RefusalLog){0};
        TAILQ_INIT(&log->entries);
        LIST_INIT(&log->users);
        LIST_INIT(&log->walks);
}

void refusal_log_deinit(RefusalLog *log) {
        while (!TAILQ_EMPTY(&log->entries))
                refusal_log_remove(log, TAILQ_FIRST(&log->entries));
}

/* What is kept for ever must be small: a Busy by four thousand holders is not. */
static void trim(Refusal *refusal) {
        RefusalHolder *shorter;

        for (; refusal->n_holders > REFUSAL_HOLDERS_KEPT; refusal->n_holders--) {
                RefusalHolder *last = &refusal->holders[refusal->n_holders - 1];

                free(last->vm);
                free(last->command);
                free(last->cpus);
        }

        shorter = realloc(refusal->holders, (refusal->n_holders + 1) * sizeof(*shorter));
        if (shorter)
                refusal->holders = shorter;
}

/* NULL: no memory. */
static RefusalUser *get_user(RefusalLog *log, uid_t uid) {
        RefusalUser *user;

        LIST_FOREACH(user, &log->users, link)
                if (user->uid == uid)
                        return user;

        user = calloc(1, sizeof(*user));
        if (!user)
                return NULL;

        user->uid = uid;
        LIST_INSERT_HEAD(&log->users, user, link);
        return user;
}

/* With the last of its refusals; what is still to be told of them is told with somebody else's. */
static void unref_user(RefusalLog *log, RefusalUser *user) {
        if (--user->n > 0)
                return;

        log->journal.left_out += user->rates.user.left_out;
        for (size_t i = 0; i < REFUSAL_RATES_MAX; i++)
                log->journal.left_out += user->rates.like[i].limit.left_out;
        LIST_REMOVE(user, link);
        free(user);
}

void refusal_log_remove(RefusalLog *log, Refusal *refusal) {
        RefusalWalk *walk;

        LIST_FOREACH(walk, &log->walks, link)
                if (walk->next == refusal)
                        walk->next = TAILQ_NEXT(refusal, link);
        TAILQ_REMOVE(&log->entries, refusal, link);
        log->n--;
        unref_user(log, refusal->user);
        refusal_free(refusal);
}

static void make_room(RefusalLog *log) {
        const RefusalUser *user;
        Refusal *refusal;
        unsigned most = 0;

        LIST_FOREACH(user, &log->users, link)
                if (user->n > most)
                        most = user->n;

        TAILQ_FOREACH_REVERSE(refusal, &log->entries, RefusalList, link)
        if (refusal->user->n == most) {
                refusal_log_remove(log, refusal);
                return;
        }
}

int refusal_log_add(RefusalLog *log, Refusal *refusal) {
        refusal->user = get_user(log, refusal->uid);
        if (!refusal->user)
                return -ENOMEM;

        refusal->user->n++; /* before there is room: whose this one is may have most */
        if (log->n == REFUSALS_MAX)
                make_room(log);
        if (refusal->holders)
                trim(refusal);
        TAILQ_INSERT_HEAD(&log->entries, refusal, link);
        log->n++;
        return 0;
}

void refusal_walk_begin(RefusalWalk *walk, RefusalLog *log) {
        walk->next = TAILQ_FIRST(&log->entries);
        LIST_INSERT_HEAD(&log->walks, walk, link);
}

Refusal *refusal_walk_next(RefusalWalk *walk) {
        Refusal *refusal = walk->next;

        if (refusal)
                walk->next = TAILQ_NEXT(refusal, link);
        return refusal;
}

void refusal_walk_end(RefusalWalk *walk) {
        LIST_REMOVE(walk, link);
}

void refusal_record(Manager *manager, Refusal *refusal) {
        RefusalLog *log = &manager->refusals;

        events_refusal(manager, refusal);
        manager->counters.requests_refused++;
        if (refusal_log_add(log, refusal) < 0)
                refusal_free(refusal);
        else
                refusal_journal(refusal, manager_now_monotonic(manager), &refusal->user->rates,
                                &log->journal);
}
