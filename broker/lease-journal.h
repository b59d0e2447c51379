/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the journal gets of leases that are taken back: events with a MESSAGE_ID and fields to search by,
 * listed in spe-broker(8).
 */

#include <stdint.h>

#include "util/rate-limit.h"

typedef struct Lease Lease;
typedef struct VarlinkPeer VarlinkPeer;

typedef enum LeaseJournalKind {
        LEASE_JOURNAL_REVOKING,
        LEASE_JOURNAL_REVOKED,
        LEASE_JOURNAL_RESTORED,
        LEASE_JOURNAL_ENDED,
        LEASE_JOURNAL_KILLED,
        LEASE_JOURNAL_NOT_KILLED,
        _LEASE_JOURNAL_MAX,
} LeaseJournalKind;

/* Of all leases. All zero: nothing was logged. */
typedef struct LeaseJournal {
        RateLimit limits[_LEASE_JOURNAL_MAX];
} LeaseJournal;

/* Its owner has @grace_usec to release it; @by: the administrator who wants that, NULL if it was none. */
void lease_journal_revoking(Lease *lease, uint64_t grace_usec, const VarlinkPeer *by);
/* It holds nothing any more. */
void lease_journal_revoked(Lease *lease);
/* Its revocation is withdrawn. */
void lease_journal_restored(Lease *lease);
/* It was taken back, and has ended because of @reason. */
void lease_journal_ended(Lease *lease, const char *reason);
/* Its owner was sent @sig, or with an @error could not be sent it. */
void lease_journal_killed(Lease *lease, int sig, int error);
