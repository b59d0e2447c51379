/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Leases are taken back because an administrator or the hardware has it so, not their owners; but one
 * assignment can bar thousands, so JOURNAL_MAX messages of a kind are logged in JOURNAL_INTERVAL_USEC at
 * most, and the next one says how many were left out.
 */

#include "broker/lease-journal.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/lease-reason.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "util/clock.h"

#define JOURNAL_MAX           200U
#define JOURNAL_INTERVAL_USEC (10 * USEC_PER_SEC)

#define MESSAGE_REVOKING   "fd1d9ca691ce449cb09863e36e593b4d"
#define MESSAGE_REVOKED    "eb8264de47d44f738c4c7fe478ac415f"
#define MESSAGE_RESTORED   "52725a5650c4445eb92916800dbe3839"
#define MESSAGE_ENDED      "f6728a1333534dff922e81638c7df161"
#define MESSAGE_KILLED     "d088c5fab3ae46938a83884f71a4f606"
#define MESSAGE_NOT_KILLED "e6aaef5a178b4b568c0a9b2534944e0a"

static const char *const ids[_LEASE_JOURNAL_MAX] = {
        [LEASE_JOURNAL_REVOKING] = MESSAGE_REVOKING, [LEASE_JOURNAL_REVOKED] = MESSAGE_REVOKED,
        [LEASE_JOURNAL_RESTORED] = MESSAGE_RESTORED, [LEASE_JOURNAL_ENDED] = MESSAGE_ENDED,
        [LEASE_JOURNAL_KILLED] = MESSAGE_KILLED,     [LEASE_JOURNAL_NOT_KILLED] = MESSAGE_NOT_KILLED,
};

/* "lease ID of VM NAME", and what @format says of it. */
__attribute__((__format__(__printf__, 5, 6))) static void
tell(Lease *lease, LeaseJournalKind kind, const char *sig, const VarlinkPeer *by, const char *format, ...) {
        char by_pid[LOG_NUMBER_MAX], by_uid[LOG_NUMBER_MAX];
        char pid[LOG_NUMBER_MAX], uid[LOG_NUMBER_MAX], more[LOG_LEFT_OUT_MAX];
        Manager *manager = lease->owner->manager;
        RateLimit *limit = &manager->lease_journal.limits[kind];
        const Owner *owner = lease->owner->owner;
        const LogField fields[] = {
                {"SPE_BROKER_LEASE", lease->id},
                {"SPE_BROKER_VM", lease->request.vm},
                {"SPE_BROKER_INSTANCE", lease->instance_name},
                {"SPE_BROKER_OWNER_PID", owner->cgroup ? NULL : log_number(owner->pid, pid)},
                {"SPE_BROKER_OWNER_CGROUP", owner->cgroup ? owner->cgroup->path : NULL},
                {"SPE_BROKER_OWNER_UID", log_number(owner->uid, uid)},
                {"SPE_BROKER_OWNER_COMMAND", *owner->command ? owner->command : NULL},
                {"SPE_BROKER_SIGNAL", sig},
                {"SPE_BROKER_ADMIN_PID", by ? log_number(by->pid, by_pid) : NULL},
                {"SPE_BROKER_ADMIN_UID", by ? log_number(by->uid, by_uid) : NULL},
        };
        _cleanup_(freep) char *text = NULL;
        va_list ap;
        int n;

        if (!rate_limit_allows(limit, manager_now_monotonic(manager), JOURNAL_MAX, JOURNAL_INTERVAL_USEC))
                return;

        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0)
                text = NULL;

        log_event(kind == LEASE_JOURNAL_NOT_KILLED ? LOG_WARNING : LOG_NOTICE, ids[kind], fields,
                  ELEMENTS_OF(fields), "lease %s of VM %s %s%s", lease->id, lease->request.vm, text ?: "",
                  log_left_out(rate_limit_take_left_out(limit), more));
}

void lease_journal_revoking(Lease *lease, uint64_t grace_usec, const VarlinkPeer *by) {
        char owner[OWNER_TEXT_MAX];

        tell(lease, LEASE_JOURNAL_REVOKING, NULL, by, "is taken back: %s; %s has %.6g s to release it%s",
             lease->reason ?: "no reason is known", owner_format(lease->owner->owner, owner),
             (double)grace_usec / (double)USEC_PER_SEC, lease->kill ? ", and is killed then" : "");
}

void lease_journal_revoked(Lease *lease) {
        _cleanup_(freep) char *reason = lease_explain(lease);

        tell(lease, LEASE_JOURNAL_REVOKED, NULL, NULL, "is revoked: %s", reason ?: lease->reason ?: "");
}

void lease_journal_restored(Lease *lease) {
        tell(lease, LEASE_JOURNAL_RESTORED, NULL, NULL,
             "may stay after all: assignments leave it CPUs again");
}

void lease_journal_ended(Lease *lease, const char *reason) {
        tell(lease, LEASE_JOURNAL_ENDED, NULL, NULL, "was taken back, and has ended: %s", reason);
}

void lease_journal_killed(Lease *lease, int sig, int error) {
        char name[sizeof("SIG") + 16], owner[OWNER_TEXT_MAX];

        (void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(sig));
        owner_format(lease->owner->owner, owner);
        if (error == 0)
                tell(lease, LEASE_JOURNAL_KILLED, name, NULL, "is revoked: %s, which has it, was sent %s",
                     owner, name);
        else
                tell(lease, LEASE_JOURNAL_NOT_KILLED, name, NULL,
                     "is revoked, but %s, which has it, cannot be sent %s: %s", owner, name, strerror(error));
}
