/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the server survives: slow, greedy and vanishing peers, and handlers that free what they stand on. */

#include <stdio.h>
#include <unistd.h>

#include "tests/unit/quick-turns.h"
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
                assert_in_range(f->n_handled - before, 0, 50);
        assert_int_equal(f->n_handled, 1000);
        assert_in_range(n_turns, 20, 1000);
}

/* And so are many, each of whom sends more than a turn's worth. */
static void test_fairness_among_many(void **state) {
        char calls[100 * sizeof(CALL_EMPTY)];
        Fixture *f = *state;
        int peers[100];

        turns_are_quick = true;
        for (unsigned i = 0; i < 100; i++)
                memcpy(calls + i * sizeof(CALL_EMPTY), CALL_EMPTY, sizeof(CALL_EMPTY));
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++) {
                peers[i] = add_peer(f);
                assert_int_equal(send(peers[i], calls, sizeof(calls), MSG_NOSIGNAL), (ssize_t)sizeof(calls));
        }
        for (unsigned before = 0; sd_event_run(f->event, 0) > 0; before = f->n_handled)
                assert_in_range(f->n_handled - before, 0, 500);
        assert_int_equal(f->n_handled, 100 * ELEMENTS_OF(peers));
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++)
                closep(&peers[i]);
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

/* Connections that each keep to their limits, but leave too much waiting together. */
static void test_user_share(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        int first, peers[20];
        Fixture *f = *state;

        limits.user_buffer_max = 1000000;
        varlink_server_set_limits(f->server, &limits);
        first = f->peer;
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++) {
                peers[i] = add_peer(f);
                for (unsigned k = 0; k < 4; k++) {
                        (void)send(peers[i], CALL_BIG, sizeof(CALL_BIG), MSG_NOSIGNAL); /* it may be closed */
                        pump(f);
                }
        }
        assert_in_range(get_counters(f).overflows, 10, 18);
        assert_int_equal(get_counters(f).connections, 21 - get_counters(f).overflows);

        /* Who reads is served all the same, and who has gone leaves its share to others. */
        f->peer = first;
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++)
                closep(&peers[i]);
        pump(f);
        assert_int_equal(get_counters(f).connections, 1);
        for (unsigned k = 0; k < 4; k++)
                send_message(f, CALL_BIG);
        assert_int_equal(read_replies(f), 4);
        assert_false(f->eof);
}

/* The same for what they send, and never end. */
static void test_user_share_of_input(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        char half[4000]; /* takes storage of 4096 */
        int peers[20];
        Fixture *f = *state;

        limits.user_buffer_max = UINT64_C(10) * 4096;
        varlink_server_set_limits(f->server, &limits);
        memset(half, ' ', sizeof(half));
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++) {
                peers[i] = add_peer(f);
                assert_int_equal(send(peers[i], half, sizeof(half), MSG_NOSIGNAL), (ssize_t)sizeof(half));
                pump(f);
        }
        assert_int_equal(get_counters(f).overflows, 10);
        assert_int_equal(get_counters(f).connections, 11);
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++)
                closep(&peers[i]);
}

/* And for all users together: nobody has more than is left free, which with one user is half. */
static void test_share_of_all(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        char half[4000]; /* takes storage of 4096 */
        int peers[4];
        Fixture *f = *state;

        limits.buffer_max = UINT64_C(2) * 3 * 4096;
        varlink_server_set_limits(f->server, &limits);
        memset(half, ' ', sizeof(half));
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++) {
                assert_int_equal(get_counters(f).overflows, 0);
                peers[i] = add_peer(f);
                assert_int_equal(send(peers[i], half, sizeof(half), MSG_NOSIGNAL), (ssize_t)sizeof(half));
                pump(f);
        }
        assert_int_equal(get_counters(f).overflows, 1);
        assert_int_equal(get_counters(f).connections, 4);

        /* What is given back can be had again. */
        closep(&peers[0]);
        pump(f);
        closep(&peers[3]);
        peers[0] = add_peer(f);
        assert_int_equal(send(peers[0], half, sizeof(half), MSG_NOSIGNAL), (ssize_t)sizeof(half));
        pump(f);
        assert_int_equal(get_counters(f).overflows, 1);
        for (unsigned i = 0; i < 3; i++)
                closep(&peers[i]);
}

/* Of two users, the one with a single call is served after one turn of the one with a hundred connections. */
static void test_fairness_among_users(void **state) {
        static const char echo[] = "{\"method\":\"org.example.test.Echo\",\"parameters\":{\"text\":\"x\"}}";
        char calls[100 * sizeof(CALL_EMPTY)];
        Fixture *f = *state;
        int peers[100], other = add_peer_of(f, 1);
        unsigned before;
        char reply[100];

        for (unsigned i = 0; i < 100; i++)
                memcpy(calls + i * sizeof(CALL_EMPTY), CALL_EMPTY, sizeof(CALL_EMPTY));
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++) {
                peers[i] = add_peer(f);
                assert_int_equal(send(peers[i], calls, sizeof(calls), MSG_NOSIGNAL), (ssize_t)sizeof(calls));
        }
        for (unsigned i = 0; i < 50; i++)
                assert_true(sd_event_run(f->event, UINT64_C(10000000)) > 0);

        /* While nobody else is there, a turn is many calls; from now on it is one. */
        for (unsigned i = 0; i < 50; i++) {
                before = f->n_handled;
                assert_int_equal(send(other, echo, sizeof(echo), MSG_NOSIGNAL), (ssize_t)sizeof(echo));
                while (recv(other, reply, sizeof(reply), MSG_DONTWAIT) < 0)
                        assert_true(sd_event_run(f->event, UINT64_C(10000000)) > 0);
                assert_in_range(f->n_handled - before, 1, i == 0 ? 17 : 3);
        }
        while (f->n_handled < 100 * ELEMENTS_OF(peers) + 50)
                assert_true(sd_event_run(f->event, UINT64_C(10000000)) > 0);
        pump(f);
        assert_int_equal(f->n_handled, 100 * ELEMENTS_OF(peers) + 50);
        turns_are_quick = false;
        for (unsigned i = 0; i < ELEMENTS_OF(peers); i++)
                closep(&peers[i]);
        closep(&other);
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

/* A message that does not end takes its connection with it; one that does, and an idle connection, do not. */
static void test_message_time(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        int peers[4]; /* idle; half a message; half a message, later; a message in two pieces */
        Fixture *f = *state;

        limits.message_usec = 2000000;
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
        assert_int_equal(sd_event_run(f->event, UINT64_C(1000000)), 0);
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

/* But not what does nothing but tell, except to a peer that has only closed its sending half. */
static void test_peer_asks_and_goes(void **state) {
        static const char tell[] = "{\"method\":\"org.example.test.Tell\"}";
        Fixture *f = *state;

        assert_true(send(f->peer, tell, sizeof(tell), MSG_NOSIGNAL) > 0);
        assert_true(send(f->peer, CALL_EMPTY, sizeof(CALL_EMPTY), MSG_NOSIGNAL) > 0);
        closep(&f->peer);
        pump(f);
        assert_int_equal(f->n_handled, 1);
        assert_int_equal(get_counters(f).connections, 0);

        f->peer = add_peer(f);
        assert_true(send(f->peer, tell, sizeof(tell), MSG_NOSIGNAL) > 0);
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        expect_message(f, "{}");
        expect_closed(f);
        assert_int_equal(f->n_handled, 2);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_slow_reader),
                TEST(test_slow_reader_beside_others),
                TEST(test_fairness),
                TEST(test_fairness_among_many),
                TEST(test_output_limit),
                TEST(test_stream_overflow),
                TEST(test_lowered_output_limit),
                TEST(test_user_share),
                TEST(test_user_share_of_input),
                TEST(test_share_of_all),
                TEST(test_fairness_among_users),
                TEST(test_drained),
                TEST(test_message_limit),
                TEST(test_message_time),
                TEST(test_half_close),
                TEST(test_half_close_slow_reader),
                TEST(test_half_close_pending),
                TEST(test_peer_dies),
                TEST(test_peer_sends_and_goes),
                TEST(test_peer_asks_and_goes),
                TEST(test_finish_other),
                TEST(test_finish_after_close),
                TEST(test_free_in_handler),
                TEST(test_free_with_pending),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
