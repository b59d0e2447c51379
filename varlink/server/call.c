/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From a message to its handler, and from the handler to a reply. The envelope is checked here, the
 * parameters against the IDL; the reply is written straight into the connection's output. Nothing here does
 * I/O or runs a callback other than the handler.
 *
 * Invariant: a message leaves whole or not at all; the output of a call that is being written is not sent. A
 * handler that fails after beginning a reply, a reply that outgrows the limit, a reply to a oneway call: the
 * bytes are taken back.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "util/error.h"
#include "varlink/json-read.h"
#include "varlink/server/server-private.h"

#define SERVICE_ERROR(name) "org.varlink.service." name

typedef struct Envelope {
        struct json_object *parameters;
        const char *method;
        bool more;
        bool oneway;
        bool upgrade;
} Envelope;

/* A flag is a bool; null says nothing, as its type in the specification is '?bool'. */
static int envelope_read_flag(struct json_object *value, bool *ret_flag) {
        if (value && !json_object_is_type(value, json_type_boolean))
                return CALL_E_MALFORMED;

        *ret_flag = value && json_object_get_boolean(value);
        return 0;
}

static int envelope_read_member(Envelope *envelope, const char *key, struct json_object *value) {
        if (strcmp(key, "method") == 0) {
                if (!json_object_is_type(value, json_type_string))
                        return CALL_E_MALFORMED;
                envelope->method = json_object_get_string(value);
                return 0;
        }
        if (strcmp(key, "parameters") == 0) {
                if (value && !json_object_is_type(value, json_type_object))
                        return CALL_E_MALFORMED;
                envelope->parameters = value;
                return 0;
        }
        if (strcmp(key, "more") == 0)
                return envelope_read_flag(value, &envelope->more);
        if (strcmp(key, "oneway") == 0)
                return envelope_read_flag(value, &envelope->oneway);
        if (strcmp(key, "upgrade") == 0)
                return envelope_read_flag(value, &envelope->upgrade);

        /* Vendors' extensions are named like interfaces, and are to be ignored; anything else is an error. */
        return strchr(key, '.') ? 0 : CALL_E_MALFORMED;
}

static int envelope_read(struct json_object *message, Envelope *ret_envelope) {
        Envelope envelope = {0};

        if (!json_object_is_type(message, json_type_object))
                return CALL_E_MALFORMED;

        json_object_object_foreach(message, key, value) {
                int r = envelope_read_member(&envelope, key, value);

                if (r != 0)
                        return r;
        }

        if (!envelope.method || !strchr(envelope.method, '.'))
                return CALL_E_MALFORMED;
        if (envelope.more + envelope.oneway + envelope.upgrade > 1)
                return CALL_E_MALFORMED;

        *ret_envelope = envelope;
        return 0;
}

static int call_answer_not_found(VarlinkCall *call, const char *method) {
        const Registry *registry = &call->connection->server->registry;
        size_t n_interface = (size_t)(strrchr(method, '.') - method);
        JsonWriter *writer;

        if (registry_find_interface(registry, method, n_interface)) {
                writer = varlink_call_error(call, SERVICE_ERROR("MethodNotFound"));
                json_write_string(writer, "method", method);
        } else {
                writer = varlink_call_error(call, SERVICE_ERROR("InterfaceNotFound"));
                json_write_string_n(writer, "interface", method, n_interface);
        }
        varlink_call_send(call);
        return 0;
}

static int call_run(VarlinkCall *call, const char *name) {
        const RegistryMethod *method;
        const char *field;
        int r;

        method = registry_find_method(&call->connection->server->registry, name);
        if (!method)
                return call_answer_not_found(call, name);
        if (method->method->requires_more && !call->more)
                return varlink_call_expected_more(call);

        if (method->method->only_tells && (call->oneway || call->connection->write_closed))
                return varlink_call_reply_empty(call); /* nobody hears it */

        r = idl_check(method->idl, method->input, call->parameters, &field);
        if (r > 0)
                return varlink_call_invalid_parameter(call, field);
        if (r < 0)
                return r;

        return method->method->handler(call, call->parameters, method->userdata);
}

static void call_forget_message(VarlinkCall *call) {
        json_object_put(call->message);
        call->message = call->parameters = NULL;
}

int call_dispatch(VarlinkCall *call, const char *message, size_t n) {
        VarlinkServer *server = call->connection->server;
        _cleanup_(json_object_putp) struct json_object *object = NULL;
        Envelope envelope;
        int r;

        assert(!call->active);

        r = json_read(message, n, &object, NULL);
        if (r != 0)
                return r < 0 ? r : CALL_E_MALFORMED;
        r = envelope_read(object, &envelope);
        if (r != 0)
                return r;

        call->message = steal_ptr(object);
        call->parameters = envelope.parameters ? envelope.parameters : server->no_parameters;
        call->more = envelope.more;
        call->oneway = envelope.oneway;
        call->active = true;
        server->counters.calls++;

        r = call_run(call, envelope.method);
        if (r == 0 && call->writing && !call->part)
                r = -ENOTRECOVERABLE; /* begun and not sent: half a message must not get out */
        if (r != 0 && call->active)
                varlink_call_system_error(call, error_fold(r));
        /* It may be answered much later, and objects take far more memory than the text that they were. */
        call_forget_message(call);
        return 0;
}

void call_end(VarlinkCall *call) {
        call_forget_message(call);
        *call = (VarlinkCall){.connection = call->connection};
}

static void output_truncate(Buffer *out, size_t pending) {
        out->end = out->start + pending;
}

static JsonWriter *call_begin(VarlinkCall *call, const char *error, bool continues) {
        Buffer *out = connection_get_output(call->connection);

        assert(call->active);
        assert(!continues || (call->more && !error));

        /* A reply that was begun and never sent: the handler changed its mind, or failed. */
        if (call->writing)
                output_truncate(out, call->reply_at);

        call->writing = true;
        call->part = NULL;
        call->continues = continues;
        call->error = error;
        call->reply_at = buffer_pending(out);
        json_writer_init(&call->writer, out);
        json_write_object_begin(&call->writer, NULL);
        if (error)
                json_write_string(&call->writer, "error", error);

        call->writer_bare = call->writer;
        call->parameters_at = buffer_pending(out);
        json_write_object_begin(&call->writer, "parameters");
        call->members_at = buffer_pending(out);
        return &call->writer;
}

/* Closes the braces, and ends the message with its NUL. */
static int call_finish_message(VarlinkCall *call) {
        JsonWriter *writer = &call->writer;
        Buffer *out = writer->buffer;
        int r;

        if (buffer_pending(out) > call->members_at || writer->error < 0)
                json_write_object_end(writer);
        else {
                /* Empty parameters are left out, as the specification asks. */
                output_truncate(out, call->parameters_at);
                *writer = call->writer_bare;
        }
        if (call->continues)
                json_write_bool(writer, "continues", true);
        json_write_object_end(writer);

        r = json_writer_finish(writer);
        if (r == 0)
                r = buffer_append(out, "", 1);
        if (r < 0 || call->oneway)
                output_truncate(out, call->reply_at);
        return r;
}

void varlink_call_send(VarlinkCall *call) {
        Connection *connection = call->connection;
        int r;

        assert(call->writing);

        call->writing = false;
        call->part = NULL;
        r = call_finish_message(call);
        if (call->error)
                connection->server->counters.errors++;
        if (!call->continues)
                call_end(call);
        connection_output_ready(connection, r);
}

JsonWriter *varlink_call_reply(VarlinkCall *call, bool continues) {
        return call_begin(call, NULL, continues);
}

JsonWriter *varlink_call_error(VarlinkCall *call, const char *error) {
        return call_begin(call, error, false);
}

int varlink_call_reply_empty(VarlinkCall *call) {
        varlink_call_reply(call, false);
        varlink_call_send(call);
        return 0;
}

int varlink_call_invalid_parameter(VarlinkCall *call, const char *parameter) {
        json_write_string(varlink_call_error(call, SERVICE_ERROR("InvalidParameter")), "parameter",
                          parameter);
        varlink_call_send(call);
        return 0;
}

int varlink_call_permission_denied(VarlinkCall *call) {
        varlink_call_error(call, SERVICE_ERROR("PermissionDenied"));
        varlink_call_send(call);
        return 0;
}

int varlink_call_expected_more(VarlinkCall *call) {
        varlink_call_error(call, SERVICE_ERROR("ExpectedMore"));
        varlink_call_send(call);
        return 0;
}

int varlink_call_system_error(VarlinkCall *call, int error) {
        json_write_int(varlink_call_error(call, "io.systemd.System"), "errno", -error);
        varlink_call_send(call);
        return 0;
}

const VarlinkPeer *varlink_call_get_peer(const VarlinkCall *call) {
        return connection_get_peer(call->connection);
}

bool varlink_call_wants_more(const VarlinkCall *call) {
        return call->more;
}

size_t varlink_call_get_backlog(const VarlinkCall *call) {
        return buffer_pending(&call->connection->out);
}

JsonWriter *varlink_call_get_writer(VarlinkCall *call) {
        assert(call->writing);

        return &call->writer;
}

void varlink_call_write_in_parts(VarlinkCall *call, VarlinkCallFn part) {
        assert(call->writing);

        call->part = part;
}

void varlink_call_watch(VarlinkCall *call, VarlinkCallFn closed, VarlinkCallFn drained, void *userdata) {
        call->closed = closed;
        call->drained = drained;
        call->userdata = userdata;
}
