/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Ends. A lease gives back its CPUs when it stops holding them (ended or revoked) and its charge only when it
 * ends: KVM cannot switch a guest's SPE off, so what a revoked lease may have pinned stays pinned until its
 * owner is gone or gives its word.
 */

#include "broker/end.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/encode.h"
#include "broker/events.h"
#include "broker/lease-journal.h"
#include "broker/lease-memlock.h"
#include "broker/manager.h"
#include "broker/settle-contention.h"

/* Waiters may have been waiting for just this. Without any, a release costs no run of settle. */
static void let_waiters_in(Manager *manager) {
        if (manager->leases.n_waiting > 0 || !LIST_EMPTY(&manager->assign_waits))
                manager_mark_dirty(manager, DIRTY_QUEUE);
}

static void give_back_cpus(Manager *manager, Lease *lease) {
        free(steal_ptr(lease->misplacement));
        occupancy_remove(&manager->model.occupancy, lease->request.policy.mode, &lease->cpus);
        contention_may_change(manager, &lease->cpus);
        arbitration_lease_changed(manager, lease);
        let_waiters_in(manager);
}

void lease_end(Manager *manager, Lease *lease, const char *reason) {
        switch (lease->state) {
        case LEASE_STATE_QUEUED:
                if (lease->deadline_usec != UINT64_MAX) {
                        lease_unlink_waiting(lease);
                        manager_mark_dirty(manager, DIRTY_QUEUE); /* its claims go too */
                }
                break;
        case LEASE_STATE_GRANTED:
        case LEASE_STATE_REVOKING:
                give_back_cpus(manager, lease);
                break;
        case LEASE_STATE_REVOKED:
                manager->leases.n_revoked--;
                manager_mark_dirty(manager, DIRTY_CONTENTION);
                let_waiters_in(manager); /* what it was charged is free */
                break;
        case LEASE_STATE_ENDED:
        case _LEASE_STATE_MAX:
        case _LEASE_STATE_INVALID:
                assert(false);
        }

        if (lease->state == LEASE_STATE_REVOKING || lease->state == LEASE_STATE_REVOKED)
                lease_journal_ended(lease, reason);
        if (lease_is_charged(lease)) {
                manager->counters.leases_ended++;
                lease_memlock_refund(lease);
                lease_save_end(manager, lease);
        }
        if (lease->instance && lease->instance->state != INSTANCE_STATE_READY)
                manager_mark_dirty(manager, DIRTY_INSTANCES);

        ledger_refund(&lease->charge);
        lease_unlink_revoking(lease);
        lease_unlink_away(lease);
        lease_unlink_unclaimed(lease);
        lease->state = LEASE_STATE_ENDED;
        lease->contended = false;
        lease->deadline_usec = UINT64_MAX;
        lease_set_reason(lease, reason);
        gatekeeper_owner_changed(manager, lease->owner);

        events_lease(manager, lease, LEASE_CHANGE_ENDED);
        lease_free(lease);
}

void lease_refuse(Manager *manager, Lease *lease, Refusal *refusal) {
        LeaseStream *stream, *next;

        for (stream = LIST_FIRST(&lease->streams); stream; stream = next) {
                next = LIST_NEXT(stream, link);
                if (stream->kind == LEASE_STREAM_FOLLOW)
                        continue;
                encode_refusal_error(stream->call, refusal);
                lease_stream_free(stream);
        }

        lease_end(manager, lease, refusal->message);
        refusal_record(manager, refusal);
}

/* What it waits for, and that it does so no more. NULL: nothing can be said. */
static Refusal *refuse_wait(Manager *manager, const Lease *lease, const char *reason) {
        _cleanup_(refusal_freep) Refusal *refusal = NULL;
        _cleanup_(freep) char *why = NULL;
        Decision decision;

        decide(&manager->model, &lease->request.policy, &manager->claims, false, &decision);
        if (decision.n_refusals == 0 ||
            refusal_new(manager, &lease->request, &decision.refusals[0], &refusal) < 0 ||
            asprintf(&why, "its wait was ended: %s", reason) < 0 || refusal_say_first(refusal, why) < 0)
                return NULL;

        return steal_ptr(refusal);
}

static bool has_bare_wait(const Lease *lease) {
        const LeaseStream *stream;

        LIST_FOREACH(stream, &lease->streams, link)
                if (stream->kind == LEASE_STREAM_WAIT)
                        return true;

        return false;
}

void lease_end_wait(Manager *manager, Lease *lease, const char *reason) {
        Refusal *refusal = has_bare_wait(lease) ? refuse_wait(manager, lease, reason) : NULL;
        LeaseStream *stream, *next;

        for (stream = LIST_FIRST(&lease->streams); refusal && stream; stream = next) {
                next = LIST_NEXT(stream, link);
                if (stream->kind != LEASE_STREAM_WAIT)
                        continue;
                encode_refusal_error(stream->call, refusal);
                lease_stream_free(stream);
        }

        lease_end(manager, lease, reason);
        if (refusal)
                refusal_record(manager, refusal);
}

void lease_fail(Manager *manager, Lease *lease, int error) {
        LeaseStream *stream, *next;

        for (stream = LIST_FIRST(&lease->streams); stream; stream = next) {
                next = LIST_NEXT(stream, link);
                if (stream->kind == LEASE_STREAM_FOLLOW)
                        continue;
                (void)varlink_call_system_error(stream->call, error);
                lease_stream_free(stream);
        }

        lease_end(manager, lease, "it could not be granted");
}

void lease_drop(Lease *lease) {
        lease_unlink_revoking(lease);
        lease_unlink_away(lease);
        lease_unlink_unclaimed(lease);
        lease_unmark_unsaved(lease);
        ledger_refund(&lease->charge);
        lease_free(lease);
}

/* A point in time, and never the one that stands for none. */
static uint64_t add_time(uint64_t now, uint64_t usec) {
        return usec > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + usec;
}

void lease_revoke(Manager *manager, Lease *lease, uint64_t grace_usec, const char *reason, bool kill,
                  const VarlinkPeer *by) {
        uint64_t now = manager_now_monotonic(manager), deadline = add_time(now, grace_usec);

        if (lease->state == LEASE_STATE_REVOKED && !kill && lease->deadline_usec == UINT64_MAX)
                return; /* it has nothing left to take, and nobody is to be killed */

        lease->kill = lease->kill || kill;
        lease->barred = false; /* whoever revokes for that says so afterwards */
        if (lease->deadline_usec == UINT64_MAX || deadline < lease->deadline_usec) {
                lease->deadline_usec = deadline;
                lease->grace_usec = grace_usec;
        }
        if (lease->state == LEASE_STATE_GRANTED)
                lease->state = LEASE_STATE_REVOKING;

        if (reason)
                lease_set_reason(lease, reason);
        lease_link_revoking(lease);
        manager_mark_dirty(manager, DIRTY_DEADLINES);
        lease_journal_revoking(lease, lease->deadline_usec - now, by);
        events_lease(manager, lease,
                     lease->state == LEASE_STATE_REVOKED ? LEASE_CHANGE_REVOKED : LEASE_CHANGE_REVOKING);
}

static void stop_killing(Lease *lease) {
        lease->deadline_usec = UINT64_MAX;
        lease_unlink_revoking(lease);
}

/* By pidfd: never to another process. 0, or an errno; ESRCH: there is nobody (any more). */
static int signal_owner(const Owner *owner, int sig) {
        int r;

        if (owner->cgroup) {
                r = cgroup_kill(owner->cgroup, sig);
                return r > 0 ? ESRCH : -r;
        }

        return syscall(SYS_pidfd_send_signal, owner->pidfd, sig, NULL, 0) < 0 ? errno : 0;
}

/*
 * SIGTERM first, SIGKILL after a second grace. One that must not be killed,
 * as the broker lacks the right, is not tried again until somebody asks for it again.
 */
static void kill_owner(Lease *lease, uint64_t now) {
        int sig = lease->terminated ? SIGKILL : SIGTERM;
        int error = signal_owner(lease->owner->owner, sig);

        if (error != ESRCH) /* it has ended by itself, and the loop will hear of it */
                lease_journal_killed(lease, sig, error);

        if (error != 0 && error != ESRCH) {
                lease->terminated = false;
                stop_killing(lease);
        } else if (lease->terminated) {
                stop_killing(lease);
        } else {
                lease->terminated = true;
                lease->deadline_usec = add_time(now, lease->grace_usec);
        }
}

/* It holds nothing any more, but stays charged. Who has been told of it is told by the caller. */
static void stop_holding(Manager *manager, Lease *lease) {
        give_back_cpus(manager, lease);
        lease_unlink_away(lease);
        lease->state = LEASE_STATE_REVOKED;
        lease->usable = lease->cpus;
        lease->barred = false;
        gatekeeper_owner_changed(manager, lease->owner);
        if (!lease->kill)
                stop_killing(lease);
        manager->leases.n_revoked++;
        manager->counters.leases_revoked++;
        manager_mark_dirty(manager, DIRTY_CONTENTION);
}

static void tell_revoked(Manager *manager, Lease *lease) {
        lease_journal_revoked(lease);
        events_lease(manager, lease, LEASE_CHANGE_REVOKED);
}

void lease_revoked(Manager *manager, Lease *lease) {
        stop_holding(manager, lease);
        tell_revoked(manager, lease);
}

void lease_grace_over(Manager *manager, Lease *lease) {
        bool was_holding = lease->state == LEASE_STATE_REVOKING;

        if (was_holding)
                stop_holding(manager, lease);
        if (lease->kill)
                kill_owner(lease, manager_now_monotonic(manager));

        if (was_holding)
                tell_revoked(manager, lease);
        else
                events_lease(manager, lease, LEASE_CHANGE_UPDATED);
}
