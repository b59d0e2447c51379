/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel is told to refuse: at level enforce two sets of CPUs and the owners of guest leases, at
 * level reserve what the broker holds itself. Before a grant CPUs are only ever added; the last pass of
 * settle() then makes it exactly what policy/closed.h says.
 */

#include "broker/arbitration-state.h"
#include "broker/manager.h"

/* Closes @closed in the kernel, and nothing else. */
static void close_in_arbiter(Arbitration *arbitration, const ClosedCpus *closed) {
        const ArbiterClosed sets = {.cpu_wide = closed->cpu_wide, .task_bound = closed->task_bound};

        arbiter_close(arbitration->arbiter, &sets);
        arbitration->closed = *closed;
        arbitration->closed_known = true;
}

static bool is_closed(const ClosedCpus *closed, const ClosedCpus *in) {
        return cpuset_is_subset(&closed->cpu_wide, &in->cpu_wide) &&
               cpuset_is_subset(&closed->task_bound, &in->task_bound);
}

/* What is closed in another arbiter is not known: it may have taken over what an earlier process has left. */
void arbitration_forget_closed(Manager *manager) {
        Arbitration *arbitration = manager->arbitration;
        Lease *lease;

        arbitration->closed = (ClosedCpus){0};
        arbitration->closed_known = false;
        arbitration->deciding = 0;
        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                lease->owner->closed = CPUSET_NULL;
                arbitration_mark_owner(arbitration, lease->owner);
        }
}

int arbitration_close(Manager *manager, const Offer *offer, LeaseOwner *known, OwnerKey key) {
        Arbitration *arbitration = manager->arbitration;
        ClosedCpus closed = arbitration->closed;

        switch (arbitration->choice.level) {
        case ARBITRATION_LEVEL_ENFORCE:
                closed_cpus_add(&closed, offer->mode, &offer->cpus);
                if (!is_closed(&closed, &arbitration->closed))
                        close_in_arbiter(arbitration, &closed);
                if (offer->mode == LEASE_MODE_GUEST)
                        arbitration_close_to_owner(manager, known, key, &offer->cpus);
                break;
        case ARBITRATION_LEVEL_RESERVE:
                manager_mark_dirty(manager, DIRTY_CLOSED);
                return arbitration_hold(manager, offer);
        default:
                return 0;
        }

        manager_mark_dirty(manager, DIRTY_CLOSED);
        return 0;
}

void arbitration_lease_changed(Manager *manager, Lease *lease) {
        Arbitration *arbitration = manager->arbitration;

        if (arbitration->choice.level < ARBITRATION_LEVEL_RESERVE)
                return;

        if (lease->request.policy.mode == LEASE_MODE_GUEST)
                arbitration_mark_owner(arbitration, lease->owner);
        manager_mark_dirty(manager, DIRTY_CLOSED);
}

static void release_all(Manager *manager) {
        const Arbitration *arbitration = manager->arbitration;
        CpuSet kept;

        if (cpuset_is_empty(reserve_get_held(arbitration->reserve)) &&
            cpuset_is_empty(&manager->sessions.unseen))
                return;

        arbitration_settle_held(manager, &CPUSET_NULL, &CPUSET_NULL, &kept);
}

/* *@ret_kept: where what is held is to stay. */
static void settle_closed(Manager *manager, CpuSet *ret_kept) {
        Arbitration *arbitration = manager->arbitration;
        bool known = arbitration->closed_known;
        CpuSet waited = CPUSET_NULL;
        ClosedCpus closed;

        *ret_kept = CPUSET_NULL;
        if (arbitration->choice.level != ARBITRATION_LEVEL_RESERVE)
                release_all(manager);
        if (arbitration->choice.level < ARBITRATION_LEVEL_RESERVE)
                return;

        closed_cpus(&manager->model, &manager->keeping, &closed);
        if (arbitration->choice.level == ARBITRATION_LEVEL_RESERVE) {
                for (LeaseMode mode = 0; mode < _LEASE_MODE_MAX; mode++)
                        if (mode != LEASE_MODE_SHARED)
                                cpuset_or(&waited, &manager->claims.by_mode[mode]);
                arbitration_settle_held(manager, &closed.cpu_wide, &waited, ret_kept);
                return;
        }

        if (!known || !is_closed(&closed, &arbitration->closed) || !is_closed(&arbitration->closed, &closed))
                close_in_arbiter(arbitration, &closed);
        arbitration_settle_owners(manager);
        if (!known) /* what stays closed was so all the time */
                arbitration_open_other_owners(manager);
}

void arbitration_settle(Manager *manager) {
        Arbitration *arbitration = manager->arbitration;
        CpuSet kept;

        settle_closed(manager, &kept);
        fdstore_sync(manager->fdstore, arbitration->arbiter, gatekeeper_get_gate(manager->gatekeeper),
                     arbitration->reserve, &kept);
}
