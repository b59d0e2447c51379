/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the server survives: slow, greedy and vanishing peers, and handlers that free what they stand on. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "tests/unit/server-fixture.h"

#define CALL_EMPTY "{\"method\":\"org.example.test.Empty\"}"
#define CALL_LATER "{\"method\":\"org.example.test.Later\",\"more\":true}"
#define CALL_BIG   "{\"method\":\"org.example.test.Big\",\"parameters\":{\"size\":100000}}"

/* Reads all there is; returns how many messages. */
static unsigned read_replies(Fixture *f) {
        unsigned n = 0;

        for (;;) {
                f->n_received = 0;
                receive(f);
                if (f->n_received == 0)
                        return n;
                for (size_t i = 0; i < f->n_received; i++)
                        n += f->received[i] == '\0';
        }
}

/* A peer that does not read is not served beyond the mark, and gets every answer when it does. */
static void test_slow_reader(void **state) {
        Fixture *f = *state;
        unsigned handled;

        for (unsigned i = 0; i < 200; i++)
                send_message(f, CALL_BIG);
        handled = f->n_handled;
        assert_in_range(handled, 2, 20);
        pump(f);
        assert_int_equal(f->n_handled, handled);

        assert_int_equal(read_replies(f), 200);
        assert_int_equal(f->n_handled, 200);
        assert_false(f->eof);
        assert_int_equal(get_counters(f).overflows, 0);
}

/* Others are served meanwhile. */
static void test_slow_reader_beside_others(void **state) {
        Fixture *f = *state;
        int slow = f->peer;

        for (unsigned i = 0; i < 50; i++)
                send_message(f, CALL_BIG);
        f->peer = add_peer(f);
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");
        closep(&slow);
        pump(f);
        assert_int_equal(get_counters(f).connections, 1);
}

/* Whoever sends much is served a little at a time. */
static void test_fairness(void **state) {
        char calls[1000 * sizeof(CALL_EMPTY)];
        Fixture *f = *state;
        unsigned n_turns = 0;

        for (unsigned i = 0; i < 1000; i++)
                memcpy(calls + i * sizeof(CALL_EMPTY), CALL_EMPTY, sizeof(CALL_EMPTY));
        assert_int_equal(send(f->peer, calls, sizeof(calls), MSG_NOSIGNAL), (ssize_t)sizeof(calls));
        for (unsigned before = 0; sd_event_run(f->event, 0) > 0; before = f->n_handled, n_turns++)
                assert_in_range(f->n_handled - before, 0, 100);
        assert_int_equal(f->n_handled, 1000);
        assert_in_range(n_turns, 10, 1000);
}

static void test_output_limit(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        Fixture *f = *state;

        limits.output_max = 50000;
        varlink_server_set_limits(f->server, &limits);
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");
        send_message(f, CALL_BIG);
        expect_closed(f);
        assert_int_equal(get_counters(f).overflows, 1);
        assert_int_equal(get_counters(f).malformed, 0);

        limits.output_max = 150000;
        varlink_server_set_limits(f->server, &limits);
        reconnect(f);
        send_message(f, CALL_BIG);
        receive(f);
        assert_false(f->eof);
        assert_in_range(f->n_received, 100000, 100100);
}

/* A stream that the peer does not read: the backlog can be watched, and in the end it is the peer that goes.
 */
static void test_stream_overflow(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        Fixture *f = *state;

        limits.output_max = 2 * 1024 * 1024;
        varlink_server_set_limits(f->server, &limits);
        send_message(f, CALL_LATER);
        assert_int_equal(varlink_call_get_backlog(f->later), 0);
        for (unsigned i = 0; i < 30 && f->later; i++) {
                reply_big(f->later, 100000, true);
                assert_int_equal(f->n_closed, 0); /* never from within a call of ours */
                pump(f);
                if (f->later && i == 10)
                        assert_in_range(varlink_call_get_backlog(f->later), 100000, 1100100);
        }
        assert_null(f->later);
        assert_int_equal(f->n_closed, 1);
        assert_int_equal(get_counters(f).overflows, 1);
        assert_int_equal(get_counters(f).connections, 0);
}

/* A limit below what is pending: the next reply is one too many. */
static void test_lowered_output_limit(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        Fixture *f = *state;

        send_message(f, CALL_LATER);
        for (unsigned i = 0; i < 6; i++)
                reply_big(f->later, 100000, true);
        pump(f);
        limits.output_max = 1000;
        varlink_server_set_limits(f->server, &limits);
        assert_true(varlink_call_get_backlog(f->later) > 1000);
        assert_int_equal(get_counters(f).overflows, 0);
        for (unsigned i = 0; i < 12 && get_counters(f).overflows == 0; i++)
                reply_big(f->later, 100000, true);
        assert_int_equal(get_counters(f).overflows, 1);
        pump(f);
        assert_int_equal(f->n_closed, 1);
}

static void test_drained(void **state) {
        Fixture *f = *state;

        send_message(f, CALL_LATER);
        finish_later(f, "one", true);
        pump(f);
        assert_int_equal(f->n_drained, 1);

        for (unsigned i = 0; i < 5; i++)
                reply_big(f->later, 100000, true);
        pump(f);
        assert_int_equal(f->n_drained, 1);
        assert_true(varlink_call_get_backlog(f->later) > 0);
        assert_int_equal(read_replies(f), 6);
        assert_int_equal(f->n_drained, 2);
        assert_int_equal(varlink_call_get_backlog(f->later), 0);
}

static void test_message_limit(void **state) {
        static const char head[] = "{\"method\":\"org.example.test.Echo\",\"parameters\":{\"text\":\"";
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        Fixture *f = *state;
        char message[1000 + 1];

        limits.message_max = 1000;
        varlink_server_set_limits(f->server, &limits);
        memset(message, 'x', sizeof(message));
        memcpy(message, head, sizeof(head) - 1);
        (void)snprintf(message + 1000 - strlen("\"}}"), sizeof("\"}}"), "\"}}");
        send_bytes(f, message, sizeof(message));
        receive(f);
        assert_false(f->eof);
        assert_int_equal(f->received[f->n_received - 1], '\0');
        f->n_received = 0;

        /* One byte more, with its end or without. */
        send_bytes(f, " ", 1);
        send_bytes(f, message, sizeof(message));
        expect_closed(f);
        reconnect(f);
        send_bytes(f, message, 1000);
        expect_silence(f);
        send_bytes(f, message, 1);
        expect_closed(f);
        assert_int_equal(get_counters(f).malformed, 2);
}

static void run_until_connections(Fixture *f, unsigned n) {
        while (get_counters(f).connections != n)
                assert_true(sd_event_run(f->event, UINT64_C(10000000)) > 0); /* not within ten seconds */
}

/* A message that does not end takes its connection with it; one that does, and an idle connection, do not. */
static void test_message_time(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        int peers[4]; /* idle; half a message; half a message, later; a message in two pieces */
        Fixture *f = *state;

        limits.message_usec = 400000;
        varlink_server_set_limits(f->server, &limits);
        peers[0] = f->peer;
        for (unsigned i = 1; i < ELEMENTS_OF(peers); i++)
                peers[i] = add_peer(f);
        send_message(f, CALL_EMPTY);
        f->peer = peers[1];
        send_bytes(f, CALL_EMPTY "\0{", sizeof(CALL_EMPTY "\0{") - 1);
        f->peer = peers[3];
        send_bytes(f, CALL_EMPTY, 5);
        send_bytes(f, &CALL_EMPTY[5], sizeof(CALL_EMPTY) - 5);
        assert_int_equal(sd_event_run(f->event, UINT64_C(300000)), 0);
        f->peer = peers[2];
        send_bytes(f, "{", 1);
        assert_int_equal(get_counters(f).connections, 4);

        run_until_connections(f, 3);
        f->peer = peers[1];
        expect_message(f, "{}");
        expect_closed(f);
        f->eof = false;
        run_until_connections(f, 2);
        f->peer = peers[2];
        expect_closed(f);
        f->eof = false;
        assert_int_equal(get_counters(f).malformed, 2);

        f->peer = peers[3];
        expect_message(f, "{}");
        expect_silence(f);
        for (unsigned i = 0; i < 3; i++)
                closep(&peers[i]);
}

static void test_half_close(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 200; i++)
                assert_true(send(f->peer, CALL_EMPTY, sizeof(CALL_EMPTY), MSG_NOSIGNAL) > 0);
        assert_int_equal(send(f->peer, "{\"meth", 6, MSG_NOSIGNAL), 6); /* cut off: goes nowhere */
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        for (unsigned i = 0; i < 200; i++)
                expect_message(f, "{}");
        expect_closed(f);
        assert_int_equal(get_counters(f).malformed, 0);
}

/* A slow reader that half-closed gets all it asked for. */
static void test_half_close_slow_reader(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 50; i++)
                send_message(f, CALL_BIG);
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        assert_int_equal(read_replies(f), 50);
        assert_true(f->eof);
}

/* A pending call outlives the half-close, not the close. */
static void test_half_close_pending(void **state) {
        Fixture *f = *state;

        send_message(f, CALL_LATER);
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        pump(f);
        finish_later(f, "still", true);
        expect_message(f, "{\"parameters\":{\"text\":\"still\"},\"continues\":true}");
        assert_int_equal(f->n_closed, 0);
        finish_later(f, "end", false);
        expect_message(f, "{\"parameters\":{\"text\":\"end\"}}");
        expect_closed(f);
        assert_int_equal(f->n_closed, 0);
}

static void test_peer_dies(void **state) {
        Fixture *f = *state;

        send_message(f, CALL_LATER);
        closep(&f->peer);
        f->peer = -1;
        pump(f);
        assert_int_equal(f->n_closed, 1);
        assert_int_equal(get_counters(f).connections, 0);

        /* With output pending, and with calls behind. */
        f->peer = add_peer(f);
        send_bytes(f, CALL_LATER "\0" CALL_EMPTY, sizeof(CALL_LATER "\0" CALL_EMPTY));
        for (unsigned i = 0; i < 5; i++)
                reply_big(f->later, 100000, true);
        pump(f);
        closep(&f->peer);
        f->peer = -1;
        pump(f);
        assert_int_equal(f->n_closed, 2);
        assert_int_equal(f->n_handled, 0);
        assert_int_equal(get_counters(f).connections, 0);
        assert_int_equal(get_counters(f).overflows, 0);
}

/* What was sent before the peer went is carried out, though nobody hears the answer. */
static void test_peer_sends_and_goes(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 100; i++)
                assert_true(send(f->peer, CALL_EMPTY, sizeof(CALL_EMPTY), MSG_NOSIGNAL) > 0);
        closep(&f->peer);
        f->peer = -1;
        pump(f);
        assert_int_equal(f->n_handled, 100);
        assert_int_equal(get_counters(f).connections, 0);
}

/* A handler that answers another connection's call. */
static void test_finish_other(void **state) {
        static const char finish[] =
                "{\"method\":\"org.example.test.Finish\",\"parameters\":{\"text\":\"x\"}}";
        Fixture *f = *state;
        int waiting = f->peer, other;

        send_bytes(f, CALL_LATER "\0" CALL_EMPTY, sizeof(CALL_LATER "\0" CALL_EMPTY));
        f->peer = other = add_peer(f);
        send_message(f, finish);
        expect_message(f, "{}");
        f->peer = waiting;
        expect_message(f, "{\"parameters\":{\"text\":\"x\"}}");
        expect_message(f, "{}");
        closep(&other);
}

/* The peer is gone, but the loop has not looked yet: the answer goes nowhere, and the call is over. */
static void test_finish_after_close(void **state) {
        Fixture *f = *state;

        send_message(f, CALL_LATER);
        closep(&f->peer);
        f->peer = -1;
        finish_later(f, "late", false);
        pump(f);
        assert_int_equal(f->n_closed, 0);
        assert_int_equal(get_counters(f).connections, 0);
}

static void test_free_in_handler(void **state) {
        static const char calls[] = "{\"method\":\"org.example.test.FreeServer\"}\0" CALL_EMPTY;
        Fixture *f = *state;
        int waiting = f->peer;

        send_message(f, CALL_LATER);
        f->peer = add_peer(f);
        send_bytes(f, calls, sizeof(calls));
        expect_closed(f);
        assert_null(f->server);
        assert_int_equal(f->n_closed_by_free, 1);
        assert_int_equal(f->n_closed, 1);
        assert_int_equal(f->n_handled, 0);
        closep(&waiting);
}

static void test_free_with_pending(void **state) {
        Fixture *f = *state;

        send_bytes(f, CALL_LATER "\0{\"half", sizeof(CALL_LATER "\0{\"half") - 1);
        finish_later(f, "unsent", true);
        f->server = varlink_server_free(f->server);
        assert_int_equal(f->n_closed, 1);
        expect_closed(f);
}

/* A socket in the abstract namespace, on which the server listens. */
static struct sockaddr_un listen_abstract(Fixture *f, socklen_t *ret_n) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        socklen_t n = sizeof(address);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)),
                         0); /* the kernel names it */
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
        assert_int_equal(listen(fd, 128), 0);
        assert_int_equal(varlink_server_listen_fd(f->server, fd), 0);
        *ret_n = n;
        return address;
}

static int connect_abstract(const struct sockaddr_un *address, socklen_t n) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (const struct sockaddr *)address, n), 0);
        return fd;
}

static void test_connection_limits(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        struct sockaddr_un address;
        Fixture *f = *state;
        int fds[60];
        socklen_t n;

        closep(&f->peer);
        pump(f);
        address = listen_abstract(f, &n);
        limits.connections_per_user_max = 40;
        varlink_server_set_limits(f->server, &limits);
        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++)
                fds[i] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 40);
        assert_int_equal(get_counters(f).refused_connections, 20);

        f->peer = fds[59];
        expect_closed(f);
        f->eof = false;
        f->peer = fds[39];
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");

        /* One goes, one may come; then the limit in all says the same. */
        closep(&fds[0]);
        pump(f);
        fds[0] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 40);
        limits.connections_per_user_max = 1000;
        limits.connections_max = 41;
        varlink_server_set_limits(f->server, &limits);
        closep(&fds[50]);
        closep(&fds[51]);
        fds[50] = connect_abstract(&address, n);
        fds[51] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 41);
        assert_int_equal(get_counters(f).refused_connections, 21);

        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++)
                closep(&fds[i]);
        pump(f);
        assert_int_equal(get_counters(f).connections, 0);
        f->peer = -1;
}

/* Without a descriptor left, a peer is hung up on rather than left waiting, and the loop comes to rest. */
static void test_out_of_descriptors(void **state) {
        struct rlimit old, low;
        struct sockaddr_un address;
        Fixture *f = *state;
        int waiting, filler[64];
        unsigned n_filler = 0;
        socklen_t n;

        address = listen_abstract(f, &n);
        waiting = connect_abstract(&address, n);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = (struct rlimit){.rlim_cur = 40, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        while (n_filler < ELEMENTS_OF(filler) &&
               (filler[n_filler] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
                n_filler++;
        assert_int_equal(errno, EMFILE);

        pump(f);
        assert_int_equal(get_counters(f).refused_connections, 1);
        assert_int_equal(get_counters(f).connections, 1);

        while (n_filler > 0)
                closep(&filler[--n_filler]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        closep(&waiting);
        waiting = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 2);
        closep(&waiting);
}

/* Not even the reserve helps: listening pauses, and the loop comes to rest, until there are descriptors
 * again. */
static void test_no_descriptors_at_all(void **state) {
        struct rlimit old, low;
        struct sockaddr_un address;
        Fixture *f = *state;
        int waiting;
        socklen_t n;

        address = listen_abstract(f, &n);
        waiting = connect_abstract(&address, n);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        pump(f);
        assert_int_equal(get_counters(f).connections, 1);
        assert_int_equal(get_counters(f).refused_connections, 0);

        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        run_until_connections(f, 2);
        closep(&f->peer);
        f->peer = waiting;
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");
}

/* Three quarters of the descriptors, whatever the configuration says. */
static void test_descriptor_share(void **state) {
        struct rlimit old, low;
        struct sockaddr_un address;
        Fixture *f = *state;
        int fds[70];
        socklen_t n;

        address = listen_abstract(f, &n);
        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++) {
                int fd = connect_abstract(&address, n);

                fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 200); /* out of the way of those to be accepted */
                assert_true(fds[i] >= 200);
                closep(&fd);
        }
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = (struct rlimit){.rlim_cur = 80, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        pump(f);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(get_counters(f).connections, 60);
        assert_int_equal(get_counters(f).refused_connections, 11);
        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++)
                closep(&fds[i]);
}

static void send_descriptor(int socket_fd, const void *bytes, size_t n, int fd) {
        union {
                char buffer[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {0};
        struct iovec iov = {.iov_base = (void *)bytes, .iov_len = n};
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
        /* A kernel with SO_PASSRIGHTS refuses them at once, which is just as well. */
        if (sendmsg(socket_fd, &message, MSG_NOSIGNAL) < 0) {
                assert_int_equal(errno, EPERM);
                assert_int_equal(send(socket_fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
        }
}

static void assert_peer_is_this_process(const VarlinkPeer *peer) {
        assert_int_equal(peer->pid, getpid());
        assert_int_equal(peer->uid, getuid());
        assert_int_equal(peer->gid, getgid());
        assert_true(peer->accepted_boottime_usec > 0);
        assert_int_equal(peer->n_groups, getgroups(0, NULL));
}

static void test_no_descriptor_leak(void **state) {
        Fixture *f = *state;
        unsigned before = count_fds();

        for (unsigned i = 0; i < 20; i++) {
                int peer = add_peer(f);

                send_descriptor(peer, CALL_LATER, sizeof(CALL_LATER), peer);
                pump(f);
                assert_non_null(f->later);
                assert_peer_is_this_process(varlink_call_get_peer(f->later));
                assert_ptr_equal(varlink_call_get_peer(f->later), varlink_call_get_peer(f->later));
                closep(&peer);
                pump(f);
                assert_null(f->later);
        }
        assert_int_equal(count_fds(), before);
        assert_int_equal(get_counters(f).connections, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_slow_reader),
                TEST(test_slow_reader_beside_others),
                TEST(test_fairness),
                TEST(test_output_limit),
                TEST(test_stream_overflow),
                TEST(test_lowered_output_limit),
                TEST(test_drained),
                TEST(test_message_limit),
                TEST(test_message_time),
                TEST(test_half_close),
                TEST(test_half_close_slow_reader),
                TEST(test_half_close_pending),
                TEST(test_peer_dies),
                TEST(test_peer_sends_and_goes),
                TEST(test_finish_other),
                TEST(test_finish_after_close),
                TEST(test_free_in_handler),
                TEST(test_free_with_pending),
                TEST(test_connection_limits),
                TEST(test_out_of_descriptors),
                TEST(test_no_descriptors_at_all),
                TEST(test_descriptor_share),
                TEST(test_no_descriptor_leak),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
