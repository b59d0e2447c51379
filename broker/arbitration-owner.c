/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A guest lease is also kept free of sessions on its owner's own threads, which nothing else shows: those are
 * scheduled in just where a VCPU runs. The kernel is told the owner and the CPUs of all its guest leases.
 *
 * An owner that has no lease yet is told of before it gets one, and remembered as the one that is being
 * decided on, until settle() sees whether it did.
 */

#include <string.h>

#include "broker/arbitration-state.h"
#include "broker/log.h"
#include "broker/manager.h"

/* Closes @cpus to sessions on @owner's own threads. That there is no room for it harms nobody but the owner.
 */
static void close_to_owner(Arbitration *arbitration, OwnerKey owner, const CpuSet *cpus) {
        int r;

        r = arbiter_close_owner(arbitration->arbiter, owner, cpus);
        if (r == 0 || arbitration->told_owner)
                return;

        arbitration->told_owner = true;
        log_message(LOG_WARNING,
                    "host sessions on the threads of VMMs with leases are not refused any more: %s",
                    strerror(-r));
}

/* The CPUs of guest leases that @owner has. */
static void cpus_of_owner(const LeaseOwner *owner, CpuSet *ret_cpus) {
        const Lease *lease;

        *ret_cpus = CPUSET_NULL;
        LIST_FOREACH(lease, &owner->leases, owner_link)
                if (lease_is_holding(lease) && lease->request.policy.mode == LEASE_MODE_GUEST)
                        cpuset_or(ret_cpus, &lease->cpus);
}

static void settle_owner(Arbitration *arbitration, LeaseOwner *owner) {
        CpuSet cpus;

        cpus_of_owner(owner, &cpus);
        if (cpuset_equal(&cpus, &owner->closed))
                return;

        owner->closed = cpus;
        close_to_owner(arbitration, owner->key, &cpus);
}

void arbitration_mark_owner(Arbitration *arbitration, LeaseOwner *owner) {
        if (owner->stale)
                return;

        LIST_INSERT_HEAD(&arbitration->stale_owners, owner, stale_link);
        owner->stale = true;
}

static void unmark_owner(LeaseOwner *owner) {
        if (!owner->stale)
                return;

        LIST_REMOVE(owner, stale_link);
        owner->stale = false;
}

/* Whoever was decided on last has the lease by now, or does not get it. */
static void settle_deciding(Manager *manager) {
        Arbitration *arbitration = manager->arbitration;
        LeaseOwner *owner;

        if (arbitration->deciding == 0)
                return;

        owner = lease_owner_find_key(&manager->owners, arbitration->deciding);
        if (owner) {
                cpuset_or(&owner->closed, &arbitration->deciding_cpus);
                settle_owner(arbitration, owner);
        } else {
                close_to_owner(arbitration, arbitration->deciding, &CPUSET_NULL);
        }
        arbitration->deciding = 0;
}

void arbitration_settle_owners(Manager *manager) {
        Arbitration *arbitration = manager->arbitration;
        LeaseOwner *owner;

        settle_deciding(manager);
        while ((owner = LIST_FIRST(&arbitration->stale_owners))) {
                unmark_owner(owner);
                settle_owner(arbitration, owner);
        }
}

/* @cpus are closed to sessions on the owner's threads as soon as this returns, besides those that were. */
void arbitration_close_to_owner(Manager *manager, LeaseOwner *known, OwnerKey key, const CpuSet *cpus) {
        Arbitration *arbitration = manager->arbitration;
        CpuSet *closed = known ? &known->closed : &arbitration->deciding_cpus;

        if (known) {
                arbitration_mark_owner(arbitration, known);
        } else if (arbitration->deciding != key) {
                settle_deciding(manager);
                arbitration->deciding = key;
                arbitration->deciding_cpus = CPUSET_NULL;
        }
        if (cpuset_is_subset(cpus, closed))
                return;

        cpuset_or(closed, cpus);
        close_to_owner(arbitration, key, closed);
}

/* Owners that have guest leases. What is closed for them has just been told. */
static bool is_closed_to(OwnerKey key, void *userdata) {
        const LeaseOwner *owner = lease_owner_find_key(userdata, key);

        return owner && !cpuset_is_empty(&owner->closed);
}

void arbitration_open_other_owners(Manager *manager) {
        int r = arbiter_open_owners(manager->arbitration->arbiter, is_closed_to, &manager->owners);

        if (r < 0)
                log_message(LOG_WARNING,
                            "sessions on the threads of processes that had leases before may go on being "
                            "refused: %s",
                            strerror(-r));
}

void arbitration_owner_gone(Manager *manager, LeaseOwner *owner) {
        Arbitration *arbitration = manager->arbitration;
        CpuSet cpus = CPUSET_NULL;

        if (!arbitration)
                return; /* the broker ends, and the lease does not */

        unmark_owner(owner);
        if (cpuset_is_empty(&owner->closed))
                return;

        /* Another process may have the pid by now, and be about to get a lease. */
        if (arbitration->deciding == owner->key)
                cpus = arbitration->deciding_cpus;
        close_to_owner(arbitration, owner->key, &cpus);
}
