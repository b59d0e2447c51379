/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Grants, waits and updates. What can fail is the charge and the lease's file. Both come first, the file with
 * the lease as it is going to be, and are undone if they fail; whatever the rest of the broker goes by
 * follows and cannot.
 */

#include "broker/grant.h"

#include "broker/events.h"
#include "broker/lease-memlock.h"
#include "broker/manager.h"
#include "broker/place.h"
#include "broker/settle-contention.h"

/* Charges @lease, and writes its file. */
static int prepare(Manager *manager, Lease *lease, const Offer *offer) {
        uint64_t since_usec = lease->since_usec, deadline_usec = lease->deadline_usec;
        int r;

        r = leases_save(manager);
        if (r < 0)
                return r;
        r = ledger_charge(&manager->model.ledger, lease->request.policy.uid, lease->request.vm,
                          offer->instance, offer->charge, &lease->charge);
        if (r < 0)
                return r;

        lease_set_wanted(lease, offer);
        lease->instance = offer->instance;
        lease->pmu_type = lease->now_pmu_type = offer->instance->pmu_type;
        lease->state = LEASE_STATE_GRANTED;
        lease->since_usec = manager_now_realtime(manager);
        lease->deadline_usec = UINT64_MAX;
        if (!lease->owner->claimed)
                lease_link_unclaimed(lease, manager_now_monotonic(manager) + LEASE_UNCLAIMED_USEC);
        lease_memlock_begin(lease);
        r = lease_save(manager, lease);
        if (r == 0)
                return 0;

        lease_unlink_unclaimed(lease);
        ledger_refund(&lease->charge);
        lease->instance = NULL;
        lease->state = LEASE_STATE_QUEUED;
        lease->since_usec = since_usec;
        lease->deadline_usec = deadline_usec;
        return r;
}

int lease_grant(Manager *manager, Lease *lease, const Offer *offer) {
        bool waited = lease->deadline_usec != UINT64_MAX;
        int r;

        r = prepare(manager, lease, offer);
        if (r < 0)
                return r;

        owner_store_add(manager->owner_store, lease->owner->owner);
        occupancy_add(&manager->model.occupancy, offer->mode, &offer->cpus);
        (void)lease_memlock_charge(lease, lease->charge.bytes);
        if (waited)
                lease_unlink_waiting(lease);
        manager->counters.leases_granted++;
        contention_may_change(manager, &lease->cpus);
        arbitration_lease_changed(manager, lease);
        gatekeeper_owner_changed(manager, lease->owner);
        if (lease->unclaimed_linked)
                manager_mark_dirty(manager, DIRTY_DEADLINES);
        if (manager->leases.n_waiting > 0) /* a limit that is used up now is a refusal to those who wait */
                manager_mark_dirty(manager, DIRTY_QUEUE);

        contention_begin(manager, lease);
        events_lease(manager, lease, LEASE_CHANGE_GRANTED);
        return 0;
}

void lease_enqueue(Manager *manager, Lease *lease, const Offer *wanted, uint64_t deadline_usec,
                   QuotaToken *token) {
        lease_set_wanted(lease, wanted);
        lease->deadline_usec = deadline_usec;
        lease_link_waiting(lease, token);
        claims_add(&manager->claims, wanted->mode, &wanted->cpus);
        if (arbitration_get_level(manager->arbitration) > ARBITRATION_LEVEL_NONE) {
                lease->keep_usec = manager_now_monotonic(manager) + ARBITRATION_KEEP_USEC;
                claims_add(&manager->keeping, wanted->mode, &wanted->cpus);
                arbitration_settle(manager); /* before anybody is told */
        }
        manager_mark_dirty(manager, DIRTY_DEADLINES);

        events_lease(manager, lease, LEASE_CHANGE_QUEUED);
}

void lease_hold(Manager *manager, Lease *lease, const CpuSet *cpus) {
        Occupancy *occupancy = &manager->model.occupancy;
        LeaseMode mode = lease->request.policy.mode;

        occupancy_remove(occupancy, mode, &lease->cpus);
        occupancy_add(occupancy, mode, cpus);
        contention_may_change(manager, &lease->cpus);
        lease->cpus = *cpus;
        contention_may_change(manager, &lease->cpus);
        arbitration_lease_changed(manager, lease);

        manager_mark_dirty(manager, DIRTY_QUEUE | (lease->barred ? DIRTY_ASSIGNMENTS : 0));
}

static void move(Manager *manager, Lease *lease, const CpuSet *cpus) {
        lease_hold(manager, lease, cpus);
        lease_place(manager, lease);
        lease_look(manager, lease);
}

/* Has it be where @before was: on other CPUs of the same SPU. */
static void move_back(Manager *manager, Lease *lease, const Lease *before) {
        lease_hold(manager, lease, &before->cpus);
        lease->pmu_type = before->pmu_type;
        lease->now_pmu_type = before->now_pmu_type;
        lease->restart_required = before->restart_required;
        lease_look(manager, lease);
        lease->away_deadline_usec = before->away_deadline_usec;
}

int lease_update(Manager *manager, Lease *lease, const CpuSet *cpus, uint64_t more) {
        const Lease before = *lease;
        bool outdated;
        int r;

        r = leases_save(manager);
        if (r < 0)
                return r;
        r = ledger_change(&lease->charge, before.charge.bytes + more);
        if (r < 0)
                return r;

        if (cpus)
                move(manager, lease, cpus);
        r = lease_save(manager, lease);
        if (r < 0) {
                if (cpus)
                        move_back(manager, lease, &before);
                (void)ledger_change(&lease->charge, before.charge.bytes);
                return r;
        }

        outdated = more > 0 && lease_memlock_charge(lease, more);
        if (more > 0 && manager->leases.n_waiting > 0)
                manager_mark_dirty(manager, DIRTY_QUEUE);
        gatekeeper_owner_changed(manager, lease->owner);
        events_lease(manager, lease, LEASE_CHANGE_UPDATED);
        if (!outdated)
                lease_unmark_unsaved(lease); /* as just said, it is on record */
        return 0;
}
