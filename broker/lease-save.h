/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * When the files of leases (broker/lease-store.h) are written: a new lease's before it is granted, one that
 * an owner moves before it is told, and what else changes, which marks the lease unsaved, before any of these
 * and at the end of settle(). So whatever a lease has given up is on record before another one's gain is, and
 * while the first cannot be written nothing is granted.
 */

#include <stdbool.h>
#include <stdint.h>

typedef struct Manager Manager;
typedef struct Lease Lease;

/* What the journal knows of files that cannot be written. */
typedef struct LeaseSaving {
        bool failing;
        uint64_t told_usec; /* CLOCK_MONOTONIC: when that was told last; 0: never */
} LeaseSaving;

/* Writes what is unsaved, and removes what could not be removed. 0 or -errno, which the journal has. */
int leases_save(Manager *manager);

/* Writes @lease alone, after leases_save(). 0 or -errno, which the journal has. */
int lease_save(Manager *manager, Lease *lease);

/* Removes the file of a lease that ends, or has settle() try again. */
void lease_save_end(Manager *manager, Lease *lease);
