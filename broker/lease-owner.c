/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Owners of leases. An entry is kept by its leases and goes with the last of them; its pidfd, or what tells
 * of its control group, is watched for as long, so a process that ends takes its leases along, and so does
 * the last one that leaves a group.
 */

#include "broker/lease-owner.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "broker/end.h"
#include "broker/events.h"
#include "broker/lease.h"
#include "broker/manager.h"
#include "broker/misplaced.h"

OwnerKey lease_owner_key(const Owner *owner) {
        return owner->cgroup ? OWNER_KEY_CGROUP(owner->cgroup->id) : (OwnerKey)owner->pid;
}

static int compare_key(const void *a, const void *b) {
        OwnerKey x = ((const LeaseOwner *)a)->key, y = ((const LeaseOwner *)b)->key;

        return (x > y) - (x < y);
}

static int compare_request(const void *a, const void *b) {
        return strcmp(((const Lease *)a)->request.id, ((const Lease *)b)->request.id);
}

LeaseOwner *lease_owner_find_key(const OwnerTable *table, OwnerKey key) {
        const LeaseOwner sought = {.key = key};
        LeaseOwner *const *found;

        found = tfind(&sought, &table->by_key, compare_key);
        return found ? *found : NULL;
}

static void owner_entry_free(LeaseOwner *owner) {
        assert(LIST_EMPTY(&owner->leases) && !owner->by_request);
        arbitration_owner_gone(owner->manager, owner);
        misplaced_owner_gone(owner->manager, owner);
        gatekeeper_owner_changed(owner->manager, owner);
        tdelete(owner, &owner->manager->owners.by_key, compare_key);
        sd_event_source_disable_unref(owner->exit_source);
        if (owner->manager->owner_store)
                owner_store_remove(owner->manager->owner_store, owner->owner);
        owner_free(owner->owner);
        free(owner);
}

/* All leases of an owner that is gone end, and the owner with the last one. */
static void owner_exited(LeaseOwner *owner) {
        Manager *manager = owner->manager;
        Lease *lease, *next;

        for (lease = LIST_FIRST(&owner->leases); lease; lease = next) {
                next = LIST_NEXT(lease, owner_link);
                lease_end(manager, lease, "its owner is gone");
        }
}

static int on_owner_exit(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t events,
                         void *userdata) {
        owner_exited(userdata);
        return 0;
}

/* From now on its leases end when nobody is in it any more, and not at a deadline. */
static void claim(LeaseOwner *owner) {
        Lease *lease;

        owner->claimed = true;
        LIST_FOREACH(lease, &owner->leases, owner_link) {
                if (!lease->unclaimed_linked)
                        continue;
                lease_unlink_unclaimed(lease);
                events_lease(owner->manager, lease, LEASE_CHANGE_UPDATED);
        }
}

/* Also that it has been frozen or thawed. That an empty one was removed nobody is told: it has a deadline. */
static int on_cgroup_event(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t events,
                           void *userdata) {
        LeaseOwner *owner = userdata;
        bool populated = false;
        bool there = cgroup_read_populated(owner->owner->cgroup, &populated) == 0;

        if (!there || (!populated && owner->claimed))
                owner_exited(owner);
        else if (populated && !owner->claimed)
                claim(owner);
        return 0;
}

/* Has the loop tell of its end. */
static int watch(LeaseOwner *owner) {
        sd_event *event = owner->manager->event;
        const Cgroup *cgroup = owner->owner->cgroup;
        int r;

        if (cgroup) {
                if (cgroup_read_populated(cgroup, &owner->claimed) != 0)
                        owner->claimed = false;
                r = sd_event_add_io(event, &owner->exit_source, cgroup->events_fd, EPOLLPRI, on_cgroup_event,
                                    owner);
        } else {
                owner->claimed = true;
                r = sd_event_add_io(event, &owner->exit_source, owner->owner->pidfd, EPOLLIN, on_owner_exit,
                                    owner);
        }
        if (r < 0)
                return r;

        /* Who has died is known before anybody is answered. */
        return sd_event_source_set_priority(owner->exit_source, SD_EVENT_PRIORITY_IMPORTANT);
}

static int owner_entry_new(Manager *manager, Owner *who, LeaseOwner **ret_owner) {
        LeaseOwner *owner;
        int r;

        owner = calloc(1, sizeof(*owner));
        if (!owner)
                return -ENOMEM;

        owner->manager = manager;
        owner->owner = who;
        owner->key = lease_owner_key(who);
        LIST_INIT(&owner->leases);

        r = watch(owner);
        if (r < 0)
                goto fail;
        if (!tsearch(owner, &manager->owners.by_key, compare_key)) {
                r = -ENOMEM;
                goto fail;
        }

        misplaced_owner_new(manager, owner);
        *ret_owner = owner;
        return 0;

fail:
        sd_event_source_disable_unref(owner->exit_source);
        free(owner);
        return r;
}

/*
 * Start times are rounded to the tick, so one of two processes with the same pid and start must be dead. A
 * group's id is never another's, but what was claimed and is empty has ended. The kernel tells of that some
 * milliseconds later; asked is by @owner's descriptor, as the other one would not ring any more.
 */
static bool is_same(const LeaseOwner *known, const Owner *owner) {
        bool populated;

        if (known->owner->cgroup)
                return !known->claimed ||
                       (cgroup_read_populated(owner->cgroup, &populated) == 0 && populated);

        return known->owner->start_time == owner->start_time && owner_is_alive(known->owner);
}

LeaseOwner *lease_owner_find(Manager *manager, const Owner *owner) {
        LeaseOwner *known = lease_owner_find_key(&manager->owners, lease_owner_key(owner));

        if (!known || is_same(known, owner))
                return known;

        /* Its end is only still on its way. */
        owner_exited(known);
        return NULL;
}

int lease_owner_get(Manager *manager, Owner **owner, LeaseOwner **ret_owner) {
        LeaseOwner *known = lease_owner_find(manager, *owner);
        int r;

        if (known) {
                *owner = owner_free(*owner);
                *ret_owner = known;
                return 0;
        }

        r = owner_entry_new(manager, *owner, ret_owner);
        if (r)
                return r;

        *owner = NULL;
        return 0;
}

LeaseOwner *lease_owner_find_peer(const OwnerTable *table, const VarlinkPeer *peer) {
        LeaseOwner *known = lease_owner_find_key(table, (OwnerKey)peer->pid);
        _cleanup_(owner_freep) Owner *now = NULL;

        if (!known || !owner_is_alive(known->owner))
                return NULL;

        /* Of two living processes with one pid, one is the other. */
        if (peer->pidfd >= 0) {
                const Owner process = {.pid = peer->pid, .pidfd = peer->pidfd};

                return owner_is_alive(&process) ? known : NULL;
        }

        /* The peer may have died since it connected, and the pid be another's: its start and user must fit.
         */
        if (owner_new_peer(peer->pid, peer->uid, -1, peer->accepted_boottime_usec, &now))
                return NULL;

        return is_same(known, now) ? known : NULL;
}

/* Whether the process is in the group now. */
static bool is_in(const Cgroup *cgroup, const Owner *process) {
        _cleanup_(freep) char *path = NULL;

        return cgroup_path_of_process(process->pid, &path) == 0 && owner_is_alive(process) &&
               cgroup_has_path(cgroup, path);
}

bool lease_owner_is_peer(const LeaseOwner *owner, const VarlinkPeer *peer) {
        _cleanup_(owner_freep) Owner *process = NULL;

        if (!owner->owner->cgroup)
                return lease_owner_find_peer(&owner->manager->owners, peer) == owner;
        if (!owner_is_alive(owner->owner)) /* and the path may be another one's */
                return false;
        if (owner_new_peer(peer->pid, peer->uid, peer->pidfd, peer->accepted_boottime_usec, &process))
                return false;

        return is_in(owner->owner->cgroup, process);
}

int lease_owner_add(LeaseOwner *owner, Lease *lease) {
        /* A process may have thousands of leases, and its request ids are asked for with each new one. */
        if (lease->request.id && !tsearch(lease, &owner->by_request, compare_request)) {
                if (LIST_EMPTY(&owner->leases))
                        owner_entry_free(owner);
                return -ENOMEM;
        }

        lease->owner = owner;
        LIST_INSERT_HEAD(&owner->leases, lease, owner_link);
        return 0;
}

void lease_owner_remove(Lease *lease) {
        LeaseOwner *owner = steal_ptr(lease->owner);

        if (lease->request.id)
                tdelete(lease, &owner->by_request, compare_request);
        LIST_REMOVE(lease, owner_link);
        if (LIST_EMPTY(&owner->leases))
                owner_entry_free(owner);
}

Lease *lease_owner_find_request(const LeaseOwner *owner, char *request_id) {
        const Lease key = {.request.id = request_id};
        Lease *const *found = tfind(&key, &owner->by_request, compare_request);

        return found ? *found : NULL;
}
