/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The context: one connection, or none at the moment, and how a call is put into it.
 */

#include "libspebroker/context.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "libspebroker/refusal.h"
#include "libspebroker/request.h"
#include "libspebroker/stream.h"
#include "util/error.h"

DEFINE_CLEANUP(struct spebroker *, spebroker_unref)

void context_log(struct spebroker *context, int priority, const char *message) {
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
        context->pid = getpid();
        context->timeout_usec = SPEBROKER_TIMEOUT_USEC;
        context->waiter = WAITER_NULL;

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

        r = context_connect(context, VARLINK_CLIENT_CONNECT_TIMEOUT_USEC);
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
        waiter_close(&context->waiter);
        refusal_free(context->refusal);
        spebroker_request_unref(context->in_doubt);
        stream_deinit(&context->stream);
        free(context->path);
        free(context);
        return NULL;
}

void spebroker_set_timeout(struct spebroker *context, uint64_t usec) {
        context->timeout_usec = usec;
}

int spebroker_set_reconnect(struct spebroker *context, bool reconnect) {
        int r;

        if (reconnect && !context->path)
                return -EOPNOTSUPP;

        /* It stays open: who waits for its descriptor may go on doing so. */
        if (reconnect && context->waiter.epoll_fd < 0) {
                r = waiter_open(&context->waiter);
                if (r == 0)
                        r = context_watch(context);
                if (r < 0) {
                        waiter_close(&context->waiter);
                        return r;
                }
        }

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
        if (context->waiter.epoll_fd >= 0)
                return context->waiter.epoll_fd;
        return context->client ? varlink_client_get_fd(context->client) : -1;
}

short spebroker_get_events(const struct spebroker *context) {
        if (context->waiter.epoll_fd >= 0)
                return POLLIN;
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

bool context_refused_as(const struct spebroker *context, const char *name) {
        return context->refusal && strcmp(spebroker_refusal_get_name(context->refusal), name) == 0;
}

int context_connect(struct spebroker *context, uint64_t timeout_usec) {
        int r;

        r = varlink_client_new_path_within(context->path, timeout_usec, &context->client);
        if (r == VARLINK_CLIENT_E_NO_SERVICE)
                return SPEBROKER_NO_BROKER;
        if (r == VARLINK_CLIENT_E_TIMEOUT)
                return SPEBROKER_TIMEOUT;
        if (r != 0)
                return error_fold(r);

        r = context_watch(context);
        if (r < 0)
                context->client = varlink_client_free(context->client);
        return r;
}

int context_watch(struct spebroker *context) {
        if (!context->client)
                return waiter_watch(&context->waiter, -1, 0);

        return waiter_watch(&context->waiter, varlink_client_get_fd(context->client),
                            varlink_client_get_events(context->client));
}

void context_disconnect(struct spebroker *context, const char *why) {
        if (!context->client)
                return;

        (void)waiter_watch(&context->waiter, -1, 0);
        context->client = varlink_client_free(context->client);
        context_log(context, LOG_NOTICE, why);
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
        if (call->vm)
                json_write_string(writer, "vm", call->vm);
        if (call->cpus)
                json_write_string(writer, "cpus", call->cpus);
        if (call->memlock_missing > 0)
                json_write_int(writer, "memlockMissing", (int64_t)call->memlock_missing);
        if (call->wait_usec > 0)
                json_write_int(writer, "waitUSec",
                               call->wait_usec < INT64_MAX ? (int64_t)call->wait_usec : INT64_MAX);

        r = varlink_client_end(context->client);
        return r == 0 ? context_watch(context) : r;
}
