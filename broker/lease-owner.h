/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A process that has leases: found by its pid, watched by its pidfd. It exists as long as it has any.
 */

#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "broker/memlock.h"
#include "host/owner.h"
#include "util/cpuset.h"
#include "varlink/server/server.h"

typedef struct Manager Manager;
typedef struct Lease Lease;

typedef struct LeaseOwner {
        Manager *manager;
        Owner *owner;
        sd_event_source *exit_source; /* its pidfd */
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
        void *by_pid; /* tsearch() */
} OwnerTable;

/*
 * The owner of @owner's pid: the one that is there (and @owner is freed), or a new one that takes @owner
 * over, and is to be given a lease.
 */
int lease_owner_get(Manager *manager, Owner **owner, LeaseOwner **ret_owner);
/* The owner entry of @pid, whose process may be dead, or NULL. */
LeaseOwner *lease_owner_find_pid(const OwnerTable *table, pid_t pid);
/* The owner entry of the same process as @owner, or NULL. */
LeaseOwner *lease_owner_find(const OwnerTable *table, const Owner *owner);
/* The owner entry that is this peer's process, or NULL. */
LeaseOwner *lease_owner_find_peer(const OwnerTable *table, const VarlinkPeer *peer);

/* -ENOMEM; an owner without leases is gone then. */
int lease_owner_add(LeaseOwner *owner, Lease *lease);
/* An owner without leases is gone then. */
void lease_owner_remove(Lease *lease);
/* The owner's lease of that request id, or NULL. */
Lease *lease_owner_find_request(const LeaseOwner *owner, char *request_id);
