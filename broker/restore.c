/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Takes leases over. A lease comes back as it was written, whatever the configuration says by now: limits are
 * for new ones, and what assignments, the host and the clock have to say of it since, the first settle()
 * finds, as if all of that had happened just now. Only its owner is asked for: it must be the same process,
 * and alive.
 *
 * By a pidfd that systemd kept there is no doubt about that. Without one, the process that has its pid is it
 * if it was started at the same tick, in the same boot; a pid is not used twice within one.
 *
 * A control group is the same if its path has the same id. If a process was in it and none is any more, it
 * has come to its end meanwhile.
 */

#include "broker/restore.h"

#include <errno.h>
#include <string.h>

#include "broker/lease-memlock.h"
#include "broker/log.h"
#include "broker/settle-instances.h"

typedef struct Restore {
        Manager *manager;
        unsigned n_taken;
        unsigned n_orphans; /* whose owners are gone */
} Restore;

/* Nothing that depends on who asks: a process that has taken another user since is the same. */
static int open_process(const LeaseRecordOwner *said, Owner **ret_owner) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        int r;

        r = owner_new(said->pid, &owner);
        if (r)
                return r;
        if (owner->start_time != said->start_time)
                return OWNER_E_NO_PROCESS;

        *ret_owner = steal_ptr(owner);
        return 0;
}

static int open_cgroup(const LeaseRecordOwner *said, Owner **ret_owner) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        bool populated;
        int r;

        r = owner_new_cgroup(said->cgroup, &owner);
        if (r)
                return r;
        if (owner->cgroup->id != said->cgroup_id)
                return OWNER_E_NO_CGROUP;
        r = cgroup_read_populated(owner->cgroup, &populated);
        if (r < 0)
                return r;
        if (r > 0 || (!populated && said->unclaimed_deadline_usec == UINT64_MAX))
                return OWNER_E_NO_CGROUP;

        *ret_owner = steal_ptr(owner);
        return 0;
}

static int find_cgroup(Manager *manager, const LeaseRecordOwner *said, LeaseRequest *request) {
        int r;

        r = open_cgroup(said, &request->fresh);
        if (r)
                return r;

        request->fresh->uid = said->uid;
        request->known = lease_owner_find_key(&manager->owners, lease_owner_key(request->fresh));
        if (request->known)
                request->fresh = owner_free(request->fresh);
        return 0;
}

/* The owner of a lease, in @request; OWNER_E_NO_PROCESS or OWNER_E_NO_CGROUP if it is gone. */
static int find_owner(Manager *manager, const LeaseRecordOwner *said, LeaseRequest *request) {
        LeaseOwner *known;
        int r;

        if (said->cgroup)
                return find_cgroup(manager, said, request);

        known = lease_owner_find_key(&manager->owners, (OwnerKey)said->pid);
        if (known && known->owner->start_time == said->start_time) {
                request->known = known;
                return 0;
        }

        r = owner_store_find(manager->owner_store, said->pid, said->start_time, &request->fresh);
        if (r == OWNER_STORE_E_NONE)
                r = open_process(said, &request->fresh);
        if (r)
                return r;

        request->fresh->uid = said->uid; /* whom its leases are charged to */
        return 0;
}

/* The instance that it was on. One that is not there any more has gone while nobody looked: what it was is
 * what its leases say. */
static int find_instance(Manager *manager, const LeaseRecord *record, Instance **ret_instance) {
        InstanceTable *table = &manager->model.instances;
        Instance *instance = instance_table_find(table, record->instance_name);
        int r;

        if (!instance) {
                _cleanup_(instance_freep) Instance *gone = NULL;

                r = instance_new(record->instance_name, record->instance_index, &gone);
                if (r < 0)
                        return r;
                gone->state = INSTANCE_STATE_GONE;
                gone->guest = GUEST_SUPPORT_UNKNOWN;
                gone->pmu_type = record->now_pmu_type;
                r = instance_table_add(table, gone);
                if (r < 0)
                        return r;
                instance = steal_ptr(gone);
        }
        if (instance->state != INSTANCE_STATE_READY)
                cpuset_or(&instance->cpus, &record->cpus);

        *ret_instance = instance;
        return 0;
}

/* The lease is as it was written. */
static void resume(Manager *manager, Lease *lease, LeaseRecord *record, Instance *instance) {
        lease->state = record->state;
        lease->reason = steal_ptr(record->reason);
        memcpy(lease->instance_name, record->instance_name, sizeof(lease->instance_name));
        lease->instance = instance;
        lease->pmu_type = record->pmu_type;
        lease->now_pmu_type = record->now_pmu_type;
        lease->cpus = record->cpus;
        lease->usable = record->usable;
        lease->buffer_size = record->buffer_size;
        lease->limited_by = record->limited_by;
        lease->since_usec = record->since_usec;
        lease->deadline_usec = record->deadline_usec;
        lease->grace_usec = record->grace_usec;
        lease->barred = record->barred;
        lease->kill = record->kill;
        lease->terminated = record->terminated;
        lease->away = record->away;
        lease->restart_required = record->restart_required;
        lease->unknown = steal_ptr(record->unknown);

        if (record->owner.unclaimed_deadline_usec != UINT64_MAX) {
                if (lease->owner->claimed)
                        lease_mark_unsaved(lease);
                else
                        lease_link_unclaimed(lease, record->owner.unclaimed_deadline_usec);
        } else if (lease->owner->owner->cgroup && !lease->owner->claimed)
                /* It has emptied since it was looked at, and nothing will tell. */
                lease_link_unclaimed(lease, manager_now_monotonic(manager));
        if (record->away_deadline_usec != UINT64_MAX)
                lease_link_away(lease, record->away_deadline_usec);
        if (record->deadline_usec != UINT64_MAX)
                lease_link_revoking(lease);
        if (lease_is_holding(lease))
                occupancy_add(&manager->model.occupancy, lease->request.policy.mode, &lease->cpus);
        else
                manager->leases.n_revoked++;
        owner_store_add(manager->owner_store, lease->owner->owner);
}

static int take_over(Manager *manager, LeaseRecord *record, LeaseRequest *request) {
        LedgerCharge charge = LEDGER_CHARGE_NULL;
        Instance *instance;
        Lease *lease;
        int r;

        r = find_instance(manager, record, &instance);
        if (r < 0)
                return r;
        r = ledger_charge(&manager->model.ledger, request->policy.uid, request->vm, instance, record->charge,
                          &charge);
        if (r < 0)
                return r;
        r = lease_new_with_id(manager, request, record->id, &lease);
        if (r < 0) {
                ledger_refund(&charge);
                return r;
        }

        lease->charge = charge;
        resume(manager, lease, record, instance);
        lease_memlock_restore(lease, record->has_memlock ? &record->memlock : NULL);
        return 0;
}

static void on_problem(const char *sentence, _unused_ void *userdata) {
        log_message(LOG_WARNING, "%s", sentence);
}

static void set_aside(Restore *restore, const LeaseRecord *record, const char *reason) {
        lease_store_set_aside(restore->manager->lease_store, record->id, reason, on_problem, restore);
}

static int on_found(LeaseRecord *record, void *userdata) {
        _cleanup_(lease_request_deinit) LeaseRequest request = record->request;
        Restore *restore = userdata;
        Manager *manager = restore->manager;
        int r;

        record->request = LEASE_REQUEST_NULL;
        r = find_owner(manager, &record->owner, &request);
        if (r > 0) {
                lease_store_remove(manager->lease_store, record->id);
                restore->n_orphans++;
                return 0;
        }
        if (r < 0)
                return r;

        if (request.known && request.id && lease_owner_find_request(request.known, request.id)) {
                set_aside(restore, record, "its owner has a lease with its request id already");
                return 0;
        }
        if (record->bad_memlock)
                log_message(LOG_WARNING,
                            "/" LEASE_STORE_PATH
                            "/%s: what it says of its owner's RLIMIT_MEMLOCK is damaged, "
                            "and is not believed: the limit is left alone",
                            record->id);
        r = take_over(manager, record, &request);
        if (r == -EOVERFLOW) {
                set_aside(restore, record, "its charge is more than can be");
                return 0;
        }
        if (r < 0)
                return r;

        restore->n_taken++;
        return 0;
}

static void tell(const Restore *restore) {
        unsigned taken = restore->n_taken, orphans = restore->n_orphans;

        if (taken > 0 && orphans > 0)
                log_message(LOG_INFO, "took over %u lease%s; %u had lost %s", taken, taken == 1 ? "" : "s",
                            orphans, orphans == 1 ? "its owner" : "their owners");
        else if (taken > 0)
                log_message(LOG_INFO, "took over %u lease%s", taken, taken == 1 ? "" : "s");
        else if (orphans > 0)
                log_message(LOG_INFO, "%u lease%s had lost %s", orphans, orphans == 1 ? "" : "s",
                            orphans == 1 ? "its owner" : "their owners");
}

int leases_restore(Manager *manager) {
        Restore restore = {.manager = manager};
        int r;

        /* So that leases find theirs. */
        r = settle_instances(manager);
        if (r < 0)
                return r;
        r = lease_store_load(manager->lease_store, on_found, on_problem, &restore);
        if (r < 0) {
                log_message(LOG_ERR, "/" LEASE_STORE_PATH ": leases cannot be taken over: %s", strerror(-r));
                return r;
        }

        leases_memlock_resume(manager);
        owner_store_drop_rest(manager->owner_store);
        manager_mark_dirty(manager, DIRTY_INSTANCES | DIRTY_ASSIGNMENTS | DIRTY_DEADLINES | DIRTY_CONTENTION |
                                            DIRTY_CLOSED);
        tell(&restore);
        return 0;
}
