/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The client against a peer that is the other end of a socket pair, driven from the same thread: what it
 * sends is compared byte for byte, and every reply it gets is written out here.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "varlink/client.h"

#define WAIT_USEC (UINT64_C(5) * 1000 * 1000)

typedef struct Pair {
        VarlinkClient *client;
        int peer;
} Pair;

static void pair_init(Pair *pair) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(varlink_client_new_fd(fds[0], &pair->client), 0);
        pair->peer = fds[1];
}

static void pair_deinit(Pair *pair) {
        varlink_client_free(pair->client);
        if (pair->peer >= 0)
                close(pair->peer);
}

static void call(Pair *pair, const char *method, unsigned flags) {
        JsonWriter *writer;

        assert_int_equal(varlink_client_begin(pair->client, method, flags, &writer), 0);
        assert_int_equal(varlink_client_end(pair->client), 0);
}

static void say_n(Pair *pair, const char *bytes, size_t n) {
        assert_int_equal(send(pair->peer, bytes, n, MSG_NOSIGNAL), n);
}

/* A message and its NUL. */
static void say(Pair *pair, const char *text) {
        say_n(pair, text, strlen(text) + 1);
}

static void hang_up(Pair *pair) {
        close(pair->peer);
        pair->peer = -1;
}

static void assert_heard(Pair *pair, const char *expected, size_t n) {
        char buffer[1024];

        assert_true(n < sizeof(buffer));
        assert_int_equal(recv(pair->peer, buffer, sizeof(buffer), MSG_DONTWAIT), n);
        assert_memory_equal(buffer, expected, n);
}

static void assert_reply(Pair *pair, const char *parameters, const char *error, bool continues) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;

        assert_int_equal(varlink_client_wait(pair->client, WAIT_USEC, &reply), 0);
        if (parameters)
                assert_string_equal(json_object_to_json_string_ext(reply.parameters, JSON_C_TO_STRING_PLAIN),
                                    parameters);
        else
                assert_null(reply.parameters);
        if (error)
                assert_string_equal(reply.error, error);
        else
                assert_null(reply.error);
        assert_int_equal(reply.continues, continues);
}

static void assert_outcome(Pair *pair, int expected) {
        VarlinkReply reply = VARLINK_REPLY_NULL;

        assert_int_equal(varlink_client_process(pair->client, &reply), expected);
        assert_null(reply.message);
}

static void test_call(_unused_ void **state) {
        static const char expected[] =
                "{\"method\":\"a.b.C\",\"parameters\":{\"x\":1,\"y\":\"z\"}}\0{\"method\":\"a.b.D\",\"more\":"
                "true,"
                "\"parameters\":{}}\0{\"method\":\"a.b.E\",\"oneway\":true,\"parameters\":{}}";
        _cleanup_(pair_deinit) Pair pair;
        JsonWriter *writer;

        pair_init(&pair);
        assert_int_equal(varlink_client_begin(pair.client, "a.b.C", 0, &writer), 0);
        json_write_int(writer, "x", 1);
        json_write_string(writer, "y", "z");
        assert_int_equal(varlink_client_end(pair.client), 0);
        call(&pair, "a.b.D", VARLINK_CALL_MORE);
        call(&pair, "a.b.E", VARLINK_CALL_ONEWAY);
        assert_heard(&pair, expected, sizeof(expected));

        say(&pair, "{\"parameters\":{\"q\":7}}");
        assert_reply(&pair, "{\"q\":7}", NULL, false);
        say(&pair, "{\"continues\":true,\"parameters\":{\"n\":1}}");
        say(&pair, "{\"continues\":true}");
        say(&pair, "{\"continues\":false,\"parameters\":null,\"error\":null}");
        assert_reply(&pair, "{\"n\":1}", NULL, true);
        assert_reply(&pair, NULL, NULL, true);
        assert_reply(&pair, NULL, NULL, false);
        assert_outcome(&pair, VARLINK_CLIENT_E_AGAIN);
}

static void test_error(_unused_ void **state) {
        _cleanup_(pair_deinit) Pair pair;

        pair_init(&pair);
        call(&pair, "a.b.C", VARLINK_CALL_MORE);
        say(&pair, " {\"error\" : \"a.b.No\", \"parameters\" : {\"why\":\"so\"}, \"org.vendor\": [1] } \n");
        assert_reply(&pair, "{\"why\":\"so\"}", "a.b.No", false);

        /* The connection lives on. */
        call(&pair, "a.b.C", 0);
        say(&pair, "{}");
        assert_reply(&pair, NULL, NULL, false);
}

/* Replies that come in single bytes, and many in one piece. */
static void test_split_and_coalesced(_unused_ void **state) {
        static const char text[] = "{\"parameters\":{\"a\":\"b\"}}";
        static const char three[] =
                "{\"parameters\":{\"n\":1}}\0{\"parameters\":{\"n\":2}}\0{\"parameters\":{\"n\":3}}";
        _cleanup_(pair_deinit) Pair pair;

        pair_init(&pair);
        call(&pair, "a.b.C", 0);
        for (size_t i = 0; i < sizeof(text); i++) {
                assert_outcome(&pair, VARLINK_CLIENT_E_AGAIN);
                say_n(&pair, text + i, 1);
        }
        assert_reply(&pair, "{\"a\":\"b\"}", NULL, false);

        for (int i = 0; i < 3; i++)
                call(&pair, "a.b.C", 0);
        say_n(&pair, three, sizeof(three));
        assert_reply(&pair, "{\"n\":1}", NULL, false);
        assert_reply(&pair, "{\"n\":2}", NULL, false);
        assert_reply(&pair, "{\"n\":3}", NULL, false);
}

static void test_broken_protocol(_unused_ void **state) {
        static const struct {
                unsigned flags;
                const char *text;
        } cases[] = {
                {0, ""},
                {0, "[]"},
                {0, "7"},
                {0, "null"},
                {0, "{"},
                {0, "{}{}"},
                {0, "{'parameters':{}}"},
                {0, "{\"parameters\":[]}"},
                {0, "{\"parameters\":\"x\"}"},
                {0, "{\"parameters\":{},\"parameters\":{}}"},
                {0, "{\"error\":7}"},
                {0, "{\"error\":{}}"},
                {0, "{\"continues\":\"yes\"}"},
                {0, "{\"continues\":1}"},
                {0, "{\"continues\":true}"},
                {VARLINK_CALL_MORE, "{\"continues\":true,\"error\":\"a.b.No\"}"},
                {VARLINK_CALL_MORE, "{\"error\":\"a.b.No\",\"continues\":true}"},
                {0, "{\"bogus\":1}"},
                {0, "{\"upgrade\":false}"},
                {0, "{\"parameters\":{\"x\":\"\xff\"}}"},
        };

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(pair_deinit) Pair pair;
                JsonWriter *writer;

                pair_init(&pair);
                call(&pair, "a.b.C", cases[i].flags);
                say(&pair, cases[i].text);
                say(&pair, "{}");
                assert_outcome(&pair, VARLINK_CLIENT_E_CLOSED);
                /* It stays so: the good reply behind is not believed, and nothing can be sent. */
                assert_outcome(&pair, VARLINK_CLIENT_E_CLOSED);
                assert_int_equal(varlink_client_begin(pair.client, "a.b.C", 0, &writer),
                                 VARLINK_CLIENT_E_CLOSED);
        }
}

static void test_unexpected_reply(_unused_ void **state) {
        _cleanup_(pair_deinit) Pair idle, oneway, twice;

        pair_init(&idle);
        say(&idle, "{}");
        assert_outcome(&idle, VARLINK_CLIENT_E_CLOSED);

        pair_init(&oneway);
        call(&oneway, "a.b.C", VARLINK_CALL_ONEWAY);
        say(&oneway, "{}");
        assert_outcome(&oneway, VARLINK_CLIENT_E_CLOSED);

        pair_init(&twice);
        call(&twice, "a.b.C", 0);
        say(&twice, "{}");
        say(&twice, "{}");
        assert_reply(&twice, NULL, NULL, false);
        assert_outcome(&twice, VARLINK_CLIENT_E_CLOSED);
}

static void test_hang_up(_unused_ void **state) {
        _cleanup_(pair_deinit) Pair before, middle, after;
        JsonWriter *writer;

        pair_init(&before);
        hang_up(&before);
        call(&before, "a.b.C", 0);
        assert_outcome(&before, VARLINK_CLIENT_E_CLOSED);
        assert_int_equal(varlink_client_begin(before.client, "a.b.C", 0, &writer), VARLINK_CLIENT_E_CLOSED);

        pair_init(&middle);
        call(&middle, "a.b.C", 0);
        say_n(&middle, "{\"para", 6);
        hang_up(&middle);
        assert_outcome(&middle, VARLINK_CLIENT_E_CLOSED);

        /* What was said before hanging up counts, even if the peer has stopped listening. */
        pair_init(&after);
        call(&after, "a.b.C", 0);
        call(&after, "a.b.C", 0);
        say(&after, "{\"error\":\"a.b.Bye\"}");
        assert_int_equal(shutdown(after.peer, SHUT_RD), 0);
        call(&after, "a.b.C", 0);
        assert_reply(&after, NULL, "a.b.Bye", false);
        assert_outcome(&after, VARLINK_CLIENT_E_AGAIN);
        hang_up(&after);
        assert_outcome(&after, VARLINK_CLIENT_E_CLOSED);
}

static void test_timeout(_unused_ void **state) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(pair_deinit) Pair pair;

        pair_init(&pair);
        call(&pair, "a.b.C", 0);
        assert_int_equal(varlink_client_wait(pair.client, 10000, &reply), VARLINK_CLIENT_E_TIMEOUT);

        /* A late reply would answer the wrong call. */
        say(&pair, "{}");
        assert_outcome(&pair, VARLINK_CLIENT_E_CLOSED);
}

/* No reply is due: wait() ends as soon as everything is sent. */
static void test_oneway_wait(_unused_ void **state) {
        VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(pair_deinit) Pair pair;

        pair_init(&pair);
        call(&pair, "a.b.C", VARLINK_CALL_ONEWAY);
        assert_int_equal(varlink_client_wait(pair.client, UINT64_MAX, &reply), VARLINK_CLIENT_E_AGAIN);
}

/* A peer that does not read: the rest is kept, POLLOUT is asked for, and all arrives in the end. */
static void test_backpressure(_unused_ void **state) {
        enum { CALLS = 64, SIZE = 64 * 1024 };
        _cleanup_(freep) char *argument = malloc(SIZE);
        _cleanup_(pair_deinit) Pair pair;
        JsonWriter *writer;
        size_t nuls = 0;

        assert_non_null(argument);
        memset(argument, 'x', SIZE);
        pair_init(&pair);
        assert_int_equal(varlink_client_get_events(pair.client), POLLIN);
        for (int i = 0; i < CALLS; i++) {
                assert_int_equal(varlink_client_begin(pair.client, "a.b.C", 0, &writer), 0);
                json_write_string_n(writer, "x", argument, SIZE);
                assert_int_equal(varlink_client_end(pair.client), 0);
        }
        assert_int_equal(varlink_client_get_events(pair.client), POLLIN | POLLOUT);

        while (nuls < CALLS) {
                char buffer[SIZE];
                ssize_t n;

                n = recv(pair.peer, buffer, sizeof(buffer), MSG_DONTWAIT);
                assert_true(n > 0);
                for (ssize_t i = 0; i < n; i++)
                        nuls += buffer[i] == 0;
                assert_outcome(&pair, VARLINK_CLIENT_E_AGAIN);
        }
        assert_int_equal(varlink_client_get_events(pair.client), POLLIN);
}

/* A message that the output cannot hold is taken back whole; the next one is intact. */
static void test_output_limit(_unused_ void **state) {
        static const char expected[] = "{\"method\":\"a.b.C\",\"parameters\":{}}";
        const size_t size = (size_t)17 * 1024 * 1024;
        _cleanup_(freep) char *argument = malloc(size);
        _cleanup_(pair_deinit) Pair pair;
        JsonWriter *writer;

        assert_non_null(argument);
        memset(argument, 'x', size);
        pair_init(&pair);
        assert_int_equal(varlink_client_begin(pair.client, "a.b.C", 0, &writer), 0);
        json_write_string_n(writer, "x", argument, size);
        assert_int_equal(varlink_client_end(pair.client), -ENOBUFS);

        call(&pair, "a.b.C", 0);
        assert_heard(&pair, expected, sizeof(expected));
        say(&pair, "{}");
        assert_reply(&pair, NULL, NULL, false);
}

/* As many calls in flight as there is room for; the one too many leaves no half of itself behind. */
static void test_queue_limit(_unused_ void **state) {
        static char buffer[64 * 1024];
        _cleanup_(pair_deinit) Pair pair;
        size_t calls = 0, nuls = 0;
        JsonWriter *writer;
        ssize_t n;
        int r;

        pair_init(&pair);
        for (;;) {
                assert_int_equal(varlink_client_begin(pair.client, "a.b.C", 0, &writer), 0);
                r = varlink_client_end(pair.client);
                if (r != 0)
                        break;
                calls++;
        }
        assert_int_equal(r, -ENOBUFS);
        assert_int_equal(calls, 64 * 1024);

        while ((n = recv(pair.peer, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
                for (ssize_t i = 0; i < n; i++)
                        nuls += buffer[i] == 0;
                assert_outcome(&pair, VARLINK_CLIENT_E_AGAIN);
        }
        assert_int_equal(nuls, calls);
}

/* A reply without end is given up at a bound. */
static void test_input_limit(_unused_ void **state) {

        const size_t bound = (size_t)65 * 1024 * 1024;
        _cleanup_(pair_deinit) Pair pair;
        char buffer[64 * 1024];
        size_t sent = 0;
        int r = VARLINK_CLIENT_E_AGAIN;

        memset(buffer, ' ', sizeof(buffer));
        pair_init(&pair);
        call(&pair, "a.b.C", 0);
        while (r == VARLINK_CLIENT_E_AGAIN && sent < bound) {
                VarlinkReply reply = VARLINK_REPLY_NULL;
                ssize_t n;

                n = send(pair.peer, buffer, sizeof(buffer), MSG_NOSIGNAL | MSG_DONTWAIT);
                assert_true(n > 0);
                sent += (size_t)n;
                r = varlink_client_process(pair.client, &reply);
        }
        assert_int_equal(r, VARLINK_CLIENT_E_CLOSED);
        assert_true(sent > bound / 2);
}

typedef struct Listener {
        char directory[32];
        char path[64];
        int fd;
} Listener;

static void listener_init(Listener *listener, int backlog) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        snprintf(listener->directory, sizeof(listener->directory), "/tmp/spe-client-XXXXXX");
        assert_non_null(mkdtemp(listener->directory));
        snprintf(listener->path, sizeof(listener->path), "%s/socket", listener->directory);
        memcpy(address.sun_path, listener->path, strlen(listener->path) + 1);

        listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(listener->fd >= 0);
        assert_int_equal(bind(listener->fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listener->fd, backlog), 0);
}

static void listener_deinit(Listener *listener) {
        if (listener->fd >= 0)
                close(listener->fd);
        unlink(listener->path);
        rmdir(listener->directory);
}

static void test_path(_unused_ void **state) {
        _cleanup_(listener_deinit) Listener listener;
        _cleanup_(varlink_client_freep) VarlinkClient *client = NULL;
        _cleanup_(closep) int accepted = -1, stdin_fd = -1;
        char missing[128], longest[256];
        int r;

        listener_init(&listener, 8);
        assert_int_equal(varlink_client_new_path(listener.path, &client), 0);
        accepted = accept(listener.fd, NULL, NULL);
        assert_true(accepted >= 0);
        assert_int_equal(fcntl(varlink_client_get_fd(client), F_GETFD), FD_CLOEXEC);
        client = varlink_client_free(client);

        /* Also where standard input is closed: number 0 is not for the connection. */
        stdin_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        close(STDIN_FILENO);
        r = varlink_client_new_path(listener.path, &client);
        if (stdin_fd >= 0)
                assert_int_equal(dup2(stdin_fd, STDIN_FILENO), STDIN_FILENO);
        assert_int_equal(r, 0);
        assert_true(varlink_client_get_fd(client) > STDERR_FILENO);
        assert_int_equal(fcntl(varlink_client_get_fd(client), F_GETFD), FD_CLOEXEC);
        client = varlink_client_free(client);

        snprintf(missing, sizeof(missing), "%s/missing", listener.directory);
        assert_int_equal(varlink_client_new_path(missing, &client), VARLINK_CLIENT_E_NO_SERVICE);
        memset(longest, 'x', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = 0;
        assert_int_equal(varlink_client_new_path(longest, &client), -ENAMETOOLONG);
        assert_int_equal(varlink_client_new_path("", &client), -EINVAL);

        /* The socket is there, but nobody listens any more. */
        close(listener.fd);
        listener.fd = -1;
        assert_int_equal(varlink_client_new_path(listener.path, &client), VARLINK_CLIENT_E_NO_SERVICE);
        assert_null(client);
}

/* A full backlog: who does not want to wait is told at once, and who waits a while after that while. */
static void test_path_within(_unused_ void **state) {
        _cleanup_(listener_deinit) Listener listener;
        _cleanup_(varlink_client_freep) VarlinkClient *first = NULL, *second = NULL;
        uint64_t begin;

        listener_init(&listener, 0);
        assert_int_equal(varlink_client_new_path_within(listener.path, 0, &first), 0);
        begin = clock_now_usec();
        assert_int_equal(varlink_client_new_path_within(listener.path, 0, &second), VARLINK_CLIENT_E_TIMEOUT);
        assert_true(clock_now_usec() - begin < VARLINK_CLIENT_CONNECT_TIMEOUT_USEC);
        begin = clock_now_usec();
        assert_int_equal(varlink_client_new_path_within(listener.path, 20000, &second),
                         VARLINK_CLIENT_E_TIMEOUT);
        assert_true(clock_now_usec() - begin >= 10000); /* the kernel counts in ticks of up to 10 ms */
        assert_null(second);
}

static void test_fd(_unused_ void **state) {
        _cleanup_(varlink_client_freep) VarlinkClient *good = NULL;
        _cleanup_(closep) int datagram = -1, file = -1;
        VarlinkClient *client = NULL;
        int stream;

        datagram = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        file = open("/dev/null", O_RDWR | O_CLOEXEC);
        assert_true(datagram >= 0 && file >= 0);
        assert_int_equal(varlink_client_new_fd(datagram, &client), -EPROTOTYPE);
        assert_int_equal(varlink_client_new_fd(file, &client), -ENOTSOCK);
        assert_int_equal(varlink_client_new_fd(-1, &client), -EBADF);
        assert_null(client);

        stream = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_true(stream >= 0);
        assert_int_equal(varlink_client_new_fd(stream, &good), 0);
        assert_int_equal(varlink_client_get_fd(good), stream);
        assert_int_equal(fcntl(stream, F_GETFD), FD_CLOEXEC);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_call),
                cmocka_unit_test(test_error),
                cmocka_unit_test(test_split_and_coalesced),
                cmocka_unit_test(test_broken_protocol),
                cmocka_unit_test(test_unexpected_reply),
                cmocka_unit_test(test_hang_up),
                cmocka_unit_test(test_timeout),
                cmocka_unit_test(test_oneway_wait),
                cmocka_unit_test(test_backpressure),
                cmocka_unit_test(test_output_limit),
                cmocka_unit_test(test_queue_limit),
                cmocka_unit_test(test_input_limit),
                cmocka_unit_test(test_path),
                cmocka_unit_test(test_path_within),
                cmocka_unit_test(test_fd),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
