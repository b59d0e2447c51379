/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel's word is final where a PMU excludes: what can be opened there stands beside nothing. Task-bound
 * events exclude each other by thread only, so it is the thread that is asked for if there are several. And
 * what the kernel has let in since cannot be beside a session that would have excluded it.
 *
 * Where a PMU does not exclude (no SPU; a test's host may have it in place of one), asking proves nothing.
 * There, whom two looks over all processes, one after the other, have not met is taken to be gone.
 *
 * Looking at all processes takes its time; as much as nine times of that is left to others before the timer
 * has it done again. A ring of the doorbell has its own pace (session-bell.h).
 */

#include "broker/session-doubt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log.h"
#include "broker/manager.h"
#include "broker/session-holders.h"
#include "util/clock.h"

#define PAUSE_FIRST_USEC (10 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC   USEC_PER_SEC
#define PAUSE_FACTOR     9 /* to what a look took */

struct SessionDoubt {
        Manager *manager;
        SessionHolders holders;
        sd_event_source *timer;
        uint64_t pause_usec;  /* before the next look */
        uint64_t rested_usec; /* CLOCK_MONOTONIC: the timer looks not before that */
        bool failed;          /* the last look, and that was logged */
        bool unwatched;       /* a process that has a session cannot be watched, and that was logged */
};

typedef enum Verdict {
        VERDICT_DEAD,
        VERDICT_UNPROVEN, /* nothing can be learnt from the kernel */
        VERDICT_UNKNOWN,
} Verdict;

static bool is_exact(const Arbiter *arbiter) {
        return arbiter_get_hook(arbiter) > ARBITER_HOOK_TRACEPOINTS;
}

static Verdict verdict_of(int r) {
        switch (r) {
        case 0:
                return VERDICT_DEAD;
        case RESERVE_E_SHARED:
                return VERDICT_UNPROVEN;
        default:
                return VERDICT_UNKNOWN;
        }
}

static Verdict ask_cpu(const Reserve *reserve, const Session *session) {
        unsigned cpu = (unsigned)session->facts.cpu;

        /* What is held there is ours, and keeps all others off. */
        if (reserve_has(reserve, session->instance->pmu_type, cpu))
                return VERDICT_DEAD;

        return verdict_of(reserve_try(session->instance->pmu_type, cpu));
}

static Verdict ask_thread(const Reserve *reserve, const Session *session) {
        const Instance *instance = session->instance;
        unsigned cpu = cpuset_next(&instance->effective, 0);
        CpuSet held = *reserve_get_held(reserve);
        int r;

        cpuset_and(&held, &instance->effective);
        if (!cpuset_is_empty(&held))
                return VERDICT_DEAD; /* a CPU-wide event of ours: there is no task-bound one on the PMU */

        r = reserve_try(instance->pmu_type, cpu);
        if (r != RESERVE_E_BUSY)
                return verdict_of(r);

        r = reserve_ask_thread(instance->pmu_type, session->facts.target_thread, session->facts.cpu);
        return r == 0 || r == RESERVE_E_OFF_LINE ? VERDICT_DEAD : VERDICT_UNKNOWN; /* or its thread is gone */
}

/* Whether one that is known to live was opened after @session, and would have been refused beside it. */
static bool is_superseded(const SessionTable *table, const Session *session) {
        const Session *other;

        TAILQ_FOREACH_REVERSE(other, &table->all, SessionList, link) {
                if (other->facts.opened_nsec <= session->facts.opened_nsec)
                        return false;
                if (other->suspected || other->facts.entering || other->instance != session->instance)
                        continue;
                if (!other->target != !session->target)
                        return true;
                if (!session->target && other->facts.cpu == session->facts.cpu)
                        return true;
        }

        return false;
}

static Verdict ask(const Manager *manager, const Session *session) {
        const Reserve *reserve = arbitration_get_reserve(manager->arbitration);
        Verdict verdict;

        /* What the hook has seen come, it will see go; to perf it may not even be there yet. */
        if (session->facts.opened_nsec > 0 && is_exact(arbitration_get_arbiter(manager->arbitration)))
                return VERDICT_UNKNOWN;
        /* Not an SPU's now, or its CPU is off line: it stands in nobody's way, and there is nobody to ask. */
        if (!session->instance || cpuset_is_empty(&session->instance->effective) ||
            (!session->target && cpuset_is_empty(&session->reach)))
                return VERDICT_UNKNOWN;

        verdict = session->target ? ask_thread(reserve, session) : ask_cpu(reserve, session);
        if (verdict == VERDICT_UNKNOWN && is_superseded(&manager->sessions, session))
                return VERDICT_DEAD;
        return verdict;
}

/* Has the dead forgotten; true if there were any. */
static bool settle_suspected(Manager *manager, Arbiter *arbiter) {
        Session *session;
        bool forgot = false;

        TAILQ_FOREACH(session, &manager->sessions.all, link) {
                Verdict verdict = session->suspected ? ask(manager, session) : VERDICT_UNKNOWN;

                if (verdict == VERDICT_DEAD || (verdict == VERDICT_UNPROVEN && session->doubted)) {
                        arbiter_forget(arbiter, session->facts.id);
                        forgot = true;
                }
                session->doubted = verdict == VERDICT_UNPROVEN;
        }

        return forgot;
}

bool session_doubt_ask(Manager *manager, const CpuSet *cpus) {
        Arbiter *arbiter = arbitration_get_arbiter(manager->arbitration);
        const Session *session;
        bool forgot = false, changed;

        if (!arbiter)
                return false;

        TAILQ_FOREACH(session, &manager->sessions.all, link)
                if (session->suspected && cpuset_intersects(&session->reach, cpus) &&
                    ask(manager, session) == VERDICT_DEAD) {
                        arbiter_forget(arbiter, session->facts.id);
                        forgot = true;
                }

        return forgot && sessions_read(manager, &changed) == 0;
}

/* Reads the kernel's table, even if all that is new in it is who was not met. */
static int read_anew(Manager *manager) {
        bool changed;

        manager->sessions.current = false;
        return sessions_read(manager, &changed);
}

static void note_unwatched(SessionDoubt *doubt, int r) {
        if (!doubt->unwatched)
                log_message(
                        LOG_WARNING,
                        "cannot watch a process that has host sessions: %s; that they end with it is seen "
                        "later",
                        strerror(-r));
        doubt->unwatched = true;
}

/*
 * From now on the end of each process that has a session is a reason to look. Where there is no session, who
 * has had one is of no interest. True in *@ret_ended: one that this look has met has ended meanwhile.
 */
static int watch_holders(SessionDoubt *doubt, Arbiter *arbiter, bool *ret_ended) {
        _cleanup_(freep) pid_t *processes = NULL;
        bool ended = false, unwatched = false;
        size_t n = 0;
        int r;

        if (doubt->manager->sessions.n > 0) {
                r = arbiter_read_holders(arbiter, &processes, &n);
                if (r < 0)
                        return r;
        }

        session_holders_begin(&doubt->holders);
        for (size_t i = 0; i < n; i++) {
                r = session_holders_add(&doubt->holders, processes[i]);
                if (r == -ESRCH) {
                        arbiter_forget_holder(arbiter, processes[i]);
                        ended = true;
                } else if (r < 0) {
                        note_unwatched(doubt, r);
                        unwatched = true;
                }
        }
        session_holders_end(&doubt->holders);

        doubt->unwatched &= unwatched;
        *ret_ended = ended;
        return 0;
}

/* One look. True in *@ret_again if what it found was out of date already. */
static int look(SessionDoubt *doubt, Arbiter *arbiter, bool *ret_again) {
        Manager *manager = doubt->manager;
        bool changed, again = false;
        int r;

        r = sessions_read(manager, &changed);
        if (r < 0)
                return r;
        if (!is_exact(arbiter) && manager->sessions.n > 0) {
                r = arbiter_iterate(arbiter, /* process= */ 0);
                if (r >= 0)
                        r = read_anew(manager);
                if (r < 0)
                        return r;
        }
        if (settle_suspected(manager, arbiter)) {
                r = sessions_read(manager, &changed);
                if (r < 0)
                        return r;
        }
        if (!is_exact(arbiter)) {
                r = watch_holders(doubt, arbiter, &again);
                if (r < 0)
                        return r;
        }

        *ret_again = again;
        return 0;
}

static bool is_waited_for(const Manager *manager, const Session *session) {
        if (!LIST_EMPTY(&manager->assign_waits))
                return true;
        for (LeaseMode mode = 0; mode < _LEASE_MODE_MAX; mode++)
                if (mode != LEASE_MODE_SHARED &&
                    cpuset_intersects(&session->reach, &manager->claims.by_mode[mode]))
                        return true;

        return false;
}

/* Whether another look may change anything for anybody. */
static bool is_worth_another(const SessionDoubt *doubt, const Arbiter *arbiter) {
        bool fresh = doubt->pause_usec < PAUSE_MAX_USEC, exact = is_exact(arbiter);
        const Session *session;

        TAILQ_FOREACH(session, &doubt->manager->sessions.all, link) {
                if (session->suspected && (fresh || session->contended))
                        return true;
                if ((session->suspected || !exact) && is_waited_for(doubt->manager, session))
                        return true;
        }

        return false;
}

static void arm(SessionDoubt *doubt, uint64_t pause_usec) {
        uint64_t due = clock_deadline(pause_usec);

        (void)sd_event_source_set_time(doubt->timer, due > doubt->rested_usec ? due : doubt->rested_usec);
        (void)sd_event_source_set_enabled(doubt->timer, SD_EVENT_ONESHOT);
}

static void arm_again(SessionDoubt *doubt, const Arbiter *arbiter, bool again) {
        if (again || is_worth_another(doubt, arbiter))
                arm(doubt, doubt->pause_usec);
        else
                (void)sd_event_source_set_enabled(doubt->timer, SD_EVENT_OFF);
}

static void note_failure(SessionDoubt *doubt, int r) {
        if (r < 0 && !doubt->failed)
                log_message(LOG_WARNING,
                            "cannot look who has host sessions: %s; the next look is the next try",
                            strerror(-r));
        doubt->failed = r < 0;
}

static void look_and_arm(SessionDoubt *doubt) {
        Arbiter *arbiter = arbitration_get_arbiter(doubt->manager->arbitration);
        uint64_t begin = clock_cpu_usec();
        bool again = true;

        if (!arbiter)
                return; /* session_doubt_watch() stops the rest */

        note_failure(doubt, look(doubt, arbiter, &again));
        doubt->rested_usec = clock_now_usec() + (clock_cpu_usec() - begin) * PAUSE_FACTOR;
        arm_again(doubt, arbiter, again);
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        SessionDoubt *doubt = userdata;

        doubt->pause_usec *= 2;
        if (doubt->pause_usec > PAUSE_MAX_USEC)
                doubt->pause_usec = PAUSE_MAX_USEC;
        look_and_arm(doubt);
        return 0;
}

/* Any number of them that end at once is one look. */
static void on_holder_end(pid_t process, void *userdata) {
        SessionDoubt *doubt = userdata;
        Arbiter *arbiter = arbitration_get_arbiter(doubt->manager->arbitration);

        if (arbiter)
                arbiter_forget_holder(arbiter, process);
        doubt->pause_usec = PAUSE_FIRST_USEC / 2;
        arm(doubt, 0);
}

void session_doubt_settle(Manager *manager) {
        manager->doubt->pause_usec = PAUSE_FIRST_USEC;
        look_and_arm(manager->doubt);
}

void session_doubt_watch(Manager *manager) {
        const Arbiter *arbiter = arbitration_get_arbiter(manager->arbitration);
        SessionDoubt *doubt = manager->doubt;

        if (!arbiter) {
                session_holders_deinit(&doubt->holders);
                (void)sd_event_source_set_enabled(doubt->timer, SD_EVENT_OFF);
                return;
        }
        if (sd_event_source_get_enabled(doubt->timer, NULL) > 0 || !is_worth_another(doubt, arbiter))
                return;

        doubt->pause_usec = PAUSE_FIRST_USEC;
        arm(doubt, doubt->pause_usec);
}

int session_doubt_new(Manager *manager, SessionDoubt **ret_doubt) {
        _cleanup_(session_doubt_freep) SessionDoubt *doubt = calloc(1, sizeof(*doubt));
        int r;

        if (!doubt)
                return -ENOMEM;

        doubt->manager = manager;
        doubt->pause_usec = PAUSE_MAX_USEC;
        doubt->holders = SESSION_HOLDERS_NULL(manager->event, on_holder_end, doubt);
        r = sd_event_add_time(manager->event, &doubt->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_timer, doubt);
        if (r >= 0)
                r = sd_event_source_set_enabled(doubt->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret_doubt = steal_ptr(doubt);
        return 0;
}

SessionDoubt *session_doubt_free(SessionDoubt *doubt) {
        if (!doubt)
                return NULL;

        session_holders_deinit(&doubt->holders);
        sd_event_source_disable_unref(doubt->timer);
        free(doubt);
        return NULL;
}
