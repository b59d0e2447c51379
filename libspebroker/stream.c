/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A context as a stream of one lease's changes, for a VMM's event loop. As soon as a lease is granted its id
 * is all that is needed to go on after the connection was lost: a lease lives without one, a waiting request
 * does not.
 */

#include <errno.h>
#include <string.h>

#include "libspebroker/context.h"
#include "libspebroker/lease.h"
#include "util/error.h"

static void stream_end(struct spebroker *context) {
        context->streaming = false;
        free(context->followed);
        context->followed = NULL;
}

/* The stream cannot go on; a connection with a half-read stream is of no use for calls. */
static int stream_fail(struct spebroker *context, int r) {
        context_disconnect(context, "The stream from the broker failed.");
        stream_end(context);
        return r;
}

/* Remembers which lease to follow if the connection goes. */
static int stream_set_followed(struct spebroker *context, const char *lease_id) {
        char *copy;

        if (context->followed && strcmp(context->followed, lease_id) == 0)
                return 0;

        copy = strdup(lease_id);
        if (!copy)
                return -ENOMEM;

        free(context->followed);
        context->followed = copy;
        return 0;
}

static int stream_start(struct spebroker *context, const Call *call) {
        int r;

        if (context->streaming)
                return -EBUSY;

        context_forget_refusal(context);
        if (call->lease_id) {
                r = stream_set_followed(context, call->lease_id);
                if (r < 0)
                        return r;
        }

        r = context_send(context, call);
        if (r == SPEBROKER_DISCONNECTED && context->reconnect) {
                r = context_connect(context);
                if (r == 0)
                        r = context_send(context, call);
        }
        if (r != 0) {
                stream_end(context);
                return r;
        }

        context->streaming = true;
        return 0;
}

int spebroker_follow(struct spebroker *context, const char *lease_id) {
        const Call call = {.method = "io.spebroker.Broker.Follow", .stream = true, .lease_id = lease_id};

        return stream_start(context, &call);
}

int spebroker_acquire_and_follow(struct spebroker *context, const struct spebroker_request *request,
                                 uint64_t wait_usec) {
        const Call call = {
                .method = "io.spebroker.Broker.Acquire",
                .stream = true,
                .request = request,
                .wait_usec = wait_usec,
        };

        return stream_start(context, &call);
}

/* Follows the lease on a new connection, at one attempt: who polls does not want to wait here. */
static int stream_resume(struct spebroker *context) {
        const Call call = {
                .method = "io.spebroker.Broker.Follow", .stream = true, .lease_id = context->followed};
        int r;

        r = context_connect(context);
        if (r == SPEBROKER_NO_BROKER || r == SPEBROKER_TIMEOUT)
                return SPEBROKER_DISCONNECTED;
        if (r != 0)
                return stream_fail(context, r);

        r = context_send(context, &call);
        if (r < 0)
                return stream_fail(context, r);

        return r == 0 ? SPEBROKER_RECONNECTED : r;
}

static int stream_lost(struct spebroker *context) {
        context_disconnect(context, "The broker has closed the connection.");
        if (!context->followed)
                return stream_fail(context, SPEBROKER_OUTCOME_UNKNOWN);
        if (!context->reconnect)
                return stream_fail(context, SPEBROKER_DISCONNECTED);

        return stream_resume(context);
}

/* What a reply of the stream says. */
static int stream_read(struct spebroker *context, const VarlinkReply *reply,
                       struct spebroker_lease **ret_lease) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        int r;

        if (reply->error) {
                stream_end(context);
                return context_refuse(context, reply);
        }

        r = lease_new(reply->parameters, &lease);
        if (r < 0)
                return stream_fail(context, r);

        if (!lease_is_queued(lease)) {
                r = stream_set_followed(context, spebroker_lease_get_id(lease));
                if (r < 0)
                        return stream_fail(context, r);
        }
        if (!reply->continues)
                stream_end(context);

        *ret_lease = steal_ptr(lease);
        return 0;
}

int spebroker_process(struct spebroker *context, struct spebroker_lease **ret_lease) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        context_forget_refusal(context);
        if (!context->streaming)
                return SPEBROKER_ENDED;
        if (!context->client)
                return stream_resume(context);

        r = varlink_client_process(context->client, &reply);
        if (r == VARLINK_CLIENT_E_AGAIN)
                return SPEBROKER_AGAIN;
        if (r == VARLINK_CLIENT_E_CLOSED)
                return stream_lost(context);
        if (r != 0)
                return stream_fail(context, error_fold(r));

        return stream_read(context, &reply, ret_lease);
}
