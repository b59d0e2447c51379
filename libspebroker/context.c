/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The context: one connection, and calls that wait for their answer. What matters is what a lost connection
 * means for the call in hand: not sent (nothing happened), or sent and perhaps carried out. Only a call that
 * may be carried out twice is ever sent twice. Before a call is sent the connection is looked at, so that a
 * broker that was restarted while nothing was in flight leaves no doubt behind.
 */

#include "libspebroker/context.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <string.h>
#include <syslog.h>

#include "libspebroker/refusal.h"
#include "libspebroker/request.h"
#include "util/clock.h"
#include "util/error.h"

/* Between two attempts to connect: a restarting broker is back within some hundred milliseconds. */
#define BACKOFF_FIRST_USEC UINT64_C(10000)
#define BACKOFF_MAX_USEC   UINT64_C(500000)

DEFINE_CLEANUP(struct spebroker *, spebroker_unref)

static void context_log(struct spebroker *context, int priority, const char *message) {
        if (context->log_fn)
                context->log_fn(context->log_userdata, priority, message);
}

/*
 * json-c draws the seed of its hash tables from the kernel when the first of all members is added to an
 * object. That is to happen now: after this the VMM may enter a sandbox that kills it for a getrandom().
 */
static int draw_hash_seed(void) {
        struct json_object *object;
        int r;

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;

        r = json_object_object_add(object, "", NULL);
        json_object_put(object);
        return r < 0 ? -ENOMEM : 0;
}

static int context_new(struct spebroker **ret_context) {
        struct spebroker *context;
        int r;

        r = draw_hash_seed();
        if (r < 0)
                return r;

        context = calloc(1, sizeof(*context));
        if (!context)
                return -ENOMEM;

        context->n_ref = 1;
        context->timeout_usec = SPEBROKER_TIMEOUT_USEC;

        *ret_context = context;
        return 0;
}

int spebroker_new(struct spebroker **ret_context) {
        return spebroker_new_from_path(SPEBROKER_SOCKET, ret_context);
}

int spebroker_new_from_path(const char *path, struct spebroker **ret_context) {
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        int r;

        r = context_new(&context);
        if (r < 0)
                return r;

        context->path = strdup(path);
        if (!context->path)
                return -ENOMEM;

        r = context_connect(context);
        if (r != 0)
                return r;

        *ret_context = steal_ptr(context);
        return 0;
}

int spebroker_new_from_fd(int fd, struct spebroker **ret_context) {
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        int r;

        r = context_new(&context);
        if (r < 0)
                return r;

        r = varlink_client_new_fd(fd, &context->client);
        if (r < 0)
                return r;

        *ret_context = steal_ptr(context);
        return 0;
}

struct spebroker *spebroker_ref(struct spebroker *context) {
        if (context)
                context->n_ref++;
        return context;
}

struct spebroker *spebroker_unref(struct spebroker *context) {
        if (!context || --context->n_ref > 0)
                return NULL;

        varlink_client_free(context->client);
        refusal_free(context->refusal);
        free(context->followed);
        free(context->path);
        free(context);
        return NULL;
}

void spebroker_set_timeout(struct spebroker *context, uint64_t usec) {
        context->timeout_usec = usec;
}

int spebroker_set_reconnect(struct spebroker *context, bool reconnect) {
        if (reconnect && !context->path)
                return -EOPNOTSUPP;

        context->reconnect = reconnect;
        return 0;
}

void spebroker_set_log_fn(struct spebroker *context, spebroker_log_fn fn, void *userdata) {
        context->log_fn = fn;
        context->log_userdata = userdata;
}

const struct spebroker_refusal *spebroker_get_refusal(const struct spebroker *context) {
        return context->refusal;
}

int spebroker_get_fd(const struct spebroker *context) {
        return context->client ? varlink_client_get_fd(context->client) : -1;
}

short spebroker_get_events(const struct spebroker *context) {
        return context->client ? varlink_client_get_events(context->client) : 0;
}

void context_forget_refusal(struct spebroker *context) {
        context->refusal = refusal_free(context->refusal);
}

int context_refuse(struct spebroker *context, const VarlinkReply *reply) {
        int r;

        r = refusal_new_error(reply->error, reply->parameters, &context->refusal);
        return r < 0 ? r : SPEBROKER_REFUSED;
}

int context_connect(struct spebroker *context) {
        int r;

        r = varlink_client_new_path(context->path, &context->client);
        if (r == VARLINK_CLIENT_E_NO_SERVICE)
                return SPEBROKER_NO_BROKER;
        if (r == VARLINK_CLIENT_E_TIMEOUT)
                return SPEBROKER_TIMEOUT;

        return error_fold(r);
}

void context_disconnect(struct spebroker *context, const char *why) {
        if (!context->client)
                return;

        context->client = varlink_client_free(context->client);
        context_log(context, LOG_NOTICE, why);
}

/* Tries until @deadline. */
static int context_reconnect(struct spebroker *context, uint64_t deadline) {
        uint64_t backoff = BACKOFF_FIRST_USEC;
        int r;

        for (;;) {
                struct timespec ts;
                uint64_t left;

                r = context_connect(context);
                if (r == 0)
                        context_log(context, LOG_INFO, "Connected to the broker again.");
                if (r != SPEBROKER_NO_BROKER)
                        return r;

                left = clock_left(deadline);
                if (left == 0)
                        return r;

                ts = clock_timespec(backoff < left ? backoff : left);
                (void)ppoll(NULL, 0, &ts, NULL);
                backoff = backoff * 2 < BACKOFF_MAX_USEC ? backoff * 2 : BACKOFF_MAX_USEC;
        }
}

/* Is the connection still there? Nothing is in flight, so nothing may arrive. */
static bool context_is_connected(struct spebroker *context) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;

        if (context->client && varlink_client_process(context->client, &reply) != VARLINK_CLIENT_E_AGAIN)
                context_disconnect(context, "The broker has closed the connection.");

        return context->client;
}

int context_send(struct spebroker *context, const Call *call) {
        JsonWriter *writer;
        int r;

        if (!context_is_connected(context))
                return SPEBROKER_DISCONNECTED;

        r = varlink_client_begin(context->client, call->method, call->stream ? VARLINK_CALL_MORE : 0,
                                 &writer);
        if (r == VARLINK_CLIENT_E_CLOSED) {
                /* It reads no more, though it has not hung up; who connects anew finds no client in the way.
                 */
                context_disconnect(context, "The broker has closed the connection.");
                return SPEBROKER_DISCONNECTED;
        }
        if (r != 0)
                return error_fold(r);

        if (call->request)
                request_write(call->request, writer);
        if (call->lease_id)
                json_write_string(writer, "leaseId", call->lease_id);
        if (call->cpus)
                json_write_string(writer, "cpus", call->cpus);
        if (call->wait_usec > 0)
                json_write_int(writer, "waitUSec",
                               call->wait_usec < INT64_MAX ? (int64_t)call->wait_usec : INT64_MAX);

        return varlink_client_end(context->client);
}

/* Sends and waits, once. */
static int context_try(struct spebroker *context, const Call *call, uint64_t deadline,
                       VarlinkReply *ret_reply) {
        int r;

        r = context_send(context, call);
        if (r != 0)
                return r;

        r = varlink_client_wait(context->client, clock_left(deadline), ret_reply);
        if (r == VARLINK_CLIENT_E_CLOSED) {
                context_disconnect(context, "The broker closed the connection before it answered.");
                return SPEBROKER_OUTCOME_UNKNOWN;
        }
        if (r == VARLINK_CLIENT_E_TIMEOUT) {
                context_disconnect(context, "The broker did not answer in time.");
                return SPEBROKER_TIMEOUT;
        }
        if (r != 0)
                context_disconnect(context, "The connection to the broker failed.");

        return error_fold(r);
}

/* Connects anew and says it again, after @lost: what the first attempt came to. */
static int context_try_again(struct spebroker *context, const Call *call, uint64_t deadline, int lost,
                             VarlinkReply *ret_reply) {
        int r;

        r = context_reconnect(context, deadline);
        if (r == 0)
                r = context_try(context, call, deadline, ret_reply);

        /* That the second was not sent says nothing about the first. */
        if (lost == SPEBROKER_OUTCOME_UNKNOWN && (r == SPEBROKER_DISCONNECTED || r == SPEBROKER_NO_BROKER))
                return lost;

        return r;
}

int context_call(struct spebroker *context, const Call *call, VarlinkReply *ret_reply) {
        uint64_t timeout, deadline;
        int r;

        if (context->streaming)
                return -EBUSY;

        context_forget_refusal(context);
        if (__builtin_add_overflow(context->timeout_usec, call->wait_usec, &timeout))
                timeout = UINT64_MAX;
        deadline = clock_deadline(timeout);

        r = context_try(context, call, deadline, ret_reply);
        if (context->reconnect &&
            (r == SPEBROKER_DISCONNECTED || (r == SPEBROKER_OUTCOME_UNKNOWN && call->repeatable)))
                r = context_try_again(context, call, deadline, r, ret_reply);
        if (r != 0)
                return r;

        return ret_reply->error ? context_refuse(context, ret_reply) : 0;
}
