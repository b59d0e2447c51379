/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The ways into the model. Each prepares all that can fail first; from the commit on nothing can, so a grant
 * is whole or has not happened.
 */

#include "broker/events.h"
#include "broker/lease.h"
#include "policy/decide.h"

/*
 * Turns a queued @lease into a granted one on the terms of @offer, and tells its followers and the watchers.
 * Calls that waited for it are answered. It is on record then, with all that others gave up for it; -errno if
 * that cannot be, or -ENOMEM, with nothing changed.
 */
int lease_grant(Manager *manager, Lease *lease, const Offer *offer);

/* Puts a queued @lease behind the earlier waiters, until @deadline_usec (CLOCK_MONOTONIC). Takes over @token.
 */
void lease_enqueue(Manager *manager, Lease *lease, const Offer *wanted, uint64_t deadline_usec,
                   QuotaToken *token);

/* Has a holding lease hold @cpus instead of those that it holds. Cannot fail: CPUs cost nothing. */
void lease_hold(Manager *manager, Lease *lease, const CpuSet *cpus);

/*
 * Moves a holding lease to @cpus of its instance (NULL: it stays), and charges it @more bytes, as it was
 * asked to and as has been decided; and tells, once it is on record. -errno if that cannot be, with nothing
 * changed.
 */
int lease_update(Manager *manager, Lease *lease, const CpuSet *cpus, uint64_t more);
