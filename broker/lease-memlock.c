/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which process's limit it is, and what is to be written down or told of it.
 */

#include "broker/lease-memlock.h"

#include "broker/lease.h"
#include "broker/log.h"
#include "broker/manager.h"

/* Of a control group there is no one process whose limit could follow. */
static bool manages(const LeaseOwner *owner) {
        return owner->manager->manages_memlock && !owner->owner->cgroup;
}

void lease_memlock_begin(Lease *lease) {
        memlock_begin(&lease->owner->memlock, lease->owner->owner, manages(lease->owner));
}

/* True if files are to be written. */
static bool take_note(LeaseOwner *owner, MemlockNews news) {
        Lease *lease;

        if (news == MEMLOCK_NEWS_STUCK)
                log_message(LOG_WARNING,
                            "%s (pid %i): RLIMIT_MEMLOCK stays raised after its last lease: without "
                            "CAP_SYS_RESOURCE it cannot be brought back",
                            owner->owner->command, (int)owner->owner->pid);
        if (news == MEMLOCK_NEWS_CHANGED)
                LIST_FOREACH(lease, &owner->leases, owner_link)
                        lease_mark_unsaved(lease);

        return news == MEMLOCK_NEWS_CHANGED;
}

bool lease_memlock_charge(Lease *lease, uint64_t bytes) {
        LeaseOwner *owner = lease->owner;

        return take_note(owner, memlock_charge(&owner->memlock, owner->owner, manages(owner), bytes));
}

void lease_memlock_refund(Lease *lease) {
        LeaseOwner *owner = lease->owner;

        (void)take_note(owner,
                        memlock_refund(&owner->memlock, owner->owner, manages(owner), lease->charge.bytes));
}

void lease_memlock_restore(Lease *lease, const MemlockBase *base) {
        LeaseOwner *owner = lease->owner;

        memlock_restore(&owner->memlock, owner->owner->cgroup ? NULL : base, lease->charge.bytes);
}

void leases_memlock_resume(Manager *manager) {
        Lease *lease;

        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                LeaseOwner *owner = lease->owner;

                if (owner->memlock.resumes)
                        (void)take_note(owner, memlock_resume(&owner->memlock, owner->owner, manages(owner)));
        }
}

/* One that is not charged needs nothing. */
MemlockState lease_memlock_get_state(const Lease *lease) {
        const LeaseOwner *owner = lease->owner;

        if (lease_is_charged(lease))
                return owner->memlock.state;

        return manages(owner) ? MEMLOCK_STATE_ALREADY_ENOUGH : MEMLOCK_STATE_UNMANAGED;
}

const MemlockBase *lease_memlock_get_base(const Lease *lease) {
        const Memlock *memlock = &lease->owner->memlock;

        return memlock->known ? &memlock->base : NULL;
}
