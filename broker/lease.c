/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The structures around a lease: the table and the streams. Nothing here decides anything or touches the
 * model.
 */

#include "broker/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "broker/end.h"
#include "broker/events.h"
#include "broker/lease-walk.h"
#include "broker/manager.h"

/* The bucket of a whole id. */
static unsigned bucket_of(const char *id) {
        unsigned n = 0;

        for (unsigned i = 0; i < 8; i++)
                n = n * 31 + (unsigned char)id[i];

        return n % LEASE_BUCKETS;
}

void lease_table_init(LeaseTable *table) {
        *table = (LeaseTable){.waiters = QUOTA_INIT(WAITERS_PER_USER_MAX, WAITERS_MAX)};
        TAILQ_INIT(&table->all);
        TAILQ_INIT(&table->waiting);
        LIST_INIT(&table->revoking);
        LIST_INIT(&table->away);
        LIST_INIT(&table->unclaimed);
        LIST_INIT(&table->unsaved);
        LIST_INIT(&table->walks);
        LIST_INIT(&table->written);
}

Lease *lease_find(const LeaseTable *table, const char *id) {
        Lease *lease;

        if (strlen(id) != LEASE_ID_LENGTH)
                return NULL;

        LIST_FOREACH(lease, &table->by_id[bucket_of(id)], bucket_link)
                if (strcmp(lease->id, id) == 0)
                        return lease;

        return NULL;
}

/* Gives a lease that is in no list yet its request and its owner. */
static int lease_set_owner(Manager *manager, Lease *lease, LeaseRequest *request) {
        LeaseOwner *owner = request->known;
        int r;

        if (!owner) {
                r = lease_owner_get(manager, &request->fresh, &owner);
                if (r < 0)
                        return r;
        }

        lease->request = *request;
        lease->request.known = owner;
        r = lease_owner_add(owner, lease);
        if (r < 0) {
                request->known = NULL; /* one without leases is gone */
                return r;
        }

        *request = LEASE_REQUEST_NULL;
        return 0;
}

int lease_new(Manager *manager, LeaseRequest *request, Lease **ret_lease) {
        char text[LEASE_ID_LENGTH + 1];
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;

        return lease_new_with_id(manager, request, sd_id128_to_string(id, text), ret_lease);
}

int lease_new_with_id(Manager *manager, LeaseRequest *request, const char *id, Lease **ret_lease) {
        LeaseTable *table = &manager->leases;
        Lease *lease;
        int r;

        lease = calloc(1, sizeof(*lease));
        if (!lease)
                return -ENOMEM;

        (void)snprintf(lease->id, sizeof(lease->id), "%s", id);
        lease->state = LEASE_STATE_QUEUED;
        lease->deadline_usec = UINT64_MAX;
        lease->away_deadline_usec = UINT64_MAX;
        lease->unclaimed_deadline_usec = UINT64_MAX;
        lease->since_usec = manager_now_realtime(manager);
        LIST_INIT(&lease->streams);

        r = lease_set_owner(manager, lease, request);
        if (r < 0) {
                free(lease);
                return r;
        }

        LIST_INSERT_HEAD(&table->by_id[bucket_of(lease->id)], lease, bucket_link);
        lease->serial = ++table->serial;
        TAILQ_INSERT_TAIL(&table->all, lease, link);
        table->n++;

        *ret_lease = lease;
        return 0;
}

Lease *lease_free(Lease *lease) {
        Manager *manager;

        if (!lease)
                return NULL;

        manager = lease->owner->manager;
        assert(!lease->charge.ledger && !lease->waiting.quota && LIST_EMPTY(&lease->streams) &&
               !lease->revoking_linked && !lease->away_linked && !lease->unclaimed_linked && !lease->unsaved);

        lease_walks_skip(&manager->leases, lease);
        pieces_note_end(&manager->leases.written, lease->serial);
        TAILQ_REMOVE(&manager->leases.all, lease, link);
        manager->leases.n--;
        LIST_REMOVE(lease, bucket_link);
        lease_owner_remove(lease);
        lease_request_deinit(&lease->request);
        free(lease->reason);
        free(lease->contention);
        free(lease->contention_by_lease);
        free(lease->misplacement);
        json_object_put(lease->unknown);
        free(lease);
        return NULL;
}

void lease_link_waiting(Lease *lease, QuotaToken *token) {
        LeaseTable *table = &lease->owner->manager->leases;

        lease->waiting = *token;
        *token = QUOTA_TOKEN_NULL;
        TAILQ_INSERT_TAIL(&table->waiting, lease, waiting_link);
        table->n_waiting++;
}

void lease_unlink_waiting(Lease *lease) {
        LeaseTable *table = &lease->owner->manager->leases;

        if (table->next_waiter == lease)
                table->next_waiter = TAILQ_NEXT(lease, waiting_link);
        TAILQ_REMOVE(&table->waiting, lease, waiting_link);
        quota_refund(&lease->waiting);
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

void lease_link_away(Lease *lease, uint64_t deadline_usec) {
        if (lease->away_linked)
                return;

        LIST_INSERT_HEAD(&lease->owner->manager->leases.away, lease, away_link);
        lease->away_linked = true;
        lease->away_deadline_usec = deadline_usec;
}

void lease_unlink_away(Lease *lease) {
        if (!lease->away_linked)
                return;

        LIST_REMOVE(lease, away_link);
        lease->away_linked = false;
        lease->away_deadline_usec = UINT64_MAX;
}

void lease_link_unclaimed(Lease *lease, uint64_t deadline_usec) {
        if (!lease->unclaimed_linked)
                LIST_INSERT_HEAD(&lease->owner->manager->leases.unclaimed, lease, unclaimed_link);
        lease->unclaimed_linked = true;
        lease->unclaimed_deadline_usec = deadline_usec;
}

void lease_unlink_unclaimed(Lease *lease) {
        if (!lease->unclaimed_linked)
                return;

        LIST_REMOVE(lease, unclaimed_link);
        lease->unclaimed_linked = false;
        lease->unclaimed_deadline_usec = UINT64_MAX;
}

void lease_mark_unsaved(Lease *lease) {
        Manager *manager = lease->owner->manager;

        if (lease->unsaved || !lease_is_charged(lease))
                return;

        LIST_INSERT_HEAD(&manager->leases.unsaved, lease, unsaved_link);
        lease->unsaved = true;
        manager_mark_dirty(manager, DIRTY_UNSAVED);
}

void lease_unmark_unsaved(Lease *lease) {
        if (!lease->unsaved)
                return;

        LIST_REMOVE(lease, unsaved_link);
        lease->unsaved = false;
}

uint64_t lease_get_deadline(const Lease *lease) {
        const uint64_t others[] = {lease->away_deadline_usec, lease->unclaimed_deadline_usec};
        uint64_t first = lease->deadline_usec;

        for (size_t i = 0; i < ELEMENTS_OF(others); i++)
                if (others[i] < first)
                        first = others[i];

        return first;
}

void lease_set_wanted(Lease *lease, const Offer *offer) {
        memcpy(lease->instance_name, offer->instance->name, sizeof(lease->instance_name));
        lease->cpus = offer->cpus;
        lease->usable = offer->cpus;
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
