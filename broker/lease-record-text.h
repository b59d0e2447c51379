/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What writer and parser of the texts of leases share, and nobody else has to know. broker/lease-record.h has
 * the format.
 */

#include "broker/lease-record.h"
#include "varlink/buffer.h"
#include "varlink/json-write.h"

#define LEASE_RECORD_VERSION        1 /* of a process */
#define LEASE_RECORD_VERSION_CGROUP 2

/* Members of the whole. Those that this build does not know stand behind them. */
#define RECORD_VERSION "version"
#define RECORD_BOOT_ID "bootId"
#define RECORD_LEASE   "lease"
#define RECORD_ID      "leaseId" /* in the lease */
#define RECORD_REQUEST "request"
#define RECORD_OWNER   "owner"
#define RECORD_STATE   "state"
#define RECORD_SUM     "sum"
#define RECORD_MEMLOCK "memlock"

/*
 * What the sum is of: begun with what the file is, so that one of another boot cannot pass for one of this.
 * Whoever calls writes request, owner and state, and ends it with record_sum_finish().
 */
void lease_record_begin_sum(JsonWriter *w, Buffer *buffer, const char *boot_id, const char *id);

/* The member "memlock", if @lease has a base. 0 or -ENOMEM. */
int lease_record_write_memlock(JsonWriter *w, const Lease *lease, const char *boot_id);
/* What @root says of it, if that can be believed. 0 or -ENOMEM. */
int lease_record_read_memlock(struct json_object *root, const char *boot_id, const char *id,
                              LeaseRecord *record);
