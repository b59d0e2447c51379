/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A lease as it outlives the broker: the text of its state file, and what such a text says.
 *
 *   {"version":1,"bootId":"...","lease":{...},"request":{...},"owner":{...},"state":{...},"sum":"...",
 *    "memlock":{...}}
 *
 * Version 1 is a lease of a process, version 2 one of a control group, whose owner has other members: a build
 * that knows only the first sets it aside, and does not take it for what it is not.
 *
 * "lease" is what the interface said of it when it was written, by the encoder of the replies: for people,
 * and for whoever looks at another machine's tree. What a restart needs stands in request, owner and state,
 * whose members have no defaults: a text that lacks one, has one more, or a value that this build would not
 * have written, is not a record. Neither is one whose sum (broker/record-sum.h) is another: that of the
 * object
 * {"bootId","leaseId","request","owner","state"}, with the members of the three in the order that they have
 * in the file.
 *
 * "memlock", which older builds keep as a member that they do not know, is the limit of locked memory that
 * the owner had before its first lease: {"soft","hard","changed","sum"}, bytes or null, with the sum of
 * {"bootId","leaseId","memlock":{"soft","hard","changed"}}. A record without one, or with one that is not
 * right, is good: then that limit is not known.
 *
 * Members at the top that this build does not know are kept and written back, so that a newer build that adds
 * some finds them again after a downgrade; whatever an older build must understand raises the version.
 */

#include <json-c/json.h>
#include <stddef.h>

#include "broker/lease.h"
#include "varlink/buffer.h"

/*
 * Bytes of one file. The longest list of CPUs, every other one of 4,096, takes 10 KiB and may stand in it
 * nine times: four lists, and in five sentences of reasons.
 */
#define LEASE_RECORD_MAX (256U << 10)
/* Of them, those that members which this build does not know may take: the rest is enough for its own. */
#define LEASE_RECORD_UNKNOWN_MAX (32U << 10)
/* Bytes of a reason; that of a person is shorter, one of the broker's own may hold a list of CPUs. */
#define LEASE_RECORD_REASON_MAX (16U << 10)

enum {
        _LEASE_RECORD_E_SUCCESS,
        LEASE_RECORD_E_BAD,        /* not a record of ours: torn, of another version, impossible values */
        LEASE_RECORD_E_OTHER_BOOT, /* it was good in another boot: there is nothing left of it */
};

/*
 * Who it belongs to: a pid is this process only with this start time (/proc/PID/stat, field 22), and a path
 * this control group only with this id.
 */
typedef struct LeaseRecordOwner {
        pid_t pid; /* 0: a control group */
        uint64_t start_time;
        uid_t uid;
        char *cgroup; /* its path; NULL: a process */
        uint64_t cgroup_id;
        uint64_t unclaimed_deadline_usec; /* UINT64_MAX: a process was in it */
} LeaseRecordOwner;

/* The fields are those of Lease with the same names; strings are the record's own. */
typedef struct LeaseRecord {
        char id[LEASE_ID_LENGTH + 1];
        LeaseRequest request; /* without an owner */
        LeaseRecordOwner owner;
        LeaseState state; /* granted, revoking or revoked */
        char *reason;
        char instance_name[INSTANCE_NAME_MAX + 1];
        unsigned instance_index; /* the N of arm_spe_N */
        uint32_t pmu_type;
        uint32_t now_pmu_type;
        CpuSet cpus;
        CpuSet usable;
        uint64_t buffer_size;
        const char *limited_by;
        uint64_t charge; /* bytes */
        uint64_t since_usec;
        uint64_t deadline_usec; /* CLOCK_MONOTONIC of this boot */
        uint64_t away_deadline_usec;
        uint64_t grace_usec;
        bool barred;
        bool kill;
        bool terminated;
        bool away;
        bool restart_required;
        bool has_memlock;
        bool bad_memlock; /* there is something in its place, which is not believed */
        MemlockBase memlock;
        struct json_object *unknown; /* members to be kept, or NULL */
} LeaseRecord;

#define LEASE_RECORD_NULL ((LeaseRecord){0})
void lease_record_deinit(LeaseRecord *record);

/* Appends the text of a charged @lease, with a newline. 0 or -ENOMEM. */
int lease_record_write(const Lease *lease, const char *boot_id, Buffer *buffer);

/*
 * The record that @n bytes are, for a file called @id. Else LEASE_RECORD_E_BAD or LEASE_RECORD_E_OTHER_BOOT,
 * with *@ret_reason a phrase for the journal.
 */
int lease_record_parse(const char *data, size_t n, const char *id, const char *boot_id,
                       LeaseRecord *ret_record, const char **ret_reason);
