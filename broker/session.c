/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The copy is made whole or not at all: what is new is allocated first, then old and new change places. What
 * hangs on it (contention, waiters, whoever watches) is only marked, and done once per turn of the loop.
 */

#include "broker/session.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "broker/manager.h"
#include "broker/session-table.h"
#include "util/clock.h"

/* Nothing tells of a change of a thread's affinity, so it is read at each look; of ten thousand threads that
 * takes a while, so nine tenths of the time are for others. */
#define LOOK_PAUSE_FACTOR 9

/* Between the two clocks at this moment, and not at the one that the loop woke up at: a session that a next
 * broker takes over is as old to it as to this one. */
static uint64_t realtime_of_boottime(uint64_t nsec) {
        uint64_t now = clock_read_usec(CLOCK_REALTIME), boottime = clock_read_usec(CLOCK_BOOTTIME);
        uint64_t age = boottime - nsec / NSEC_PER_USEC;

        return nsec / NSEC_PER_USEC > boottime || age > now ? now : now - age;
}

/* Where @thread may run now; nowhere, if there is none. What cannot be read limits nothing. */
static void read_affinity(pid_t thread, CpuSet *ret_cpus) {
        _Static_assert(sizeof(unsigned long) == sizeof(ret_cpus->words[0]), "the kernel's words are ours");
        CpuSet cpus = CPUSET_NULL;

        if (sched_getaffinity(thread, sizeof(cpus.words), (cpu_set_t *)cpus.words) < 0) {
                cpus = CPUSET_NULL;
                if (errno != ESRCH)
                        cpuset_add_range(&cpus, 0, CPUSET_MAX - 1);
        }
        *ret_cpus = cpus;
}

/* Works out the reach anew; true if it is another. */
static bool look(Session *session) {
        CpuSet reach = CPUSET_NULL, affinity;
        bool news;

        if (session->instance && !session->detached) {
                if (session->facts.cpu < 0)
                        reach = session->instance->effective;
                else if (cpuset_has(&session->instance->effective, (unsigned)session->facts.cpu))
                        cpuset_add(&reach, (unsigned)session->facts.cpu);
        }
        if (session->target && !cpuset_is_empty(&reach)) {
                read_affinity(session->facts.target_thread, &affinity);
                cpuset_and(&reach, &affinity);
        }

        news = !cpuset_equal(&reach, &session->reach);
        session->reach = reach;
        return news;
}

static void count(const Session *session, SessionOccupancy *sums, CpuSet *of_target) {
        if (!session->target) {
                cpuset_or(&sums->cpu_wide, &session->reach);
                return;
        }

        cpuset_or(&sums->task_bound, &session->reach);
        cpuset_or(of_target, &session->reach);
}

/* Sums up: where all sessions reach, and those on each process. */
static void sum_up(Manager *manager) {
        bool reserve = arbitration_get_level(manager->arbitration) == ARBITRATION_LEVEL_RESERVE;
        SessionOccupancy *all = &manager->model.sessions;
        SessionTable *table = &manager->sessions;
        const Session *session;

        *all = (SessionOccupancy){.unholdable = table->unseen};
        table->admitted = SESSION_OCCUPANCY_NULL;
        TAILQ_FOREACH(session, &table->all, link)
                if (session->target)
                        session->target->reach = session->target->admitted = CPUSET_NULL;

        TAILQ_FOREACH(session, &table->all, link) {
                SessionTarget *target = session->target;

                count(session, all, target ? &target->reach : NULL);
                if (!session->facts.entering)
                        count(session, &table->admitted, target ? &target->admitted : NULL);
                /* Wherever its target may run: perf counts it against the whole PMU. */
                if (reserve && target && session->instance)
                        cpuset_or(&all->unholdable, &session->instance->cpus);
        }
}

static void changed(Manager *manager) {
        sum_up(manager);
        manager_mark_dirty(manager, DIRTY_QUEUE | DIRTY_CONTENTION);
}

/* Threads may have got other affinities; true if that is so. */
static bool look_again(Manager *manager) {
        SessionTable *table = &manager->sessions;
        uint64_t begin = clock_cpu_usec();
        bool news = false;
        Session *session;

        if (clock_now_usec() < table->look_usec || cpuset_is_empty(&manager->model.sessions.task_bound))
                return false;

        TAILQ_FOREACH(session, &table->all, link)
                if (session->target)
                        news |= look(session);

        table->look_usec = clock_now_usec() + (clock_cpu_usec() - begin) * LOOK_PAUSE_FACTOR;
        return news;
}

static int by_age(const void *a, const void *b) {
        const ArbiterSession *x = a, *y = b;

        if (x->opened_nsec != y->opened_nsec)
                return x->opened_nsec < y->opened_nsec ? -1 : 1;
        return (x->id > y->id) - (x->id < y->id);
}

static int add(Manager *manager, const ArbiterSession *facts, Session **ret_session) {
        _cleanup_(session_freep) Session *session = NULL;
        int r;

        r = session_new(facts, &session);
        if (r < 0)
                return r;
        r = session_link(&manager->sessions, session);
        if (r < 0)
                return r;

        if (facts->opened_nsec > 0)
                session->since_usec = realtime_of_boottime(facts->opened_nsec);
        session->instance = arbitration_find_instance(manager, facts->pmu);
        (void)look(session);
        *ret_session = steal_ptr(session);
        return 0;
}

/* Whether it is what keeps others off: of that systemd has copies, which the iterator meets. */
static bool is_own(const Manager *manager, const ArbiterSession *facts) {
        const Reserve *reserve = arbitration_get_reserve(manager->arbitration);
        const Instance *instance;

        if (facts->target_thread != 0 || facts->cpu < 0 || cpuset_is_empty(reserve_get_held(reserve)))
                return false;

        instance = arbitration_find_instance(manager, facts->pmu);
        return instance && reserve_has(reserve, instance->pmu_type, (unsigned)facts->cpu);
}

/* Takes in all that is in the kernel's table: those that are new are added, and all are marked as met. */
static int take_in(Manager *manager, const ArbiterSession *facts, size_t n, bool *ret_changed,
                   bool *ret_entering) {
        SessionTable *table = &manager->sessions;

        for (size_t i = 0; i < n; i++) {
                Session *session;

                if (is_own(manager, &facts[i]))
                        continue;
                session = session_find(table, &facts[i]);
                if (!session) {
                        int r = add(manager, &facts[i], &session);

                        if (r < 0)
                                return r;
                        *ret_changed = true;
                }
                table->news |= !session->told;
                *ret_changed |= session->facts.entering != facts[i].entering;
                *ret_entering |= facts[i].entering;
                session->facts = facts[i];
                session_clean(&session->facts);
                session->suspected = facts[i].unseen;
                session->met = true;
        }

        return 0;
}

/* Those that were not met are gone, if @complete: if all were looked for. */
static bool drop_unmet(SessionTable *table, bool complete) {
        Session *session, *next;
        bool dropped = false;

        for (session = TAILQ_FIRST(&table->all); session; session = next) {
                next = TAILQ_NEXT(session, link);
                if (session->met || !complete) {
                        session->met = false;
                        continue;
                }
                table->news |= session->told;
                dropped = true;
                session_unlink(table, session);
        }

        return dropped;
}

/* Has the copy say what the kernel's table says. If memory is short it has some of what is new, and still
 * all that was there before. */
static int copy_table(Manager *manager, const Arbiter *arbiter, bool *ret_changed) {
        _cleanup_(freep) ArbiterSession *facts = NULL;
        SessionTable *table = &manager->sessions;
        bool entering = false;
        uint64_t generation;
        size_t n;
        int r;

        generation = arbiter_get_generation(arbiter);
        if (table->current && table->generation == generation)
                return 0;

        table->current = false;
        r = arbiter_read(arbiter, &facts, &n);
        if (r < 0)
                return r;

        if (n > 0) /* there may be no array then */
                qsort(facts, n, sizeof(*facts), by_age);
        r = take_in(manager, facts, n, ret_changed, &entering);
        *ret_changed |= drop_unmet(table, r == 0);
        table->generation = generation;
        table->current = r == 0 && !entering;
        return r;
}

int sessions_read(Manager *manager, bool *ret_changed) {
        const Arbiter *arbiter = arbitration_get_arbiter(manager->arbitration);
        bool news = false;
        int r = 0;

        if (arbiter)
                r = copy_table(manager, arbiter, &news);
        else
                news = drop_unmet(&manager->sessions, true);
        news |= look_again(manager);
        if (news)
                changed(manager);
        if (r < 0)
                return r;

        *ret_changed = news;
        return 0;
}

/*
 * The host is another one. A CPU that a CPU-wide session had and that has gone off line since is lost to it,
 * also when the CPU is back: perf has taken the event out of its CPU's context. (One that is met for the
 * first time is just ahead of the news of its CPU.)
 */
static void look_at_host(Session *session) {
        bool had = !session->target && !cpuset_is_empty(&session->reach);

        (void)look(session);
        if (had && session->instance && cpuset_is_empty(&session->reach))
                session->detached = true;
}

void sessions_place(Manager *manager) {
        SessionOccupancy before = manager->model.sessions;
        SessionTable *table = &manager->sessions;
        Session *session;

        TAILQ_FOREACH(session, &table->gone, link)
                session->instance = arbitration_find_instance(manager, session->facts.pmu);
        TAILQ_FOREACH(session, &table->all, link) {
                session->instance = arbitration_find_instance(manager, session->facts.pmu);
                look_at_host(session);
        }

        sum_up(manager);
        if (memcmp(&before, &manager->model.sessions, sizeof(before)) != 0)
                manager_mark_dirty(manager, DIRTY_QUEUE | DIRTY_CONTENTION);
}

void sessions_forget_instance(Manager *manager, const Instance *instance) {
        SessionTable *table = &manager->sessions;
        Session *session;

        TAILQ_FOREACH(session, &table->gone, link)
                if (session->instance == instance)
                        session->instance = NULL;
        TAILQ_FOREACH(session, &table->all, link)
                if (session->instance == instance)
                        session->instance = NULL;
}

bool session_is_of(const Session *session, const Owner *owner) {
        SessionTarget *target = session->target;

        if (!target)
                return false;
        if (!owner->cgroup)
                return target->process == owner->pid;

        session_target_look(target);
        return target->cgroup && cgroup_has_path(owner->cgroup, target->cgroup);
}

void sessions_of_owner(const Manager *manager, const Owner *owner, CpuSet *ret_cpus) {
        CpuSet cpus = CPUSET_NULL;
        const SessionTarget *target;
        const Session *session;

        if (owner->cgroup) {
                TAILQ_FOREACH(session, &manager->sessions.all, link)
                        if (session_is_of(session, owner))
                                cpuset_or(&cpus, &session->reach);
        } else {
                target = session_target_find(&manager->sessions, owner->pid);
                if (target)
                        cpus = target->reach;
        }
        *ret_cpus = cpus;
}
