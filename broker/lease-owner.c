/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Owners of leases. An entry is kept by its leases and goes with the last of them; its pidfd is watched for
 * as long, so a process that ends takes its leases along.
 */

#include "broker/lease-owner.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "broker/end.h"
#include "broker/lease.h"
#include "broker/manager.h"
#include "broker/misplaced.h"

static int compare_pid(const void *a, const void *b) {
        pid_t x = ((const LeaseOwner *)a)->owner->pid, y = ((const LeaseOwner *)b)->owner->pid;

        return (x > y) - (x < y);
}

static int compare_request(const void *a, const void *b) {
        return strcmp(((const Lease *)a)->request.id, ((const Lease *)b)->request.id);
}

LeaseOwner *lease_owner_find_pid(const OwnerTable *table, pid_t pid) {
        Owner owner = {.pid = pid};
        LeaseOwner key = {.owner = &owner}, *const * found;

        found = tfind(&key, &table->by_pid, compare_pid);
        return found ? *found : NULL;
}

static void owner_entry_free(LeaseOwner *owner) {
        assert(LIST_EMPTY(&owner->leases) && !owner->by_request);
        arbitration_owner_gone(owner->manager, owner);
        misplaced_owner_gone(owner->manager, owner);
        gatekeeper_owner_changed(owner->manager, owner);
        tdelete(owner, &owner->manager->owners.by_pid, compare_pid);
        sd_event_source_disable_unref(owner->exit_source);
        if (owner->manager->owner_store)
                owner_store_remove(owner->manager->owner_store, owner->owner);
        owner_free(owner->owner);
        free(owner);
}

/* All leases of a process that is gone end, and the owner with the last one. */
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

static int owner_entry_new(Manager *manager, Owner *process, LeaseOwner **ret_owner) {
        LeaseOwner *owner;
        int r;

        owner = calloc(1, sizeof(*owner));
        if (!owner)
                return -ENOMEM;

        owner->manager = manager;
        owner->owner = process;
        LIST_INIT(&owner->leases);

        r = sd_event_add_io(manager->event, &owner->exit_source, process->pidfd, EPOLLIN, on_owner_exit,
                            owner);
        if (r < 0)
                goto fail;
        /* Who has died is known before anybody is answered. */
        r = sd_event_source_set_priority(owner->exit_source, SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0)
                goto fail;
        if (!tsearch(owner, &manager->owners.by_pid, compare_pid)) {
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

/* Start times are rounded to the tick, so one of two processes with the same pid and start must be dead. */
static bool is_same_process(const LeaseOwner *known, const Owner *owner) {
        return known->owner->start_time == owner->start_time && owner_is_alive(known->owner);
}

int lease_owner_get(Manager *manager, Owner **owner, LeaseOwner **ret_owner) {
        LeaseOwner *known = lease_owner_find_pid(&manager->owners, (*owner)->pid);
        int r;

        if (known && !is_same_process(known, *owner)) {
                /* The pid is another process's now, and the exit event is only still on its way. */
                owner_exited(known);
                known = NULL;
        }

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

LeaseOwner *lease_owner_find(const OwnerTable *table, const Owner *owner) {
        LeaseOwner *known = lease_owner_find_pid(table, owner->pid);

        return known && is_same_process(known, owner) ? known : NULL;
}

LeaseOwner *lease_owner_find_peer(const OwnerTable *table, const VarlinkPeer *peer) {
        LeaseOwner *known = lease_owner_find_pid(table, peer->pid);
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

        return is_same_process(known, now) ? known : NULL;
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
