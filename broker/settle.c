/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The passes of settle. Each may make work for a later one, or end a waiter and with it make the queue worth
 * another look; every repetition has one waiter or one passed deadline less, so it comes to an end.
 */

#include "broker/settle.h"

#include "broker/assign.h"
#include "broker/end.h"
#include "broker/events.h"
#include "broker/grant.h"
#include "broker/manager.h"
#include "broker/place.h"
#include "broker/session-tell.h"
#include "broker/settle-contention.h"
#include "broker/settle-instances.h"
#include "broker/settle-leases.h"

/* What there was no memory for is tried again after this. */
#define RETRY_USEC UINT64_C(100000)

static void settle_deadlines(Manager *manager, uint64_t now) {
        Lease *lease, *next;

        for (lease = LIST_FIRST(&manager->leases.revoking); lease; lease = next) {
                next = LIST_NEXT(lease, revoking_link);
                if (lease->deadline_usec <= now)
                        lease_grace_over(manager, lease);
        }

        for (lease = LIST_FIRST(&manager->leases.away); lease; lease = next) {
                next = LIST_NEXT(lease, away_link);
                if (lease->away_deadline_usec <= now)
                        lease_away_over(manager, lease);
        }
}

/* Ends a waiter with the first refusal. */
static int refuse_waiter(Manager *manager, Lease *lease, const RefusalFacts *facts) {
        Refusal *refusal;
        int r;

        r = refusal_new(manager, &lease->request, facts, &refusal);
        if (r < 0)
                return r;

        lease_refuse(manager, lease, refusal);
        return 0;
}

/*
 * Waiters in order: each is decided behind the claims of those that still wait before it. One that there is
 * no memory to grant or to refuse keeps its place and its claims: then it returns false.
 */
static bool settle_queue(Manager *manager, uint64_t now) {
        Claims claims = CLAIMS_NULL;
        Lease *lease, *next;
        bool complete = true;

        for (lease = TAILQ_FIRST(&manager->leases.waiting); lease; lease = next) {
                Decision decision;

                next = TAILQ_NEXT(lease, waiting_link);
                decide(&manager->model, &lease->request.policy, &claims, false, &decision);

                if (decision.granted || !decision.has_offer || lease->deadline_usec <= now) {
                        int r = decision.granted ? lease_grant(manager, lease, &decision.offer)
                                                 : refuse_waiter(manager, lease, &decision.refusals[0]);

                        if (r == 0)
                                continue;
                        complete = false;
                        if (!decision.has_offer)
                                continue; /* it has nothing to claim any more */
                }

                lease_set_wanted(lease, &decision.offer);
                claims_add(&claims, decision.offer.mode, &decision.offer.cpus);
        }

        manager->claims = claims;
        return complete;
}

static void arm(sd_event_source *timer, uint64_t usec) {
        if (usec == UINT64_MAX) {
                sd_event_source_set_enabled(timer, SD_EVENT_OFF);
                return;
        }

        sd_event_source_set_time(timer, usec);
        sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* Without memory nothing of it can be done now, and a timer that is due already would keep the loop spinning.
 */
static uint64_t next_deadline(const Manager *manager, bool complete) {
        uint64_t next = UINT64_MAX;
        const Lease *lease;

        if (!complete)
                return manager_now_monotonic(manager) + RETRY_USEC;

        TAILQ_FOREACH(lease, &manager->leases.waiting, waiting_link)
                if (lease->deadline_usec < next)
                        next = lease->deadline_usec;
        LIST_FOREACH(lease, &manager->leases.revoking, revoking_link)
                if (lease->deadline_usec < next)
                        next = lease->deadline_usec;
        LIST_FOREACH(lease, &manager->leases.away, away_link)
                if (lease->away_deadline_usec < next)
                        next = lease->away_deadline_usec;

        return next;
}

void settle(Manager *manager) {
        bool complete = true;

        manager->settle_generation++;

        while (manager->dirty) {
                unsigned dirty = manager->dirty;
                uint64_t now = manager_now_monotonic(manager);

                manager->dirty = 0;
                if (dirty & DIRTY_INSTANCES && settle_instances(manager) < 0) {
                        manager->dirty |= dirty;
                        complete = false;
                        break;
                }
                if (assign_expire(manager))
                        dirty |= DIRTY_ASSIGNMENTS;
                if ((dirty | manager->dirty) & (DIRTY_ASSIGNMENTS | DIRTY_INSTANCES))
                        settle_leases(manager);
                if ((dirty | manager->dirty) & (DIRTY_ASSIGNMENTS | DIRTY_INSTANCES))
                        manager->dirty |= DIRTY_CONTENTION;
                manager->dirty &= ~(unsigned)DIRTY_ASSIGNMENTS;
                if (dirty & DIRTY_DEADLINES)
                        settle_deadlines(manager, now);
                manager->dirty &= ~(unsigned)DIRTY_QUEUE;
                complete = settle_queue(manager, now);
                if ((dirty | manager->dirty) & DIRTY_CONTENTION)
                        settle_contention(manager);
                manager->dirty &= ~(unsigned)DIRTY_CONTENTION;
        }

        arm(manager->deadline_timer, next_deadline(manager, complete));
        arm(manager->expiry_timer, assignment_table_next_expiry(&manager->model.assignments));
        assign_tell(manager);
        sessions_tell(manager);
        assign_answer_waits(manager);
}
