/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who has leases: a process, found by its pid and watched by its pidfd, or a control group, found by its id
 * and watched by its cgroup.events. It exists as long as it has any.
 *
 * A group is claimed once a process has been seen in it or below it; when none is any more, it is gone, as a
 * process is at its end. Until it is claimed, a granted lease of it has a deadline. (That it was empty for a
 * moment and is not any more need not be seen: it is the same owner still.)
 */

#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "bpf/arbiter.h"
#include "broker/memlock.h"
#include "host/owner.h"
#include "util/cpuset.h"
#include "varlink/server/server.h"

typedef struct Manager Manager;
typedef struct Lease Lease;

/* So long a granted lease waits for the first process in its control group. */
#define LEASE_UNCLAIMED_USEC UINT64_C(30000000)

typedef struct LeaseOwner {
        Manager *manager;
        Owner *owner;
        OwnerKey key;                 /* lease_owner_key() */
        sd_event_source *exit_source; /* its pidfd, or its cgroup.events */
        bool claimed;                 /* a process always is */
        LIST_HEAD(, Lease) leases;
        CpuSet closed; /* to sessions on its threads, in the kernel */
        bool stale;    /* these may be other CPUs now */
        LIST_ENTRY(LeaseOwner) stale_link;
        TAILQ_ENTRY(LeaseOwner) look_link; /* Misplaced.owners */
        uint64_t looked_usec;              /* CLOCK_MONOTONIC: at its threads; or when it came */
        Memlock memlock;                   /* its limit of locked memory */
        struct GateOwner *admitted;        /* by the gate in the kernel; NULL: to nothing */
        void *by_request;                  /* those that have a request id; tsearch() */
} LeaseOwner;

typedef struct OwnerTable {
        void *by_key; /* tsearch() */
} OwnerTable;

/* What it is found by, and what the kernel's programs know it as: its pid, or its group's id. */
OwnerKey lease_owner_key(const Owner *owner);

/*
 * The owner of @owner's key: the one that is there (and @owner is freed), or a new one that takes @owner
 * over, and is to be given a lease.
 */
int lease_owner_get(Manager *manager, Owner **owner, LeaseOwner **ret_owner);
/* The owner entry of @key, which may be gone, or NULL. */
LeaseOwner *lease_owner_find_key(const OwnerTable *table, OwnerKey key);
/* The owner entry of the same process, or group, as @owner, which is another object, or NULL. One that has
 * ended is not, even if the loop has yet to hear of it: its leases end now, before its successor has any. */
LeaseOwner *lease_owner_find(Manager *manager, const Owner *owner);
/* The owner entry that is this peer's process, or NULL. */
LeaseOwner *lease_owner_find_peer(const OwnerTable *table, const VarlinkPeer *peer);
/* Whether this peer's process is the owner, or is in the control group that is. */
bool lease_owner_is_peer(const LeaseOwner *owner, const VarlinkPeer *peer);

/* -ENOMEM; an owner without leases is gone then. */
int lease_owner_add(LeaseOwner *owner, Lease *lease);
/* An owner without leases is gone then. */
void lease_owner_remove(Lease *lease);
/* The owner's lease of that request id, or NULL. */
Lease *lease_owner_find_request(const LeaseOwner *owner, char *request_id);
