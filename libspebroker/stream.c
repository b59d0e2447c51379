/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A context as a stream of one lease's changes, for a VMM's event loop: nothing here waits. As soon as a
 * lease is granted its id is all that is needed to go on after the connection was lost: a lease lives without
 * one. A waiting request does not, and is made again, as the same one. What is heard first on another
 * connection is compared to what was handed out last, so that the caller hears of changes and of nothing
 * else.
 */

#include "libspebroker/stream.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "libspebroker/lease.h"
#include "libspebroker/request.h"
#include "util/clock.h"
#include "util/error.h"

/* Between two attempts to connect: a broker may be away for hours, and every VMM of the host asks for it. */
#define BACKOFF_STREAM_USEC UINT64_C(5000000)

static void stream_forget_changes(Stream *stream) {
        stream->changed = spebroker_lease_unref(stream->changed);
        stream->n_changes = 0;
        stream->n_told = 0;
}

void stream_deinit(Stream *stream) {
        stream_forget_changes(stream);
        spebroker_lease_unref(stream->last);
        spebroker_request_unref(stream->request);
        free(stream->lease_id);
        *stream = (Stream){0};
}

/* The stream is over; what is still to be told is kept. */
static void stream_end(Stream *stream) {
        stream->running = false;
        stream->last = spebroker_lease_unref(stream->last);
}

/* The stream cannot go on; a connection with a half-read stream is of no use for calls. */
static int stream_fail(struct spebroker *context, int r) {
        context_disconnect(context, "The stream from the broker failed.");
        (void)waiter_set_deadline(&context->waiter, 0);
        stream_deinit(&context->stream);
        return r;
}

static int stream_send(struct spebroker *context) {
        const Stream *stream = &context->stream;
        Call call = {.stream = true, .method = "io.spebroker.Broker.Follow", .lease_id = stream->lease_id};

        if (!stream->lease_id)
                call = (Call){
                        .stream = true,
                        .method = "io.spebroker.Broker.Acquire",
                        .request = stream->request,
                        .wait_usec = stream->resuming ? clock_left(stream->wait_deadline) : stream->wait_usec,
                };

        return context_send(context, &call);
}

/* --- A lost connection --- */

static int stream_schedule(struct spebroker *context) {
        Stream *stream = &context->stream;

        stream->next_attempt = clock_deadline(backoff_next(&stream->backoff));
        return waiter_set_deadline(&context->waiter, stream->next_attempt);
}

/* SPEBROKER_DISCONNECTED is said once, however many attempts come to nothing. */
static int stream_lost(struct spebroker *context) {
        Stream *stream = &context->stream;
        bool known = stream->resuming;
        int r;

        context_disconnect(context, "The broker has closed the connection.");
        if (!stream->lease_id && !(context->reconnect && stream->repeatable))
                return stream_fail(context, SPEBROKER_OUTCOME_UNKNOWN);
        if (!context->reconnect)
                return stream_fail(context, SPEBROKER_DISCONNECTED);

        stream->resuming = true;
        r = stream_schedule(context);
        if (r < 0)
                return stream_fail(context, r);

        return known ? SPEBROKER_AGAIN : SPEBROKER_DISCONNECTED;
}

/* One attempt, if its time has come; 0 if there is a connection on which something is to be heard. */
static int stream_resume(struct spebroker *context) {
        int r;

        if (!context->reconnect)
                return stream_fail(context, SPEBROKER_DISCONNECTED);
        if (clock_left(context->stream.next_attempt) > 0)
                return SPEBROKER_AGAIN;

        r = context_connect(context, 0);
        if (r == 0)
                r = stream_send(context);
        if (r == 0)
                r = waiter_set_deadline(&context->waiter, 0);
        if (r == 0)
                return 0;

        context_disconnect(context, "The broker has closed the connection.");
        r = stream_schedule(context);
        return r < 0 ? stream_fail(context, r) : SPEBROKER_AGAIN;
}

/* --- What is heard --- */

/* What is to be handed out: @lease, once for each change from what was handed out before. */
static int stream_compare(struct spebroker *context, struct spebroker_lease *lease) {
        Stream *stream = &context->stream;

        stream_forget_changes(stream);
        stream->n_changes = changes_between(stream->last, lease, stream->changes);
        if (stream->n_changes > 0)
                stream->changed = spebroker_lease_ref(lease);
        stream->resuming = false;
        backoff_reset(&stream->backoff);
        context_log(context, LOG_INFO, "Connected to the broker again.");
        return SPEBROKER_RECONNECTED;
}

static int stream_tell(Stream *stream, struct spebroker_lease **ret_lease) {
        int r;

        r = lease_new_changed(stream->changed, stream->changes[stream->n_told], ret_lease);
        if (r < 0)
                return r;

        if (++stream->n_told == stream->n_changes)
                stream_forget_changes(stream);
        return 0;
}

/* Remembers the lease: to follow it, and to compare it to. */
static int stream_remember(Stream *stream, struct spebroker_lease *lease) {
        if (!lease_is(lease, "queued") &&
            (!stream->lease_id || strcmp(stream->lease_id, spebroker_lease_get_id(lease)) != 0)) {
                char *copy;

                copy = strdup(spebroker_lease_get_id(lease));
                if (!copy)
                        return -ENOMEM;
                free(stream->lease_id);
                stream->lease_id = copy;
        }

        spebroker_lease_unref(stream->last);
        stream->last = spebroker_lease_ref(lease);
        return 0;
}

static int stream_refused(struct spebroker *context, const VarlinkReply *reply) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *ended = NULL;
        Stream *stream = &context->stream;
        int r;

        r = context_refuse(context, reply);
        if (r == SPEBROKER_REFUSED && stream->resuming && stream->lease_id && stream->last &&
            context_refused_as(context, "NoSuchLease")) {
                context_forget_refusal(context);
                r = lease_new_ended(stream->last, "it ended while the broker could not be asked", &ended);
                if (r == 0)
                        r = stream_compare(context, ended);
        }

        stream_end(stream);
        return r;
}

/* What a reply of the stream says. */
static int stream_read(struct spebroker *context, const VarlinkReply *reply,
                       struct spebroker_lease **ret_lease) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        Stream *stream = &context->stream;
        int r;

        if (reply->error)
                return stream_refused(context, reply);

        r = lease_new(reply->parameters, &lease);
        if (r < 0)
                return stream_fail(context, r);

        if (stream->resuming)
                r = stream_compare(context, lease);
        if (stream_remember(stream, lease) < 0)
                return stream_fail(context, -ENOMEM);
        if (!reply->continues)
                stream_end(stream);

        if (r == 0)
                *ret_lease = steal_ptr(lease);
        return r;
}

int spebroker_process(struct spebroker *context, struct spebroker_lease **ret_lease) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        context_forget_refusal(context);
        if (context->stream.n_changes > 0)
                return stream_tell(&context->stream, ret_lease);
        if (!context->stream.running)
                return SPEBROKER_ENDED;

        if (!context->client) {
                if (!context->stream.resuming)
                        return stream_lost(context);
                r = stream_resume(context);
                if (r != 0)
                        return r;
        }

        r = varlink_client_process(context->client, &reply);
        if (r == VARLINK_CLIENT_E_AGAIN) {
                r = context_watch(context);
                return r < 0 ? stream_fail(context, r) : SPEBROKER_AGAIN;
        }
        if (r == VARLINK_CLIENT_E_CLOSED)
                return stream_lost(context);
        if (r != 0)
                return stream_fail(context, error_fold(r));

        return stream_read(context, &reply, ret_lease);
}

/* --- Its start --- */

/* Takes @stream over, whatever comes of it. */
static int stream_start(struct spebroker *context, Stream *stream) {
        int r;

        context_forget_refusal(context);
        stream_deinit(&context->stream);
        context->stream = *stream;
        context->stream.backoff = BACKOFF_INIT(BACKOFF_STREAM_USEC);

        /* That there is no connection is told as if it had been lost just now. */
        r = stream_send(context);
        if (r == SPEBROKER_DISCONNECTED && context->reconnect)
                r = waiter_set_deadline(&context->waiter, clock_now_usec());
        if (r != 0) {
                stream_deinit(&context->stream);
                return r;
        }

        context->stream.running = true;
        return 0;
}

int spebroker_follow(struct spebroker *context, const char *lease_id) {
        Stream stream = {0};

        if (context->stream.running)
                return -EBUSY;

        stream.lease_id = strdup(lease_id);
        if (!stream.lease_id)
                return -ENOMEM;

        return stream_start(context, &stream);
}

int spebroker_acquire_and_follow(struct spebroker *context, const struct spebroker_request *request,
                                 uint64_t wait_usec) {
        Stream stream = {
                .repeatable = context->reconnect,
                .wait_usec = wait_usec,
                .wait_deadline = clock_deadline(wait_usec),
        };
        int r;

        if (context->stream.running)
                return -EBUSY;

        r = request_copy(request, stream.repeatable, &stream.request);
        if (r < 0)
                return r;

        return stream_start(context, &stream);
}
