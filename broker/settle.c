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
#include "broker/session-journal.h"
#include "broker/session-tell.h"
#include "broker/settle-contention.h"
#include "broker/settle-instances.h"
#include "broker/settle-leases.h"

/* What there was no memory for, or could not be put on record, is tried again after this. */
#define RETRY_USEC UINT64_C(100000)
/* And what sessions have made dirty as waiters were looked at, after this. */
#define LATER_USEC UINT64_C(10000)
/* So many waiters are looked at in one run, the next ones after this. */
#define QUEUE_PART      8U
#define QUEUE_REST_USEC UINT64_C(200)

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

        for (lease = LIST_FIRST(&manager->leases.unclaimed); lease; lease = next) {
                next = LIST_NEXT(lease, unclaimed_link);
                if (lease->unclaimed_deadline_usec <= now)
                        lease_end(manager, lease, "no process came into its control group in time");
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
 * For so long it kept new sessions off; now they are let in again, and if it is one of them that it waits
 * for, the journal says so, once.
 */
static void tell_kept_long(Manager *manager, Lease *lease, const Decision *decision) {
        const SessionOccupancy *sessions = &manager->model.sessions;
        _cleanup_(refusal_freep) Refusal *refusal = NULL;
        const CpuSet *cpus = &decision->offer.cpus;

        if (lease->told_kept || decision->n_refusals == 0 ||
            !(cpuset_intersects(cpus, &sessions->cpu_wide) ||
              cpuset_intersects(cpus, &sessions->task_bound) ||
              cpuset_intersects(cpus, &sessions->unholdable)))
                return;
        if (refusal_new(manager, &lease->request, &decision->refusals[0], &refusal) < 0)
                return;

        lease->told_kept = true;
        session_journal_wait(manager, lease, refusal->message);
}

/* It waits, and claims what it would be granted. */
static void go_on_waiting(Manager *manager, Lease *lease, const Decision *decision, uint64_t now) {
        QueuePass *pass = &manager->queue_pass;

        lease_set_wanted(lease, &decision->offer);
        claims_add(&pass->claims, decision->offer.mode, &decision->offer.cpus);
        if (lease->keep_usec > now)
                claims_add(&pass->keeping, decision->offer.mode, &decision->offer.cpus);
        else
                tell_kept_long(manager, lease, decision);
}

/* Grants it, or refuses it, or neither yet. An error: that could not be done, for lack of memory or as it
 * cannot be put on record. */
static int settle_waiter(Manager *manager, Lease *lease, uint64_t now, const Claims *claims,
                         Decision *ret_decision, bool *ret_waits) {
        unsigned dirty = manager->dirty;
        int r;

        ret_decision->has_offer = false;
        r = arbitration_decide(manager, &lease->request, claims, ret_decision);
        /* Sessions that come and go all the time must not keep settle() going round: what they make dirty has
         * to wait a little. What was closed is this run's own last pass. */
        manager->dirty_later |= manager->dirty & ~dirty & ~(unsigned)DIRTY_CLOSED;
        manager->dirty = dirty;
        if (r < 0)
                return r;

        *ret_waits = !ret_decision->granted && ret_decision->has_offer && lease->deadline_usec > now;
        if (*ret_waits)
                return 0;
        if (!ret_decision->granted)
                return refuse_waiter(manager, lease, &ret_decision->refusals[0]);
        r = lease_grant(manager, lease, &ret_decision->offer);
        if (r == 0 || lease->deadline_usec > now)
                return r;

        lease_fail(manager, lease, r);
        return 0;
}

/* The next one of the pass. */
static void settle_next_waiter(Manager *manager, uint64_t now) {
        QueuePass *pass = &manager->queue_pass;
        Lease *lease = manager->leases.next_waiter;
        bool waits = false;
        Decision decision;
        int r;

        manager->leases.next_waiter = TAILQ_NEXT(lease, waiting_link);
        r = settle_waiter(manager, lease, now, &pass->claims, &decision, &waits);
        if (r < 0)
                pass->incomplete = true;
        else if (!waits)
                return;
        if (decision.has_offer) /* else it has nothing to claim any more */
                go_on_waiting(manager, lease, &decision, now);
}

/*
 * Waiters in order: each is decided behind the claims of those that still wait before it. One that cannot be
 * granted or refused now keeps its place and its claims: then, at the end of the pass, it returns false.
 *
 * A pass is done in parts, of which one run of settle() does one, so that whoever has hundreds of waiters
 * does not hold up everybody else whenever something is freed. Meanwhile the claims of the last pass hold for
 * those who come, and nobody is overtaken: what was freed behind the back of a waiter, its claims keep for it
 * until the next pass, which follows if anything but the pass itself (@news) made settle() run.
 */
static bool settle_queue(Manager *manager, uint64_t now, bool news) {
        LeaseTable *table = &manager->leases;
        QueuePass *pass = &manager->queue_pass;

        if (table->next_waiter) {
                pass->again |= news;
                if (pass->generation == manager->settle_generation)
                        return true;
        } else {
                table->next_waiter = TAILQ_FIRST(&table->waiting);
                *pass = (QueuePass){0};
        }

        pass->generation = manager->settle_generation;
        for (unsigned i = 0; i < QUEUE_PART && table->next_waiter; i++)
                settle_next_waiter(manager, now);
        if (table->next_waiter)
                return true;

        manager->claims = pass->claims;
        manager->keeping = pass->keeping;
        if (pass->again)
                manager->dirty_later |= DIRTY_QUEUE;
        return !pass->incomplete;
}

static void arm(sd_event_source *timer, uint64_t usec) {
        if (usec == UINT64_MAX) {
                sd_event_source_set_enabled(timer, SD_EVENT_OFF);
                return;
        }

        sd_event_source_set_time(timer, usec);
        sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* If @complete is false, not all of it can be done now, and a timer that is due already would keep the loop
 * spinning. */
static uint64_t next_deadline(const Manager *manager, bool complete) {
        uint64_t next = UINT64_MAX, now = manager_now_monotonic(manager);
        const Lease *lease;

        if (!complete)
                return now + RETRY_USEC;
        if (manager->leases.next_waiter)
                return now + QUEUE_REST_USEC;
        if (manager->dirty_later)
                next = now + LATER_USEC;

        TAILQ_FOREACH(lease, &manager->leases.waiting, waiting_link) {
                if (lease->deadline_usec < next)
                        next = lease->deadline_usec;
                if (lease->keep_usec > now && lease->keep_usec < next)
                        next = lease->keep_usec;
        }
        LIST_FOREACH(lease, &manager->leases.revoking, revoking_link)
                if (lease->deadline_usec < next)
                        next = lease->deadline_usec;
        LIST_FOREACH(lease, &manager->leases.away, away_link)
                if (lease->away_deadline_usec < next)
                        next = lease->away_deadline_usec;
        LIST_FOREACH(lease, &manager->leases.unclaimed, unclaimed_link)
                if (lease->unclaimed_deadline_usec < next)
                        next = lease->unclaimed_deadline_usec;

        return next;
}

void settle(Manager *manager) {
        bool complete = true;

        manager->settle_generation++;
        manager->dirty |= manager->dirty_later;
        manager->dirty_later = 0;

        while (manager->dirty) {
                unsigned dirty = manager->dirty;
                uint64_t now = manager_now_monotonic(manager);

                manager->dirty = 0;
                if (dirty & DIRTY_INSTANCES &&
                    (settle_instances(manager) < 0 || arbitration_configure(manager) < 0 ||
                     gatekeeper_configure(manager) < 0)) {
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
                complete = settle_queue(manager, now, dirty & ~(unsigned)DIRTY_QUEUE_REST);
                if ((dirty | manager->dirty) & DIRTY_CONTENTION)
                        settle_contention(manager);
                manager->dirty &= ~(unsigned)(DIRTY_CONTENTION | DIRTY_CLOSED | DIRTY_UNSAVED);
        }
        /* Before CPUs are open to the host that leases have given up; but if that cannot be written, the host
         * does not have to wait for it. */
        complete = leases_save(manager) == 0 && complete;
        arbitration_settle(manager);
        session_doubt_watch(manager);
        if (!manager->dirty) /* what was marked meanwhile has been done, or is for later */
                (void)sd_event_source_set_enabled(manager->settle_source, SD_EVENT_OFF);

        arm(manager->deadline_timer, next_deadline(manager, complete));
        arm(manager->expiry_timer, assignment_table_next_expiry(&manager->model.assignments));
        assign_tell(manager);
        sessions_tell(manager);
        assign_answer_waits(manager);
}
