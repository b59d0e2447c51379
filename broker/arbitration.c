/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The order of a grant, and why there is no window: of a lease and a host session that race for a CPU, at
 * most one wins, on arm64's memory model too.
 *
 * At level enforce two sides write one thing and then read the other's:
 *
 *     the kernel's hook (bpf/spe-arbiter.bpf.c)         the broker (here)
 *     H1  enters the session into the table,            B1  decide(): is there a conflict?
 *         and counts the generation up                  B2  arbiter_close(): adds the lease's CPUs
 *     H2  full barrier                                      to the closed sets
 *     H3  tests the closed sets                         B3  full barrier (the end of arbiter_close())
 *     H4  refuses, and takes the entry out,             B4  sessions_read(): if the generation is not
 *         or lets the session in                            the copy's, the kernel's own table
 *                                                       B5  decide() again, on that
 *                                                       B6  commits the lease, or leaves it: settle()
 *                                                           then opens the CPUs again
 *
 * This is store buffering: H1 before H3 and B2 before B4, each with a full barrier between, so it cannot be
 * that both H3 misses B2 and B4 misses H1. If H3 sees the CPUs closed, the session is refused. Else B4 sees
 * the entry: its generation differs from the copy's, or the copy has it already, and B5 finds the conflict.
 * An entry that is seen between H1 and H4 may be about to be refused, as it says itself (`entering`): it
 * counts as a session, and before that makes a Busy the table is read again, a bounded number of times. Both
 * may lose, then; never both win. B2 to B6 run in one thread, without returning to the loop, so that two
 * leases cannot confuse each other.
 *
 * What the table cannot have is a session from before the hooks were there: bpf/arbiter.h attaches them,
 * waits for programs in flight and then looks through all open files, before the first lease is granted. A
 * lease that comes to hold CPUs in any other way (it follows its SPU, CPUs come on line) holds CPUs that were
 * closed before, as the sets are of CPU numbers and not of those on line.
 *
 * That a decision changes its mind about the CPUs in B5 makes it go round again from B2, with the first CPUs
 * still closed. What is closed only grows meanwhile, so it comes to an end.
 *
 * At level reserve one system call is both close and read: perf_event_open() of the broker's own event fails
 * if somebody has one there, and refuses everybody else's from then on, under the kernel's own lock.
 */

#include <sched.h>

#include "broker/arbitration-state.h"
#include "broker/manager.h"
#include "broker/session-doubt.h"
#include "broker/session.h"

/* How often a table in which something is entering is read again: the hook has decided within microseconds,
 * unless its CPU is taken away from it. */
#define ENTERING_READS_MAX 64U

/* What decide(), or decide_move(), is asked, and what was done for the answer. */
typedef struct Question {
        PolicyRequest *request;
        const Owner *owner;
        LeaseOwner *known;  /* if it has leases already */
        const Lease *lease; /* that moves; NULL: a new one */
        const Claims *ahead;
        bool waits; /* it is asked by settle() */

        CpuSet closed;    /* for this question; the table was read after that */
        unsigned n_reads; /* of a table in which something was entering */
        bool asked;       /* about those whom nobody sees */
        bool told_news;   /* a Busy was asked for again because of other sessions */
} Question;

static void ask(const Manager *manager, const Question *question, Decision *ret_decision) {
        const Lease *lease = question->lease;

        sessions_of_owner(manager, question->owner, &question->request->own_sessions);
        if (lease)
                decide_move(&manager->model, question->request, lease->instance, &lease->cpus,
                            question->ahead, ret_decision);
        else
                decide(&manager->model, question->request, question->ahead, false, ret_decision);
}

/* The CPUs for which it is Busy, or NULL. */
static const CpuSet *busy_cpus(const Decision *decision) {
        for (size_t i = 0; i < decision->n_refusals; i++)
                if (decision->refusals[i].kind == REFUSAL_BUSY)
                        return &decision->refusals[i].cpus;

        return NULL;
}

/*
 * Closes what has been granted. True if the kernel lets us. What a lease that moves holds already is closed
 * as far as that can be; whoever is there nevertheless is no reason to refuse it, and would be for ever.
 */
static bool close_offer(Manager *manager, Question *question, const Offer *offer) {
        Offer added = *offer;

        if (question->lease)
                cpuset_subtract(&added.cpus, &question->lease->cpus);
        if (arbitration_close(manager, &added, question->known, lease_owner_key(question->owner)) != 0)
                return false;

        cpuset_or(&question->closed, &offer->cpus);
        return true;
}

/*
 * Whether a Busy may be none any more: the copy was old, someone unseen or suspected has gone, something
 * was entering. Each a bounded number of times: who meets somebody who opens and closes all the time is told
 * Busy.
 */
static bool is_over(Manager *manager, Question *question, const CpuSet *busy, bool news) {
        bool again = news && !question->told_news;

        question->told_news |= news;
        if (!question->asked) {
                question->asked = true;
                again |= arbitration_ask_unseen(manager, busy);
                again |= session_doubt_ask(manager, busy);
        }
        if (manager->sessions.current || question->n_reads++ >= ENTERING_READS_MAX)
                return again;

        (void)sched_yield();
        return true;
}

/*
 * Of those that wait, the first that is Busy has the table read again for all: whatever changes after that
 * rings, and has settle() come back. Thousands of them, and somebody who opens and closes all the time, would
 * else be as many reads.
 */
static bool is_to_be_read(Manager *manager, const Question *question) {
        Arbitration *arbitration = manager->arbitration;

        if (!question->waits || question->n_reads > 0)
                return true;
        if (arbitration->busy_read == manager->settle_generation)
                return false;

        arbitration->busy_read = manager->settle_generation;
        return true;
}

/* B2 to B5: true in *@ret_again if the answer is to be asked for again. */
static int confirm(Manager *manager, Question *question, const Decision *decision, bool *ret_again) {
        const CpuSet *busy = busy_cpus(decision);
        bool refused = false, news = false;
        int r;

        *ret_again = false;
        if (decision->granted && cpuset_is_subset(&decision->offer.cpus, &question->closed))
                return 0;
        if (!decision->granted && (!busy || !is_to_be_read(manager, question)))
                return 0;

        if (decision->granted)
                refused = !close_offer(manager, question, &decision->offer);
        r = sessions_read(manager, &news);
        if (r < 0)
                return r;

        *ret_again = decision->granted ? refused || news : is_over(manager, question, busy, news);
        return 0;
}

static int answer(Manager *manager, Question *question, Decision *ret_decision) {
        bool again = true;
        int r;

        for (;;) {
                ask(manager, question, ret_decision);
                if (question->request->mode == LEASE_MODE_SHARED ||
                    arbitration_get_level(manager->arbitration) == ARBITRATION_LEVEL_NONE)
                        return 0;

                /* An error is no lease for this one; what is enforced for the others stays. */
                r = confirm(manager, question, ret_decision, &again);
                if (r < 0 || !again)
                        return r;
        }
}

int arbitration_decide(Manager *manager, LeaseRequest *request, const Claims *ahead, Decision *ret_decision) {
        Question question = {
                .request = &request->policy,
                .owner = lease_request_get_owner(request),
                .known = request->known,
                .ahead = ahead,
                .waits = ahead != &manager->claims,
                .asked = ahead != &manager->claims, /* by settle(), for those that wait */
        };

        return answer(manager, &question, ret_decision);
}

int arbitration_decide_move(Manager *manager, const Lease *lease, PolicyRequest *request, const Claims *ahead,
                            Decision *ret_decision) {
        Question question = {
                .request = request,
                .owner = lease->owner->owner,
                .known = lease->owner,
                .lease = lease,
                .ahead = ahead,
        };

        return answer(manager, &question, ret_decision);
}
