/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The structures around a lease: table, owners, streams. An owner is kept by its leases and goes with the
 * last of them; its pidfd is watched for as long. Nothing here decides anything or touches the model.
 */

#include "broker/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-id128.h>

#include "broker/end.h"
#include "broker/events.h"
#include "broker/manager.h"

static int compare_id(const void *a, const void *b) {
        return strcmp(((const Lease *)a)->id, ((const Lease *)b)->id);
}

static int compare_pid(const void *a, const void *b) {
        pid_t x = ((const LeaseOwner *)a)->owner->pid, y = ((const LeaseOwner *)b)->owner->pid;

        return (x > y) - (x < y);
}

void lease_table_init(LeaseTable *table) {
        *table = (LeaseTable){0};
        TAILQ_INIT(&table->all);
        TAILQ_INIT(&table->waiting);
        LIST_INIT(&table->revoking);
}

Lease *lease_find(const LeaseTable *table, const char *id) {
        Lease key, *const *found;

        if (strlen(id) != LEASE_ID_LENGTH)
                return NULL;

        memcpy(key.id, id, LEASE_ID_LENGTH + 1);
        found = tfind(&key, &table->by_id, compare_id);
        return found ? *found : NULL;
}

static LeaseOwner *owner_find_pid(const OwnerTable *table, pid_t pid) {
        Owner owner = {.pid = pid};
        LeaseOwner key = {.owner = &owner}, *const * found;

        found = tfind(&key, &table->by_pid, compare_pid);
        return found ? *found : NULL;
}

static LeaseOwner *lease_owner_free(LeaseOwner *owner) {
        if (!owner)
                return NULL;

        assert(LIST_EMPTY(&owner->leases));
        tdelete(owner, &owner->manager->owners.by_pid, compare_pid);
        sd_event_source_disable_unref(owner->exit_source);
        owner_free(owner->owner);
        free(owner);
        return NULL;
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

static int lease_owner_new(Manager *manager, Owner *process, LeaseOwner **ret_owner) {
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
        LeaseOwner *known = owner_find_pid(&manager->owners, (*owner)->pid);
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

        r = lease_owner_new(manager, *owner, ret_owner);
        if (r)
                return r;

        *owner = NULL;
        return 0;
}

LeaseOwner *lease_owner_find(const OwnerTable *table, const Owner *owner) {
        LeaseOwner *known = owner_find_pid(table, owner->pid);

        return known && is_same_process(known, owner) ? known : NULL;
}

LeaseOwner *lease_owner_find_peer(const OwnerTable *table, const VarlinkPeer *peer) {
        LeaseOwner *known = owner_find_pid(table, peer->pid);
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

Lease *lease_owner_find_request(const LeaseOwner *owner, const char *request_id) {
        Lease *lease;

        LIST_FOREACH(lease, &owner->leases, owner_link)
                if (lease->request.id && strcmp(lease->request.id, request_id) == 0)
                        return lease;

        return NULL;
}

int lease_new(Manager *manager, LeaseRequest *request, Lease **ret_lease) {
        LeaseTable *table = &manager->leases;
        sd_id128_t id;
        Lease *lease;
        int r;

        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;

        lease = calloc(1, sizeof(*lease));
        if (!lease)
                return -ENOMEM;

        sd_id128_to_string(id, lease->id);
        lease->state = LEASE_STATE_QUEUED;
        lease->deadline_usec = UINT64_MAX;
        lease->since_usec = manager_now_realtime(manager);
        LIST_INIT(&lease->streams);

        if (!tsearch(lease, &table->by_id, compare_id)) {
                free(lease);
                return -ENOMEM;
        }

        if (!request->known) {
                r = lease_owner_get(manager, &request->fresh, &request->known);
                if (r) {
                        tdelete(lease, &table->by_id, compare_id);
                        free(lease);
                        return r;
                }
        }

        lease->owner = request->known;
        lease->request = *request;
        *request = LEASE_REQUEST_NULL;
        TAILQ_INSERT_TAIL(&table->all, lease, link);
        table->n++;
        LIST_INSERT_HEAD(&lease->owner->leases, lease, owner_link);

        *ret_lease = lease;
        return 0;
}

Lease *lease_free(Lease *lease) {
        Manager *manager;
        LeaseOwner *owner;

        if (!lease)
                return NULL;

        owner = lease->owner;
        manager = owner->manager;
        assert(!lease->charge.ledger && LIST_EMPTY(&lease->streams) && !lease->revoking_linked);

        LIST_REMOVE(lease, owner_link);
        TAILQ_REMOVE(&manager->leases.all, lease, link);
        manager->leases.n--;
        tdelete(lease, &manager->leases.by_id, compare_id);
        lease_request_deinit(&lease->request);
        free(lease->reason);
        free(lease);

        if (LIST_EMPTY(&owner->leases))
                lease_owner_free(owner);
        return NULL;
}

void lease_link_waiting(Lease *lease) {
        LeaseTable *table = &lease->owner->manager->leases;

        TAILQ_INSERT_TAIL(&table->waiting, lease, waiting_link);
        table->n_waiting++;
}

void lease_unlink_waiting(Lease *lease) {
        LeaseTable *table = &lease->owner->manager->leases;

        TAILQ_REMOVE(&table->waiting, lease, waiting_link);
        table->n_waiting--;
}

void lease_link_revoking(Lease *lease) {
        if (lease->revoking_linked)
                return;

        LIST_INSERT_HEAD(&lease->owner->manager->leases.revoking, lease, revoking_link);
        lease->revoking_linked = true;
}

void lease_unlink_revoking(Lease *lease) {
        if (!lease->revoking_linked)
                return;

        LIST_REMOVE(lease, revoking_link);
        lease->revoking_linked = false;
}

void lease_set_wanted(Lease *lease, const Offer *offer) {
        memcpy(lease->instance_name, offer->instance->name, sizeof(lease->instance_name));
        lease->cpus = offer->cpus;
        lease->buffer_size = offer->buffer_size;
        lease->limited_by = offer->limited_by;
}

void lease_set_reason(Lease *lease, const char *reason) {
        free(lease->reason);
        lease->reason = reason ? strdup(reason) : NULL;
}

bool lease_is_holding(const Lease *lease) {
        return lease->state == LEASE_STATE_GRANTED || lease->state == LEASE_STATE_REVOKING;
}

bool lease_is_charged(const Lease *lease) {
        return lease_is_holding(lease) || lease->state == LEASE_STATE_REVOKED;
}

/* A queued lease is gone with the last connection that asked for it. */
static void on_stream_closed(_unused_ VarlinkCall *call, void *userdata) {
        LeaseStream *stream = userdata, *other;
        Lease *lease = stream->lease;
        Manager *manager = stream->manager;

        lease_stream_free(stream);
        if (lease->state != LEASE_STATE_QUEUED)
                return;

        LIST_FOREACH(other, &lease->streams, link)
                if (other->kind != LEASE_STREAM_FOLLOW)
                        return;

        lease_end(manager, lease, "the connection that waited for it is gone");
}

static void on_stream_drained(_unused_ VarlinkCall *call, void *userdata) {
        events_stream_drained(userdata);
}

int lease_stream_new(Lease *lease, VarlinkCall *call, LeaseStreamKind kind) {
        LeaseStream *stream;

        stream = calloc(1, sizeof(*stream));
        if (!stream)
                return -ENOMEM;

        stream->manager = lease->owner->manager;
        stream->lease = lease;
        stream->call = call;
        stream->kind = kind;
        LIST_INSERT_HEAD(&lease->streams, stream, link);
        varlink_call_watch(call, on_stream_closed, on_stream_drained, stream);
        return 0;
}

LeaseStream *lease_stream_free(LeaseStream *stream) {
        if (!stream)
                return NULL;

        LIST_REMOVE(stream, link);
        free(stream);
        return NULL;
}
