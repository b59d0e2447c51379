/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Events go straight into the connections' buffers: the state told is the state at that moment, and nobody's
 * slowness holds up anybody else. varlink_call_send() never runs our callbacks, so lists may be walked here.
 */

#include "broker/events.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/encode.h"
#include "broker/lease.h"
#include "broker/manager.h"
#include "broker/snapshot.h"

static const char *const lease_changes[_LEASE_CHANGE_MAX] = {
        [LEASE_CHANGE_QUEUED] = "queued",       [LEASE_CHANGE_GRANTED] = "granted",
        [LEASE_CHANGE_UPDATED] = "updated",     [LEASE_CHANGE_CPUS] = "cpus",
        [LEASE_CHANGE_CONTENDED] = "contended", [LEASE_CHANGE_UNCONTENDED] = "uncontended",
        [LEASE_CHANGE_MISPLACED] = "misplaced", [LEASE_CHANGE_PLACED] = "placed",
        [LEASE_CHANGE_REVOKING] = "revoking",   [LEASE_CHANGE_REVOKED] = "revoked",
        [LEASE_CHANGE_RESTORED] = "restored",   [LEASE_CHANGE_ENDED] = "ended",
};

const char *lease_change_to_string(LeaseChange change) {
        return lease_changes[change];
}

/* What is told of one change. */
typedef struct News {
        Buffer buffer;
        JsonWriter writer;
} News;

#define NEWS_INIT ((News){.buffer = BUFFER_INIT(SIZE_MAX)})

static void news_deinit(News *news) {
        buffer_deinit(&news->buffer);
}

/* The head of an event: sequence, kind, lost. Its one member and the end follow. */
static JsonWriter *event_begin(Watch *watch, const char *kind, bool lost) {
        JsonWriter *w = varlink_call_reply(watch->call, true);

        json_write_object_begin(w, "event");
        json_write_int(w, "sequence", watch->sequence++);
        json_write_string(w, "kind", kind);
        json_write_bool(w, "lost", lost);
        return w;
}

static void event_end(Watch *watch, JsonWriter *w) {
        json_write_object_end(w);
        varlink_call_send(watch->call);
}

static void snapshot_go_on(VarlinkCall *call, void *userdata) {
        JsonWriter *w = varlink_call_get_writer(call);
        Watch *watch = userdata;

        if (!snapshot_write_part(watch->snapshot, w))
                return;

        watch->snapshot = snapshot_free(watch->snapshot);
        event_end(watch, w);
        watch->backlog_max = varlink_call_get_backlog(watch->call) + WATCH_BACKLOG_MAX;
}

/* Takes over @snapshot. */
static void snapshot_begin(Watch *watch, Snapshot *snapshot) {
        JsonWriter *w = event_begin(watch, "snapshot", watch->lost);

        watch->lost = false;
        watch->snapshot = snapshot;
        if (!snapshot)
                w->error = -ENOMEM; /* who cannot be told something is better hung up on */
        varlink_call_write_in_parts(watch->call, snapshot_go_on);
        snapshot_go_on(watch->call, watch);
}

/* True if @watch can take an event now; else it has lost one. */
static bool watch_is_ready(Watch *watch) {
        if (!watch->lost && varlink_call_get_backlog(watch->call) > watch->backlog_max) {
                watch->lost = true;
                watch->manager->counters.watch_losses++;
        }

        return !watch->lost;
}

/* Begins the one member of an event, which is written once for all. NULL: nobody is there to be told. */
static JsonWriter *news_begin(Manager *manager, News *news) {
        if (LIST_EMPTY(&manager->watches))
                return NULL;

        json_writer_init(&news->writer, &news->buffer);
        return &news->writer;
}

static void news_tell(Manager *manager, News *news, const char *kind) {
        int r = json_writer_finish(&news->writer);
        Watch *watch;

        LIST_FOREACH(watch, &manager->watches, link) {
                JsonWriter *w;

                if (watch->snapshot || !watch_is_ready(watch))
                        continue;
                w = event_begin(watch, kind, false);
                if (r == 0)
                        json_write_written(w, kind, &news->buffer);
                else
                        w->error = r; /* who cannot be told something is better hung up on */
                event_end(watch, w);
        }
}

static void on_watch_drained(_unused_ VarlinkCall *call, void *userdata) {
        Watch *watch = userdata;

        if (!watch->lost)
                return;

        snapshot_begin(watch, snapshot_new(watch->manager));
}

static void on_watch_closed(_unused_ VarlinkCall *call, void *userdata) {
        watch_free(userdata);
}

int watch_new(Manager *manager, VarlinkCall *call) {
        _cleanup_(snapshot_freep) Snapshot *snapshot = snapshot_new(manager);
        Watch *watch;
        int r;

        watch = calloc(1, sizeof(*watch));
        if (!watch || !snapshot) {
                free(watch);
                return -ENOMEM;
        }
        r = quota_take(&manager->watchers, varlink_call_get_peer(call)->uid, &watch->token);
        if (r != 0) {
                free(watch);
                return r;
        }

        watch->manager = manager;
        watch->call = call;
        LIST_INSERT_HEAD(&manager->watches, watch, link);
        manager->n_watches++;
        varlink_call_watch(call, on_watch_closed, on_watch_drained, watch);
        snapshot_begin(watch, steal_ptr(snapshot));
        return 0;
}

Watch *watch_free(Watch *watch) {
        if (!watch)
                return NULL;

        LIST_REMOVE(watch, link);
        watch->manager->n_watches--;
        snapshot_free(watch->snapshot);
        quota_refund(&watch->token);
        free(watch);
        return NULL;
}

/* True if this change is the last word to that kind of stream. */
static bool is_final(LeaseStreamKind kind, LeaseChange change) {
        return change == LEASE_CHANGE_ENDED || (kind == LEASE_STREAM_WAIT && change == LEASE_CHANGE_GRANTED);
}

/* The last word to @stream, which is freed. */
static void stream_finish(LeaseStream *stream, LeaseChange change) {
        if (stream->kind == LEASE_STREAM_WAIT && change == LEASE_CHANGE_ENDED)
                /* A lease that never was is no success. */
                encode_no_such_lease(stream->call, stream->lease->id);
        else
                encode_lease_reply(stream->call, stream->lease, change, false);

        lease_stream_free(stream);
}

/* A follower that does not read misses changes: what it gets when it has caught up is the state by then. */
static void stream_tell(LeaseStream *stream, LeaseChange change) {
        if (stream->kind == LEASE_STREAM_WAIT)
                return;

        if (varlink_call_get_backlog(stream->call) > FOLLOW_BACKLOG_MAX)
                stream->behind = true;
        if (!stream->behind)
                encode_lease_reply(stream->call, stream->lease, change, true);
}

void events_stream_drained(LeaseStream *stream) {
        if (!stream->behind)
                return;

        stream->behind = false;
        encode_lease_reply(stream->call, stream->lease, LEASE_CHANGE_NONE, true);
}

/* What its file says too, but for a grant, which is on record already. */
static bool is_of_record(LeaseChange change) {
        switch (change) {
        case LEASE_CHANGE_UPDATED:
        case LEASE_CHANGE_CPUS:
        case LEASE_CHANGE_REVOKING:
        case LEASE_CHANGE_REVOKED:
        case LEASE_CHANGE_RESTORED:
                return true;
        default:
                return false;
        }
}

void events_lease(Manager *manager, Lease *lease, LeaseChange change) {
        _cleanup_(news_deinit) News news = NEWS_INIT;
        LeaseStream *stream, *next;
        JsonWriter *w;

        pieces_note_change(&manager->leases.written, lease->serial);
        if (is_of_record(change))
                lease_mark_unsaved(lease);
        for (stream = LIST_FIRST(&lease->streams); stream; stream = next) {
                next = LIST_NEXT(stream, link);
                if (is_final(stream->kind, change))
                        stream_finish(stream, change);
                else
                        stream_tell(stream, change);
        }

        w = news_begin(manager, &news);
        if (!w)
                return;
        json_write_object_begin(w, NULL);
        json_write_string(w, "change", lease_change_to_string(change));
        encode_lease(w, "lease", lease);
        json_write_object_end(w);
        news_tell(manager, &news, "lease");
}

void events_instance(Manager *manager, const Instance *instance) {
        _cleanup_(news_deinit) News news = NEWS_INIT;
        JsonWriter *w = news_begin(manager, &news);

        if (!w)
                return;
        encode_instance(w, NULL, manager, instance);
        news_tell(manager, &news, "instance");
}

void events_refusal(Manager *manager, const Refusal *refusal) {
        _cleanup_(news_deinit) News news = NEWS_INIT;
        JsonWriter *w = news_begin(manager, &news);

        if (!w)
                return;
        encode_refusal(w, NULL, refusal);
        news_tell(manager, &news, "refusal");
}

void events_session(Manager *manager, const Session *session, const char *change) {
        _cleanup_(news_deinit) News news = NEWS_INIT;
        JsonWriter *w = news_begin(manager, &news);

        pieces_note_change(&manager->sessions.written, session->serial);
        if (!w)
                return;
        json_write_object_begin(w, NULL);
        json_write_string(w, "change", change);
        encode_session(w, "session", session);
        json_write_object_end(w);
        news_tell(manager, &news, "session");
}
