/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A lease is contended for two causes, and both are found here: a host session that stands against it, and
 * for an exclusive one a revoked lease whose guest may go on profiling. A revoked one is contended by the
 * same exclusive one, and by CPU-wide sessions, which its guest may leave with holes as before. Who is
 * contended follows from sums, however many leases and sessions there are; they are walked only to name the
 * one that a lease is told of, the oldest.
 */

#include "broker/settle-contention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/events.h"
#include "broker/manager.h"
#include "broker/session-journal.h"
#include "broker/session-table.h"

/* So many sessions and leases are looked at in one pass to name those that stand against leases. */
#define NAMING_MAX 100000U

typedef struct Pass {
        Manager *manager;
        CpuSet guest_cpus; /* those that assignments keep for guests */
        CpuSet revoked;    /* where revoked leases are */
        CpuSet revoked_unshared;
        unsigned naming_left;
} Pass;

void contention_may_change(Manager *manager, const CpuSet *cpus) {
        const SessionOccupancy *sessions = &manager->model.sessions;

        if (manager->leases.n_revoked > 0 || cpuset_intersects(cpus, &sessions->cpu_wide) ||
            cpuset_intersects(cpus, &sessions->task_bound))
                manager_mark_dirty(manager, DIRTY_CONTENTION);
}

static bool is_protected(const Lease *lease) {
        return lease_is_holding(lease) && lease->request.policy.mode != LEASE_MODE_SHARED;
}

/* The oldest session that stands against @lease, and where; NULL: none could be found in the time there is.
 */
static const Session *find_session(Pass *pass, const Lease *lease, CpuSet *ret_cpus) {
        bool revoked = lease->state == LEASE_STATE_REVOKED;
        const Session *session;

        TAILQ_FOREACH(session, &pass->manager->sessions.all, link) {
                bool of_owner = session_is_of(session, lease->owner->owner);

                if (pass->naming_left == 0)
                        return NULL;
                pass->naming_left--;
                if (session->facts.entering || (revoked && session->kind != SESSION_KIND_CPU))
                        continue;
                session_conflicts(session->kind, &session->reach, of_owner, lease->request.policy.mode,
                                  &lease->cpus, &pass->guest_cpus, ret_cpus);
                if (!cpuset_is_empty(ret_cpus))
                        return session;
        }

        return NULL;
}

/* The sentence that a lease is told; NULL without memory. */
static char *name_session(const Session *session, const CpuSet *cpus, const CpuSet *unseen) {
        char text[CPUSET_TEXT_MAX];
        char *sentence;
        int n;

        cpuset_format(cpus, text, sizeof(text));
        if (!session && cpuset_is_subset(cpus, unseen))
                n = asprintf(&sentence, "somebody whom the broker cannot see has a host session on CPUs %s",
                             text);
        else if (!session)
                n = asprintf(&sentence, "host sessions reach CPUs %s", text);
        else if (session->kind == SESSION_KIND_CPU)
                n = asprintf(&sentence,
                             "%s (pid %i) samples CPU %s: that has holes wherever the guest profiles",
                             session->facts.command, (int)session->facts.pid, text);
        else
                n = asprintf(&sentence, "%s (pid %i) samples thread %i on CPUs %s", session->facts.command,
                             (int)session->facts.pid, (int)session->facts.target_thread, text);

        return n < 0 ? NULL : sentence;
}

/* Of a revoked lease and an exclusive one on the same CPUs, the other one than @lease; NULL: none could be
 * found in the time there is. */
static const Lease *find_lease(Pass *pass, const Lease *lease) {
        bool revoked = lease->state == LEASE_STATE_REVOKED;
        const Lease *other;

        TAILQ_FOREACH(other, &pass->manager->leases.all, link) {
                bool stands = revoked ? lease_is_holding(other) &&
                                                other->request.policy.mode == LEASE_MODE_EXCLUSIVE
                                      : other->state == LEASE_STATE_REVOKED;

                if (pass->naming_left == 0)
                        return NULL;
                pass->naming_left--;
                if (stands && cpuset_intersects(&other->cpus, &lease->cpus))
                        return other;
        }

        return NULL;
}

/* The sentence that @lease is told of it; NULL without memory. */
static char *name_lease(const Lease *lease, const Lease *other) {
        bool revoked = lease->state == LEASE_STATE_REVOKED;
        char text[CPUSET_TEXT_MAX], owner[OWNER_TEXT_MAX], *sentence;
        CpuSet cpus = lease->cpus;
        int n;

        if (!other)
                return strdup(revoked ? "others have exclusive leases of its CPUs"
                                      : "VMs whose leases are revoked may go on profiling on its CPUs");

        cpuset_and(&cpus, &other->cpus);
        cpuset_format(&cpus, text, sizeof(text));
        owner_format_short(other->owner->owner, owner);
        n = revoked ? asprintf(&sentence, "VM %s has an exclusive lease of CPUs %s (lease %s, %s)",
                               other->request.vm, text, other->id, owner)
                    : asprintf(&sentence,
                               "VM %s, whose lease is revoked, may go on profiling on CPUs %s (lease %s, %s)",
                               other->request.vm, text, other->id, owner);
        return n < 0 ? NULL : sentence;
}

/* Replaces the sentence that was told; true if it is another one. */
static bool replace(char **sentence, char *other) {
        bool news = strcmp(*sentence ?: "", other ?: "") != 0;

        free(*sentence);
        *sentence = other;
        return news;
}

/* Writes down whether @lease is contended and why; true if that is news. */
static bool write_down(Pass *pass, Lease *lease, bool by_lease, const CpuSet *by_sessions) {
        bool contended = by_lease || !cpuset_is_empty(by_sessions);
        char *sentence = NULL;
        const Session *session = NULL;
        CpuSet cpus = *by_sessions;
        bool news, session_news;

        if (!cpuset_is_empty(by_sessions)) {
                session = find_session(pass, lease, &cpus);
                sentence =
                        name_session(session, session ? &cpus : by_sessions, &pass->manager->sessions.unseen);
        }

        session_news = replace(&lease->contention, sentence);
        news = replace(&lease->contention_by_lease,
                       by_lease ? name_lease(lease, find_lease(pass, lease)) : NULL);
        if (session_news)
                session_journal_lease(pass->manager, lease, session, lease->contention);
        news |= session_news || lease->contended != contended;
        lease->contended = contended;
        return news;
}

/* Where sessions on the threads of the lease's owner reach, that the kernel has decided on. Their targets
 * know from now on that it has the lease. */
static void find_own(Pass *pass, const Lease *lease, CpuSet *ret_cpus) {
        const Owner *owner = lease->owner->owner;
        SessionTable *table = &pass->manager->sessions;
        CpuSet cpus = CPUSET_NULL;
        SessionTarget *target;
        Session *session;

        if (owner->cgroup) {
                TAILQ_FOREACH(session, &table->all, link) {
                        if (!session_is_of(session, owner))
                                continue;
                        cpuset_or(&cpus, &session->target->admitted);
                        cpuset_or(&session->target->leased, &lease->cpus);
                }
        } else {
                target = session_target_find(table, owner->pid);
                if (target) {
                        cpus = target->admitted;
                        cpuset_or(&target->leased, &lease->cpus);
                }
        }
        *ret_cpus = cpus;
}

static bool settle_lease(Pass *pass, Lease *lease) {
        const CpuSet *exclusive = &pass->manager->model.occupancy.held[LEASE_MODE_EXCLUSIVE];
        LeaseMode mode = lease->request.policy.mode;
        CpuSet by_sessions = CPUSET_NULL;
        bool by_lease;
        CpuSet unseen;

        if (lease->state == LEASE_STATE_REVOKED)
                by_lease = cpuset_intersects(&lease->cpus, exclusive);
        else
                by_lease = mode == LEASE_MODE_EXCLUSIVE && cpuset_intersects(&lease->cpus, &pass->revoked);

        if (lease->state == LEASE_STATE_REVOKED && mode != LEASE_MODE_SHARED) {
                by_sessions = pass->manager->sessions.admitted.cpu_wide;
                cpuset_and(&by_sessions, &lease->cpus);
        }

        if (is_protected(lease) && pass->manager->sessions.n > 0) {
                CpuSet own;

                find_own(pass, lease, &own);
                session_occupancy_conflicts(&pass->manager->sessions.admitted, mode, &own, &pass->guest_cpus,
                                            &by_sessions);
                cpuset_and(&by_sessions, &lease->cpus);
        }

        if (is_protected(lease)) {
                unseen = pass->manager->sessions.unseen;
                cpuset_and(&unseen, &lease->cpus);
                cpuset_or(&by_sessions, &unseen);
        }

        return write_down(pass, lease, by_lease, &by_sessions);
}

/* The other side of the same: which sessions stand against any lease. */
static void settle_sessions(Pass *pass) {
        const CpuSet *held = pass->manager->model.occupancy.held;
        CpuSet task_bound = held[LEASE_MODE_GUEST], cpu_wide = held[LEASE_MODE_GUEST];
        SessionTable *table = &pass->manager->sessions;
        Session *session;

        cpuset_and(&task_bound, &pass->guest_cpus);
        cpuset_or(&task_bound, &held[LEASE_MODE_EXCLUSIVE]);
        cpuset_or(&cpu_wide, &held[LEASE_MODE_EXCLUSIVE]);
        cpuset_or(&cpu_wide, &pass->revoked_unshared);

        TAILQ_FOREACH(session, &table->all, link) {
                bool stands = session->target
                                      ? cpuset_intersects(&session->reach, &task_bound) ||
                                                cpuset_intersects(&session->reach, &session->target->leased)
                                      : cpuset_intersects(&session->reach, &cpu_wide);

                session->contended = stands && !session->facts.entering;
                table->news |= session->contended != session->told_contended;
        }
}

static void pass_begin(Manager *manager, Pass *ret_pass) {
        Pass pass = {.manager = manager, .naming_left = NAMING_MAX};
        const Lease *lease;

        assignment_table_owned_by(&manager->model.assignments, ASSIGNMENT_OWNER_GUEST, &pass.guest_cpus);
        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                if (lease->state != LEASE_STATE_REVOKED)
                        continue;
                cpuset_or(&pass.revoked, &lease->cpus);
                if (lease->request.policy.mode != LEASE_MODE_SHARED)
                        cpuset_or(&pass.revoked_unshared, &lease->cpus);
        }

        *ret_pass = pass;
}

void contention_begin(Manager *manager, Lease *lease) {
        Pass pass;

        if (!(manager->dirty & DIRTY_CONTENTION))
                return;

        pass_begin(manager, &pass);
        lease->contention_untold = settle_lease(&pass, lease);
}

void settle_contention(Manager *manager) {
        Session *session;
        Lease *lease;
        Pass pass;

        pass_begin(manager, &pass);
        TAILQ_FOREACH(session, &manager->sessions.all, link)
                if (session->target)
                        session->target->leased = CPUSET_NULL;

        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                bool news = lease_is_charged(lease) && settle_lease(&pass, lease);

                if (!news && !lease->contention_untold)
                        continue;
                lease->contention_untold = false;
                events_lease(manager, lease,
                             lease->contended ? LEASE_CHANGE_CONTENDED : LEASE_CHANGE_UNCONTENDED);
        }
        settle_sessions(&pass);
}
