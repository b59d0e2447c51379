/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The directory of leases, run/spe-broker/leases/ below the root: one file for each charged lease, called by
 * its id. A lease is there before anybody hears that it is granted, and gone before anybody hears that it has
 * ended: where it cannot be removed, the end counts all the same, and is forgotten with a broker that dies
 * before it can.
 *
 * What is there is always something that was true, and two files never say what cannot be true at once: a
 * lease that gave up CPUs, or ended, is written, or removed, before others get them. What could not be
 * written or removed (the file system is full, or read-only) is remembered, tried again before everything
 * else, and until then no lease is granted.
 */

#include <stdbool.h>

#include "broker/lease-record.h"
#include "util/cleanup.h"

#define LEASE_STORE_PATH "run/spe-broker/leases"

/* More files than there can be leases (MaxLeases) are not looked at; those set aside are kept up to here. */
#define LEASE_STORE_FILES_MAX (1U << 20)
#define LEASE_STORE_BAD_MAX   4096U

typedef struct LeaseStore LeaseStore;

typedef int (*LeaseStoreFoundFn)(LeaseRecord *record, void *userdata);
typedef void (*LeaseStoreProblemFn)(const char *sentence, void *userdata);

/* Makes the directory if there is none. The root's descriptor is borrowed. */
int lease_store_new(int root_fd, const char *boot_id, LeaseStore **ret_store);
LeaseStore *lease_store_free(LeaseStore *store);
DEFINE_CLEANUP(LeaseStore *, lease_store_free)

/* Writes @lease as it is, whole or not at all: 0 or -errno. */
int lease_store_save(LeaseStore *store, const Lease *lease);

/* Removes the lease's file. What cannot be removed now is so with the next flush. */
void lease_store_remove(LeaseStore *store, const char *lease_id);

/* Tries again what could not be removed: 0 if there is nothing left of it, or -errno. */
int lease_store_flush(LeaseStore *store);

/*
 * Renames the lease's file, which is not believed any more for @reason, a phrase, to ID.bad, so that somebody
 * can look at it; if there are LEASE_STORE_BAD_MAX of those it is removed. @problem is told, whatever
 * happens; what is neither renamed nor removed counts as what could not be removed.
 */
void lease_store_set_aside(LeaseStore *store, const char *lease_id, const char *reason,
                           LeaseStoreProblemFn problem, void *userdata);

/*
 * Calls @found with each good record, oldest lease first. The record is the callee's: it takes what it wants
 * and leaves LEASE_RECORD_NULL or the rest. A file that is not good is set aside, with @problem told a
 * sentence for the journal; temporary files, and files of another boot, are removed. Negative returns of
 * @found end it; it may call lease_store_remove() and lease_store_set_aside() for the record's own lease.
 */
int lease_store_load(LeaseStore *store, LeaseStoreFoundFn found, LeaseStoreProblemFn problem, void *userdata);
