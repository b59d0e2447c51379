/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The second pass of settle. All that has happened to a lease (its SPU went, came back under another name,
 * its CPUs went off line, were assigned to others) is worked out first and told as one change, so that a
 * follower never sees half of it.
 */

#include "broker/settle-leases.h"

#include <stdlib.h>
#include <string.h>

#include "broker/end.h"
#include "broker/events.h"
#include "broker/grant.h"
#include "broker/lease-journal.h"
#include "broker/manager.h"
#include "broker/place.h"

/* What is told of a lease, or is on record, and can change without anybody asking. */
typedef struct View {
        const Instance *instance;
        uint32_t pmu_type;
        uint32_t given_pmu_type;
        CpuSet cpus;
        CpuSet usable;
        char *reason;
        bool away;
        uint64_t away_deadline_usec;
        bool restart_required;
} View;

static void view_deinit(View *view) {
        free(view->reason);
}

static void view_init(const Lease *lease, View *ret_view) {
        *ret_view = (View){
                .instance = lease->instance,
                .pmu_type = lease->now_pmu_type,
                .given_pmu_type = lease->pmu_type,
                .cpus = lease->cpus,
                .usable = lease->usable,
                .reason = lease->reason ? strdup(lease->reason) : NULL,
                .away = lease->away,
                .away_deadline_usec = lease->away_deadline_usec,
                .restart_required = lease->restart_required,
        };
}

/* The change from @before to what @lease is now; LEASE_CHANGE_NONE if it is the same. */
static LeaseChange find_change(const Lease *lease, const View *before, bool allowed_again) {
        bool moved = lease->instance != before->instance ||
                     (!lease->away && lease->now_pmu_type != before->pmu_type);
        bool worse = lease->away || lease->restart_required;
        bool better = allowed_again || (before->away && !lease->away) ||
                      (before->restart_required && !lease->restart_required);

        if (lease->state == LEASE_STATE_GRANTED && !worse && (better || moved))
                return LEASE_CHANGE_RESTORED;
        if (moved || allowed_again || lease->away != before->away ||
            lease->restart_required != before->restart_required)
                return LEASE_CHANGE_UPDATED;
        if (!cpuset_equal(&lease->usable, &before->usable))
                return LEASE_CHANGE_CPUS;
        if (strcmp(lease->reason ?: "", before->reason ?: "") != 0)
                return LEASE_CHANGE_UPDATED;

        return LEASE_CHANGE_NONE;
}

/* True if its file does not say any more what it is. Not all of that is told. */
static bool is_other(const Lease *lease, const View *before) {
        return lease->instance != before->instance || lease->now_pmu_type != before->pmu_type ||
               lease->pmu_type != before->given_pmu_type || !cpuset_equal(&lease->cpus, &before->cpus) ||
               !cpuset_equal(&lease->usable, &before->usable) || lease->away != before->away ||
               lease->away_deadline_usec != before->away_deadline_usec ||
               lease->restart_required != before->restart_required ||
               strcmp(lease->reason ?: "", before->reason ?: "") != 0;
}

/* Assignments leave it no CPU. One that is revoking for another reason keeps that reason, and its deadline.
 */
static void bar(Manager *manager, Lease *lease) {
        lease->affected_generation = manager->settle_generation;
        lease_revoke(manager, lease, manager->config->revoke_grace_usec,
                     "all its CPUs are assigned to others now", false, NULL);
        lease->barred = true;
}

/* It may stay, having been on its way out because of assignments. */
static void unbar(Lease *lease) {
        lease->state = LEASE_STATE_GRANTED;
        lease->barred = false;
        lease->deadline_usec = UINT64_MAX;
        lease_unlink_revoking(lease);
}

/* Has it hold only what assignments leave it. False if that is nothing. */
static bool keep(Manager *manager, Lease *lease) {
        CpuSet kept;

        decide_keep(&manager->model, &lease->request.policy, &lease->cpus, &kept);
        if (cpuset_is_empty(&kept))
                return false;

        if (!cpuset_equal(&kept, &lease->cpus)) {
                lease->affected_generation = manager->settle_generation;
                lease_hold(manager, lease, &kept);
        }
        return true;
}

static void tell(Manager *manager, Lease *lease, const View *before, bool allowed_again) {
        LeaseChange change = find_change(lease, before, allowed_again);

        if (change != LEASE_CHANGE_NONE)
                events_lease(manager, lease, change);
}

static void settle_lease(Manager *manager, Lease *lease) {
        _cleanup_(view_deinit) View before;
        bool allowed = true;

        view_init(lease, &before);
        lease_place(manager, lease);
        if (lease_is_holding(lease))
                allowed = keep(manager, lease);
        lease_look(manager, lease);
        if (is_other(lease, &before)) {
                lease_mark_unsaved(lease);
                gatekeeper_owner_changed(manager, lease->owner);
        }

        if (!allowed && lease->state == LEASE_STATE_GRANTED) {
                bar(manager, lease);
                return;
        }
        if (lease->away_deadline_usec <= manager_now_monotonic(manager))
                return; /* without a grace: it is revoked in a moment, and that is what is told */

        if (allowed && lease->barred) {
                /* Two things: what it has now, and that it may keep it. */
                tell(manager, lease, &before, false);
                view_deinit(&before);
                unbar(lease);
                lease_journal_restored(lease);
                lease_look(manager, lease);
                view_init(lease, &before);
                tell(manager, lease, &before, true);
                return;
        }

        tell(manager, lease, &before, false);
}

void settle_leases(Manager *manager) {
        Lease *lease;

        TAILQ_FOREACH(lease, &manager->leases.all, link)
                if (lease_is_charged(lease))
                        settle_lease(manager, lease);
}
