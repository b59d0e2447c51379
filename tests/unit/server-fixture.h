/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A varlink server with a small interface, and one peer on a socketpair. Nothing here waits: everything that
 * can happen has happened when pump() returns, since both ends are in this process.
 */

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "varlink/server/server.h"

#define PEER_BUFFER_SIZE (1024U * 1024U)
#define BIG_MAX          100000U

static const char fixture_idl[] = "interface org.example.test\n"
                                  "type Inner (word: (one, two), count: ?int)\n"
                                  "method Echo(text: string) -> (text: string)\n"
                                  "method Empty() -> ()\n"
                                  "method Tell() -> ()\n"
                                  "method Nested(inner: ?Inner) -> ()\n"
                                  "method Stream(n: int) -> (i: int)\n"
                                  "method Later() -> (text: string)\n"
                                  "method Fail(code: int) -> ()\n"
                                  "method Refuse(text: string) -> ()\n"
                                  "method Big(size: int) -> (text: string)\n"
                                  "method Finish(text: string) -> ()\n"
                                  "method Slow(usec: int) -> ()\n"
                                  "method Parts(n: int, size: int, usec: ?int) -> (parts: []string)\n"
                                  "method FreeServer() -> ()\n"
                                  "error Refused (text: string)\n"
                                  "error Bare ()\n";

typedef struct Fixture {
        sd_event *event;
        VarlinkServer *server;
        int peer; /* our end */
        char *received;
        size_t n_received;
        unsigned n_reads; /* how often the server's writes arrived in pieces */
        bool eof;

        VarlinkCall *later; /* the call that Later left pending */
        unsigned n_later;
        unsigned n_closed;
        unsigned n_closed_by_free; /* when varlink_server_free() returned to a handler */
        unsigned n_drained;
        unsigned n_handled;

        unsigned n_parts;     /* that were written */
        unsigned n_unwritten; /* replies in parts that have been begun, and are not through */
        unsigned n_unwritten_max;
} Fixture;

static inline void pump(Fixture *f) {
        while (sd_event_run(f->event, 0) > 0)
                ;
}

static inline int64_t get_int(struct json_object *parameters, const char *key) {
        return json_object_get_int64(json_object_object_get(parameters, key));
}

static inline const char *get_string(struct json_object *parameters, const char *key) {
        return json_object_get_string(json_object_object_get(parameters, key));
}

static inline int on_echo(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        ((Fixture *)userdata)->n_handled++;
        json_write_string(varlink_call_reply(call, false), "text", get_string(parameters, "text"));
        varlink_call_send(call);
        return 0;
}

/* Of the processor's time. */
static inline void spend(uint64_t usec) {
        uint64_t end = clock_cpu_usec() + usec;

        while (clock_cpu_usec() < end)
                ;
}

static inline int on_empty(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        ((Fixture *)userdata)->n_handled++;
        return varlink_call_reply_empty(call);
}

static inline int on_stream(VarlinkCall *call, struct json_object *parameters, _unused_ void *userdata) {
        int64_t n = get_int(parameters, "n");

        for (int64_t i = 1; i <= n; i++) {
                json_write_int(varlink_call_reply(call, i < n), "i", i);
                varlink_call_send(call);
        }
        return 0;
}

static inline void on_closed(VarlinkCall *call, void *userdata) {
        Fixture *f = userdata;

        assert_ptr_equal(call, f->later);
        f->later = NULL;
        f->n_closed++;
}

static inline void on_drained(_unused_ VarlinkCall *call, void *userdata) {
        ((Fixture *)userdata)->n_drained++;
}

static inline int on_later(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Fixture *f = userdata;

        f->later = call;
        f->n_later++;
        varlink_call_watch(call, on_closed, on_drained, f);
        return 0;
}

static inline int on_fail(VarlinkCall *call, struct json_object *parameters, _unused_ void *userdata) {
        /* A reply that was begun is no obstacle. */
        json_write_int(varlink_call_reply(call, false), "halfway", 1);
        return -(int)get_int(parameters, "code");
}

static inline int on_refuse(VarlinkCall *call, struct json_object *parameters, _unused_ void *userdata) {
        const char *text = get_string(parameters, "text");

        if (*text)
                json_write_string(varlink_call_error(call, "org.example.test.Refused"), "text", text);
        else
                varlink_call_error(call, "org.example.test.Bare");
        varlink_call_send(call);
        return 0;
}

static inline void reply_big(VarlinkCall *call, size_t size, bool continues) {
        static char text[BIG_MAX];

        assert_true(size <= sizeof(text));
        memset(text, 'x', size);
        json_write_string_n(varlink_call_reply(call, continues), "text", text, size);
        varlink_call_send(call);
}

static inline int on_big(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        ((Fixture *)userdata)->n_handled++;
        reply_big(call, (size_t)get_int(parameters, "size"), false);
        return 0;
}

static inline void finish_later(Fixture *f, const char *text, bool continues) {
        VarlinkCall *call = f->later;

        assert_non_null(call);
        if (!continues)
                f->later = NULL;
        json_write_string(varlink_call_reply(call, continues), "text", text);
        varlink_call_send(call);
}

/* Takes its time, and nobody else can have any of it. */
static inline int on_slow(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        spend((uint64_t)get_int(parameters, "usec"));
        ((Fixture *)userdata)->n_handled++;
        return varlink_call_reply_empty(call);
}

/* A reply in parts. */
typedef struct Parts {
        Fixture *fixture;
        int64_t n; /* that are left */
        size_t size;
        uint64_t usec; /* that each takes */
} Parts;

static inline void parts_free(Parts *parts) {
        parts->fixture->n_unwritten--;
        free(parts);
}

static inline void on_parts_closed(_unused_ VarlinkCall *call, void *userdata) {
        Parts *parts = userdata;

        parts->fixture->n_closed++;
        parts_free(parts);
}

/* Strings of the alphabet's letters in turn. */
static inline void on_part(VarlinkCall *call, void *userdata) {
        JsonWriter *w = varlink_call_get_writer(call);
        char text[BIG_MAX];
        Parts *parts = userdata;

        assert_true(parts->size <= sizeof(text));
        spend(parts->usec);
        memset(text, (int)('a' + parts->n % 26), parts->size);
        json_write_string_n(w, NULL, text, parts->size);
        parts->fixture->n_parts++;
        if (--parts->n > 0)
                return;

        parts_free(parts);
        json_write_array_end(w);
        varlink_call_send(call);
}

static inline int on_parts(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Parts *parts = malloc(sizeof(*parts));
        Fixture *f = userdata;

        assert_non_null(parts);
        *parts = (Parts){.fixture = f,
                         .n = get_int(parameters, "n"),
                         .size = (size_t)get_int(parameters, "size"),
                         .usec = (uint64_t)get_int(parameters, "usec")};
        if (++f->n_unwritten > f->n_unwritten_max)
                f->n_unwritten_max = f->n_unwritten;
        f->n_handled++;
        json_write_array_begin(varlink_call_reply(call, false), "parts");
        varlink_call_watch(call, on_parts_closed, NULL, parts);
        varlink_call_write_in_parts(call, on_part);
        return 0;
}

/* Answers the pending call of another connection, then its own. */
static inline int on_finish(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        finish_later(userdata, get_string(parameters, "text"), false);
        return varlink_call_reply_empty(call);
}

static inline int on_free_server(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Fixture *f = userdata;

        f->server = varlink_server_free(f->server);
        f->n_closed_by_free = f->n_closed;
        return varlink_call_reply_empty(call);
}

static const VarlinkMethod fixture_methods[] = {
        {.name = "Echo", .handler = on_echo},
        {.name = "Empty", .handler = on_empty},
        {.name = "Tell", .handler = on_empty, .only_tells = true},
        {.name = "Nested", .handler = on_empty},
        {.name = "Stream", .handler = on_stream, .requires_more = true},
        {.name = "Later", .handler = on_later},
        {.name = "Fail", .handler = on_fail},
        {.name = "Refuse", .handler = on_refuse},
        {.name = "Big", .handler = on_big},
        {.name = "Finish", .handler = on_finish},
        {.name = "Slow", .handler = on_slow},
        {.name = "Parts", .handler = on_parts},
        {.name = "FreeServer", .handler = on_free_server},
};

static const VarlinkServiceInfo fixture_info = {
        .vendor = "Example",
        .product = "Test \"server\"",
        .version = "1",
        .url = "https://example.org",
};

/* Another connection to the server; the caller closes the descriptor. */
static inline int add_peer(Fixture *f) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        assert_int_equal(varlink_server_add_connection_fd(f->server, fds[1]), 0);
        return fds[0];
}

/* A connection of another user, if this one may make any. */
static inline int add_peer_of(Fixture *f, uid_t uid) {
        int fd;

        if (geteuid() != 0)
                skip();
        assert_int_equal(seteuid(uid), 0);
        fd = add_peer(f);
        assert_int_equal(seteuid(0), 0);
        return fd;
}

static inline int fixture_setup(void **state) {
        Fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(varlink_server_new(f->event, &fixture_info, &f->server), 0);
        assert_int_equal(varlink_server_add_interface(f->server, fixture_idl, fixture_methods,
                                                      ELEMENTS_OF(fixture_methods), f),
                         0);
        f->received = malloc(PEER_BUFFER_SIZE);
        assert_non_null(f->received);
        f->peer = add_peer(f);
        *state = f;
        return 0;
}

static inline int fixture_teardown(void **state) {
        Fixture *f = *state;

        varlink_server_free(f->server);
        sd_event_unref(f->event);
        closep(&f->peer);
        free(f->received);
        free(f);
        return 0;
}

static inline VarlinkServerCounters get_counters(const Fixture *f) {
        VarlinkServerCounters counters;

        varlink_server_get_counters(f->server, &counters);
        return counters;
}

static inline void run_until_connections(Fixture *f, unsigned n) {
        while (get_counters(f).connections != n)
                assert_true(sd_event_run(f->event, UINT64_C(10000000)) > 0); /* not within ten seconds */
}

static inline void send_bytes(Fixture *f, const void *bytes, size_t n) {
        assert_int_equal(send(f->peer, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
        pump(f);
}

/* A message, with its NUL. */
static inline void send_message(Fixture *f, const char *message) {
        send_bytes(f, message, strlen(message) + 1);
}

static inline void receive(Fixture *f) {
        while (f->n_received < PEER_BUFFER_SIZE) {
                ssize_t n;

                pump(f);
                n = recv(f->peer, f->received + f->n_received, PEER_BUFFER_SIZE - f->n_received, 0);
                if (n == 0 || (n < 0 && errno == ECONNRESET))
                        f->eof = true;
                if (n <= 0)
                        return;
                f->n_received += (size_t)n;
                f->n_reads++;
        }
}

static inline void expect_message(Fixture *f, const char *message) {
        size_t n = strlen(message) + 1;

        receive(f);
        assert_non_null(memchr(f->received, '\0', f->n_received));
        assert_string_equal(f->received, message);
        f->n_received -= n;
        memmove(f->received, f->received + n, f->n_received);
}

static inline void expect_silence(Fixture *f) {
        receive(f);
        assert_int_equal(f->n_received, 0);
        assert_false(f->eof);
}

static inline void expect_closed(Fixture *f) {
        receive(f);
        assert_int_equal(f->n_received, 0);
        assert_true(f->eof);
}

/* A new peer in place of the one whose connection is over. */
static inline void reconnect(Fixture *f) {
        closep(&f->peer);
        f->peer = add_peer(f);
        f->n_received = 0;
        f->eof = false;
}

static inline unsigned count_fds(void) {
        _cleanup_(closedirp) DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        return n;
}
