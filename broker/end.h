/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one way out of the model, and the steps on it: revoking, revoked, ended. Every end of a lease, whatever
 * its cause, is lease_end().
 */

#include "broker/lease.h"
#include "broker/refusal.h"

/* Refunds, tells, frees. @reason is a sentence, for the last reply of its followers. */
void lease_end(Manager *manager, Lease *lease, const char *reason);

/* Ends a queued lease with a 'no': calls that wait for it get the error. Takes over @refusal. */
void lease_refuse(Manager *manager, Lease *lease, Refusal *refusal);

/* Ends a queued lease by the word of an administrator. Calls that wait for it, and have no stream on which
 * they could hear @reason, get the 'no' on which they waited; the kept one says it. */
void lease_end_wait(Manager *manager, Lease *lease, const char *reason);

/* Ends a queued lease that there is reason to grant, but which cannot be: calls that wait for it get @error,
 * a -errno. */
void lease_fail(Manager *manager, Lease *lease, int error);

/* Forgets a charged lease, as the process ends. It goes on: nobody is told, and what is on record, in systemd
 * and in the kernel stays as it is. */
void lease_drop(Lease *lease);

/*
 * Begins to take a holding lease back: its owner has @grace_usec to release it. A lease already revoking gets
 * the shorter of the two graces. A @reason of NULL: the one that it has. With @kill, its owner is killed
 * after that: SIGTERM, then SIGKILL after a second grace. @by: the administrator who wants it, or NULL.
 */
void lease_revoke(Manager *manager, Lease *lease, uint64_t grace_usec, const char *reason, bool kill,
                  const VarlinkPeer *by);

/* The last step: the lease holds nothing any more, but stays charged. Its reason has been set. */
void lease_revoked(Manager *manager, Lease *lease);

/* The grace of a revocation, or of a kill, is over. Called by settle alone. */
void lease_grace_over(Manager *manager, Lease *lease);
