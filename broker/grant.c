/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Grants, waits and moves. The charge is the only thing here that can fail, so it is booked first; occupancy
 * and the lease's own fields follow and cannot.
 */

#include "broker/grant.h"

#include "broker/events.h"
#include "broker/manager.h"
#include "broker/place.h"
#include "broker/settle-contention.h"

int lease_grant(Manager *manager, Lease *lease, const Offer *offer) {
        Model *model = &manager->model;
        bool waited = lease->deadline_usec != UINT64_MAX;
        int r;

        r = ledger_charge(&model->ledger, lease->request.policy.uid, lease->request.vm, offer->instance,
                          offer->charge, &lease->charge);
        if (r < 0)
                return r;

        occupancy_add(&model->occupancy, offer->mode, &offer->cpus);
        lease_set_wanted(lease, offer);
        lease->instance = offer->instance;
        lease->pmu_type = lease->now_pmu_type = offer->instance->pmu_type;
        lease->state = LEASE_STATE_GRANTED;
        lease->since_usec = manager_now_realtime(manager);
        lease->deadline_usec = UINT64_MAX;
        if (waited)
                lease_unlink_waiting(lease);
        manager->counters.leases_granted++;
        contention_may_change(manager, &lease->cpus);
        arbitration_lease_changed(manager, lease);
        if (manager->leases.n_waiting > 0) /* a limit that is used up now is a refusal to those who wait */
                manager_mark_dirty(manager, DIRTY_QUEUE);

        events_lease(manager, lease, LEASE_CHANGE_GRANTED);
        return 0;
}

void lease_enqueue(Manager *manager, Lease *lease, const Offer *wanted, uint64_t deadline_usec) {
        lease_set_wanted(lease, wanted);
        lease->deadline_usec = deadline_usec;
        lease_link_waiting(lease);
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

void lease_move(Manager *manager, Lease *lease, const CpuSet *cpus) {
        lease_hold(manager, lease, cpus);
        lease_place(manager, lease);
        lease_look(manager, lease);
        events_lease(manager, lease, LEASE_CHANGE_UPDATED);
}
