/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The client's role, on varlink/client: each step is given what the one before answered, not what the table
 * says. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/daemon/certification/steps.h"
#include "varlink/client.h"
#include "varlink/json-read.h"

#define TIMEOUT_USEC UINT64_C(10000000)

static int send_step(VarlinkClient *client, size_t step, struct json_object *id, struct json_object *takes) {
        unsigned flags = step == STEP_STREAM   ? VARLINK_CALL_MORE
                         : step == STEP_ONEWAY ? VARLINK_CALL_ONEWAY
                                               : 0;
        JsonWriter *writer;
        char method[64];
        int r;

        (void)snprintf(method, sizeof(method), CERTIFICATION ".%s", steps[step].method);
        r = varlink_client_begin(client, method, flags, &writer);
        if (r != 0)
                return r;
        if (id)
                json_write_json(writer, "client_id", id);
        json_object_object_foreach(takes, key, value) json_write_json(writer, key, value);
        return varlink_client_end(client);
}

/* One reply to @step that is no error; the caller owns the parameters. */
static int receive_step(VarlinkClient *client, size_t step, bool continues, struct json_object **ret_gives) {
        VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = varlink_client_wait(client, TIMEOUT_USEC, &reply);
        if (r != 0)
                return r;

        if (reply.error || reply.continues != continues) {
                fprintf(stderr, "%s: %s\n", steps[step].method, json_object_to_json_string(reply.message));
                varlink_reply_deinit(&reply);
                return -EPROTO;
        }

        *ret_gives = reply.parameters ? json_object_get(reply.parameters) : json_object_new_object();
        varlink_reply_deinit(&reply);
        return 0;
}

/* The ten replies, as the one object that the next step takes. */
static int receive_stream(VarlinkClient *client, struct json_object **ret_gives) {
        struct json_object *texts = json_object_new_array(), *gives = json_object_new_object();

        json_object_object_add(gives, "last_more_replies", texts);
        for (size_t i = 0; i < STREAM_REPLIES; i++) {
                _cleanup_(json_object_putp) struct json_object *one = NULL;
                int r;

                r = receive_step(client, STEP_STREAM, i + 1 < STREAM_REPLIES, &one);
                if (r != 0) {
                        json_object_put(gives);
                        return r;
                }
                json_object_array_add(texts, json_object_get(json_object_object_get(one, "string")));
        }

        *ret_gives = gives;
        return 0;
}

static int run_step(VarlinkClient *client, size_t step, struct json_object *id, struct json_object **inout) {
        _cleanup_(json_object_putp) struct json_object *gives = NULL, *wanted = NULL;
        int r;

        r = send_step(client, step, id, *inout);
        if (r != 0)
                return r;

        if (step == STEP_STREAM)
                r = receive_stream(client, &gives);
        else if (step == STEP_ONEWAY)
                gives = json_object_new_object();
        else
                r = receive_step(client, step, false, &gives);
        if (r != 0)
                return r;

        wanted = step_gives(step);
        if (!value_equal(gives, wanted)) {
                fprintf(stderr, "%s: got %s\n", steps[step].method, json_object_to_json_string(gives));
                return -EPROTO;
        }

        json_object_put(*inout);
        *inout = steal_ptr(gives);
        return 0;
}

static int run_steps(VarlinkClient *client) {
        _cleanup_(json_object_putp) struct json_object *values = json_object_new_object(), *id = NULL;
        int r;

        for (size_t step = 0; step <= STEP_END; step++) {
                r = run_step(client, step, id, &values);
                if (r != 0) {
                        fprintf(stderr, "%s: %d\n", steps[step].method, r);
                        return r;
                }
                if (step == 0) {
                        id = json_object_get(json_object_object_get(values, "client_id"));
                        json_object_object_del(values, "client_id");
                }
        }

        return 0;
}

int certification_call(const char *path) {
        _cleanup_(varlink_client_freep) VarlinkClient *client = NULL;
        int r;

        r = varlink_client_new_path(path, &client);
        if (r == 0)
                r = run_steps(client);

        fprintf(stderr, "call: %d\n", r);
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
