/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A lease's part in RLIMIT_MEMLOCK of its owner's process (broker/memlock.h).
 */

#include <stdint.h>

#include "broker/memlock.h"

typedef struct Manager Manager;
typedef struct Lease Lease;

/* Before the file of a lease that is to be granted is written, which says the base. */
void lease_memlock_begin(Lease *lease);
/* @lease is charged @bytes more, and that is on record. True if its file, and those of its owner's other
 * leases, are to be written anew: they have been marked. */
bool lease_memlock_charge(Lease *lease, uint64_t bytes);
/* A charged lease ends: before its file is removed, or a broker that dies in between leaves a raised limit of
 * which nobody knows. */
void lease_memlock_refund(Lease *lease);
/* A lease is as an earlier broker left it; @base: what its file said, or NULL. */
void lease_memlock_restore(Lease *lease, const MemlockBase *base);
/* After the last one. */
void leases_memlock_resume(Manager *manager);

MemlockState lease_memlock_get_state(const Lease *lease);
/* What the file of @lease is to say; NULL: nothing. */
const MemlockBase *lease_memlock_get_base(const Lease *lease);
