/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Bytes on a connection to the server, in pieces of the size that the first byte says. Whatever comes, what
 * goes back is a sequence of whole replies, and when the peer has gone nothing is left of it.
 */

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "util/cleanup.h"
#include "varlink/json-read.h"
#include "varlink/server/server.h"

#define REPLIES_MAX ((size_t)4 * 1024 * 1024)

static const char idl[] = "interface a.b\n"
                          "type T (w: (x, y), l: []int, m: ?[string]string)\n"
                          "method Echo(s: ?string, t: ?T, o: ?object) -> (s: ?string, o: ?object)\n"
                          "method Stream(n: int) -> (i: int)\n"
                          "method Later() -> ()\n"
                          "method Fail(e: int) -> ()\n";

typedef struct Fuzz {
        sd_event *event;
        VarlinkServer *server;
        VarlinkCall *later;
        int peer;
        char *replies;
        size_t n_replies;
} Fuzz;

static int on_echo(VarlinkCall *call, struct json_object *parameters, _unused_ void *userdata) {
        JsonWriter *writer = varlink_call_reply(call, false);

        json_write_json(writer, "s", json_object_object_get(parameters, "s"));
        json_write_json(writer, "o", json_object_object_get(parameters, "o"));
        varlink_call_send(call);
        return 0;
}

static int on_stream(VarlinkCall *call, struct json_object *parameters, _unused_ void *userdata) {
        int64_t n = json_object_get_int64(json_object_object_get(parameters, "n")) % 8;

        for (int64_t i = 1; i < n; i++) {
                json_write_int(varlink_call_reply(call, true), "i", i);
                varlink_call_send(call);
        }
        return varlink_call_reply_empty(call);
}

static void on_closed(_unused_ VarlinkCall *call, void *userdata) {
        ((Fuzz *)userdata)->later = NULL;
}

static int on_later(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Fuzz *fuzz = userdata;

        fuzz->later = call;
        varlink_call_watch(call, on_closed, NULL, fuzz);
        return 0;
}

static int on_fail(VarlinkCall *call, struct json_object *parameters, _unused_ void *userdata) {
        varlink_call_reply(call, false);
        return -(int)(json_object_get_int64(json_object_object_get(parameters, "e")) & 0xfff);
}

static const VarlinkMethod methods[] = {
        {.name = "Echo", .handler = on_echo},
        {.name = "Stream", .handler = on_stream, .requires_more = true},
        {.name = "Later", .handler = on_later},
        {.name = "Fail", .handler = on_fail},
};

static void fuzz_pump(Fuzz *fuzz) {
        ssize_t n;

        do {
                while (sd_event_run(fuzz->event, 0) > 0)
                        ;
                n = recv(fuzz->peer, fuzz->replies + fuzz->n_replies, REPLIES_MAX - fuzz->n_replies,
                         MSG_DONTWAIT);
                if (n > 0)
                        fuzz->n_replies += (size_t)n;
                if (fuzz->later) {
                        varlink_call_reply_empty(fuzz->later);
                        fuzz->later = NULL;
                        n = 1;
                }
        } while (n > 0);
}

static void check_reply(const char *bytes, size_t n) {
        _cleanup_(json_object_putp) struct json_object *reply = NULL;
        struct json_object *error;
        int r;

        r = json_read(bytes, n, &reply, NULL);
        assert(r == 0);
        assert(json_object_is_type(reply, json_type_object));

        error = json_object_object_get(reply, "error");
        assert(!error || json_object_is_type(error, json_type_string));
        assert(!error || !json_object_object_get(reply, "continues"));
        json_object_object_foreach(reply, key, value) {
                assert(strcmp(key, "parameters") == 0 || strcmp(key, "continues") == 0 ||
                       strcmp(key, "error") == 0);
                assert(strcmp(key, "parameters") != 0 || json_object_is_type(value, json_type_object));
        }
}

static void check_replies(const Fuzz *fuzz) {
        for (size_t i = 0; i < fuzz->n_replies;) {
                const char *end = memchr(fuzz->replies + i, '\0', fuzz->n_replies - i);

                assert(end);
                check_reply(fuzz->replies + i, (size_t)(end - fuzz->replies) - i);
                i = (size_t)(end - fuzz->replies) + 1;
        }
}

static void fuzz_feed(Fuzz *fuzz, const uint8_t *data, size_t size) {
        size_t piece = data[0] == 0 ? size : data[0];

        for (size_t i = 1; i < size;) {
                size_t n = size - i < piece ? size - i : piece;
                ssize_t sent = send(fuzz->peer, data + i, n, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (sent < 0 && errno != EAGAIN)
                        return; /* the server hung up */
                if (sent > 0)
                        i += (size_t)sent;
                fuzz_pump(fuzz);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const VarlinkServiceInfo info = {.vendor = "v", .product = "p", .version = "1", .url = "u"};
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        VarlinkServerCounters counters;
        Fuzz fuzz = {0};
        int fds[2], r;

        if (size < 2)
                return 0;

        r = sd_event_new(&fuzz.event);
        assert(r >= 0);
        r = varlink_server_new(fuzz.event, &info, &fuzz.server);
        assert(r == 0);
        r = varlink_server_add_interface(fuzz.server, idl, methods, ELEMENTS_OF(methods), &fuzz);
        assert(r == 0);
        limits.message_max = 4096; /* so that a small input meets it */
        varlink_server_set_limits(fuzz.server, &limits);
        r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
        assert(r == 0);
        fuzz.peer = fds[0];
        r = varlink_server_add_connection_fd(fuzz.server, fds[1]);
        assert(r == 0);
        fuzz.replies = malloc(REPLIES_MAX);
        assert(fuzz.replies);

        fuzz_feed(&fuzz, data, size);
        (void)shutdown(fuzz.peer, SHUT_WR);
        fuzz_pump(&fuzz);
        check_replies(&fuzz);

        /* All was answered that was received, so there was nothing to stay for. */
        varlink_server_get_counters(fuzz.server, &counters);
        assert(counters.connections == 0 && counters.overflows == 0);

        varlink_server_free(fuzz.server);
        sd_event_unref(fuzz.event);
        close(fuzz.peer);
        free(fuzz.replies);
        return 0;
}
