/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which owner may set what on its VCPUs. A lease that holds its CPUs admits its owner: to what compares
 * nothing, to a buffer as large as the largest of its leases has, and to the SPUs that these are told to use.
 * One that is revoked, or whose SPU is gone, admits it to no SPU.
 *
 * The kernel's table is only told of what has changed, one system call for each.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/gatekeeper-state.h"
#include "broker/log.h"
#include "broker/manager.h"

static void complain(Gatekeeper *gatekeeper, const LeaseOwner *owner, int r) {
        char text[OWNER_TEXT_MAX];

        if (r < 0 && !gatekeeper->told)
                log_message(LOG_WARNING, "gate: what %s may set on VCPUs cannot be put in force: %s",
                            owner_format_short(owner->owner, text),
                            r == -E2BIG ? "the kernel's table is full" : strerror(-r));
        gatekeeper->told = gatekeeper->told || r < 0;
}

static GateGrant *find(GateGrant *grants, size_t n, uint64_t pmu_type) {
        for (size_t i = 0; i < n; i++)
                if (grants[i].pmu_type == pmu_type)
                        return &grants[i];

        return NULL;
}

static void add(GateGrant *grants, size_t *n, const LeaseOwner *owner, uint64_t pmu_type, uint64_t size) {
        GateGrant *grant = find(grants, *n, pmu_type);

        if (!grant) {
                grant = &grants[(*n)++];
                *grant = (GateGrant){
                        .owner = owner->key,
                        .start_ticks = owner->owner->start_time,
                        .pmu_type = pmu_type,
                };
        }
        if (size > grant->buffer_size)
                grant->buffer_size = size;
}

/* What its leases allow, as an array of the caller's. */
static int work_out(const LeaseOwner *owner, GateGrant **ret_grants, size_t *ret_n) {
        const Lease *lease;
        GateGrant *grants;
        size_t n = 0;

        LIST_FOREACH(lease, &owner->leases, owner_link)
                n += lease_is_holding(lease);
        if (n == 0) { /* whose last lease ends is not admitted any more, memory or not */
                *ret_grants = NULL;
                *ret_n = 0;
                return 0;
        }
        grants = calloc(n + 1, sizeof(*grants)); /* an SPU each, and any */
        if (!grants)
                return -ENOMEM;

        n = 0;
        LIST_FOREACH(lease, &owner->leases, owner_link) {
                if (!lease_is_holding(lease))
                        continue;
                add(grants, &n, owner, GATE_SPU_ANY, lease->buffer_size);
                if (!lease->away)
                        add(grants, &n, owner, lease->now_pmu_type, lease->buffer_size);
        }

        *ret_grants = grants;
        *ret_n = n;
        return 0;
}

static void drop(GateOwner *admitted) {
        admitted->owner->admitted = NULL;
        LIST_REMOVE(admitted, link);
        free(admitted->grants);
        free(admitted);
}

/* Takes over @grants. */
static int remember(Gatekeeper *gatekeeper, LeaseOwner *owner, GateGrant *grants, size_t n) {
        GateOwner *admitted = owner->admitted;

        if (n == 0) {
                free(grants);
                if (admitted)
                        drop(admitted);
                return 0;
        }

        if (!admitted) {
                admitted = calloc(1, sizeof(*admitted));
                if (!admitted) {
                        free(grants);
                        return -ENOMEM;
                }
                admitted->owner = owner;
                owner->admitted = admitted;
                LIST_INSERT_HEAD(&gatekeeper->owners, admitted, link);
        }
        free(admitted->grants);
        admitted->grants = grants;
        admitted->n_grants = n;
        return 0;
}

/* What is allowed comes before what is not any more: an owner that keeps something has it all the time. */
static int put_in_force(Gatekeeper *gatekeeper, LeaseOwner *owner, GateGrant *grants, size_t n) {
        const GateOwner *admitted = owner->admitted;
        GateGrant *old = admitted ? admitted->grants : NULL;
        size_t n_old = admitted ? admitted->n_grants : 0;
        int r, error = 0;

        for (size_t i = 0; i < n; i++) {
                const GateGrant *same = find(old, n_old, grants[i].pmu_type);

                if (same && same->buffer_size == grants[i].buffer_size)
                        continue;
                r = gate_allow(gatekeeper->gate, &grants[i]);
                if (r < 0) {
                        error = r;
                        grants[i].buffer_size = 0; /* it is tried again with the owner's next change */
                }
        }
        for (size_t i = 0; i < n_old; i++)
                if (!find(grants, n, old[i].pmu_type))
                        error = gate_disallow(gatekeeper->gate, owner->key, old[i].pmu_type) ?: error;

        return error;
}

void gatekeeper_owner_changed(Manager *manager, LeaseOwner *owner) {
        Gatekeeper *gatekeeper = manager->gatekeeper;
        GateGrant *grants;
        size_t n;
        int r;

        if (!gatekeeper || !gatekeeper->admits)
                return;

        r = work_out(owner, &grants, &n);
        if (r == 0) {
                int failed = put_in_force(gatekeeper, owner, grants, n);

                r = remember(gatekeeper, owner, grants, n);
                r = failed ?: r;
        }
        complain(gatekeeper, owner, r);
}

static bool stays(OwnerKey key, uint64_t pmu_type, void *userdata) {
        const Manager *manager = userdata;
        const LeaseOwner *owner = lease_owner_find_key(&manager->owners, key);

        return owner && owner->admitted && find(owner->admitted->grants, owner->admitted->n_grants, pmu_type);
}

void gatekeeper_admit_all(Manager *manager) {
        Gatekeeper *gatekeeper = manager->gatekeeper;
        Lease *lease;
        int r;

        gatekeeper_forget_owners(gatekeeper);
        gatekeeper->admits = true;
        TAILQ_FOREACH(lease, &manager->leases.all, link)
                if (!lease->owner->admitted && lease_is_holding(lease))
                        gatekeeper_owner_changed(manager, lease->owner);

        r = gate_disallow_others(gatekeeper->gate, stays, manager);
        if (r < 0)
                log_message(LOG_WARNING, "gate: what an earlier broker has allowed cannot be taken back: %s",
                            strerror(-r));
}

void gatekeeper_forget_owners(Gatekeeper *gatekeeper) {
        while (!LIST_EMPTY(&gatekeeper->owners))
                drop(LIST_FIRST(&gatekeeper->owners));
        gatekeeper->admits = false;
        gatekeeper->told = false;
}
