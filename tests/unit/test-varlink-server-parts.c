/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What takes several turns: replies that are written in parts, and long input and output beside other users.
 */

#include "tests/unit/quick-turns.h"
#include "tests/unit/server-fixture.h"

#define CALL_EMPTY "{\"method\":\"org.example.test.Empty\"}"
#define CALL_PARTS(n, size) \
        "{\"method\":\"org.example.test.Parts\",\"parameters\":{\"n\":" n ",\"size\":" size "}}"
/* What one turn reads, and writes, while there are several users. */
#define SHARED_READ  8192U
#define SHARED_WRITE 32768U

static void put(int fd, const char *bytes, size_t n) {
        assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT), (ssize_t)n);
}

static void run_once(Fixture *f) {
        assert_true(sd_event_run(f->event, UINT64_C(10000000)) > 0);
}

static bool is_silent(int fd) {
        char byte;

        return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* One short reply, as soon as it is there. */
static void expect_empty(Fixture *f, int fd) {
        char reply[16] = "";

        while (recv(fd, reply, sizeof(reply), MSG_DONTWAIT) < 0)
                run_once(f);
        assert_string_equal(reply, "{}");
}

/* In the order in which they were asked for, whole. */
static void test_order(void **state) {
        static const char calls[] =
                CALL_EMPTY "\0" CALL_PARTS("3", "2") "\0" CALL_EMPTY "\0" CALL_PARTS("1", "1");
        Fixture *f = *state;

        send_bytes(f, calls, sizeof(calls));
        expect_message(f, "{}");
        expect_message(f, "{\"parameters\":{\"parts\":[\"dd\",\"cc\",\"bb\"]}}");
        expect_message(f, "{}");
        expect_message(f, "{\"parameters\":{\"parts\":[\"b\"]}}");
        expect_silence(f);
        assert_int_equal(f->n_parts, 4);
        assert_int_equal(f->n_closed, 0);
}

/* Half a message does not leave, and others are served between two parts. */
static void test_others_between(void **state) {
        static const char parts[] = CALL_PARTS("40", "1000"), empty[] = CALL_EMPTY;
        const size_t whole = sizeof("{\"parameters\":{\"parts\":[]}}") + 40 * 1003 - 1;
        Fixture *f = *state;
        int other = add_peer_of(f, 1);

        turns_are_quick = true;
        put(f->peer, parts, sizeof(parts));
        while (f->n_parts == 0)
                run_once(f);
        for (unsigned n = f->n_parts; n < 40; n = f->n_parts) {
                put(other, empty, sizeof(empty));
                expect_empty(f, other);
                assert_in_range(f->n_parts, n, n + 2);
                assert_true(f->n_parts == 40 || is_silent(f->peer));
        }
        /* It is sent in more than one turn. */
        for (receive(f); f->n_received < whole; receive(f))
                run_once(f);
        assert_int_equal(f->n_received, whole);
        assert_int_equal(f->n_unwritten, 0);
        turns_are_quick = false;
        closep(&other);
}

/* Of one user one such reply at a time, and the calls of its other connections wait for it. */
static void test_one_at_a_time(void **state) {
        static const char parts[] = CALL_PARTS("20", "10"), empty[] = CALL_EMPTY;
        Fixture *f = *state;
        int other = add_peer_of(f, 1), second, third;

        second = add_peer(f);
        third = add_peer(f);
        put(f->peer, parts, sizeof(parts));
        put(second, parts, sizeof(parts));
        put(third, empty, sizeof(empty));
        while (f->n_handled == 0)
                run_once(f);
        expect_empty(f, third);
        assert_int_equal(f->n_parts, 40);
        assert_int_equal(f->n_unwritten_max, 1);
        closep(&second);
        closep(&third);
        closep(&other);
}

static void begin_and_wait(Fixture *f) {
        static const char parts[] = CALL_PARTS("1000", "10");

        put(f->peer, parts, sizeof(parts));
        while (f->n_parts < 5)
                run_once(f);
        assert_int_equal(f->n_unwritten, 1);
}

/* Who goes in the midst of it is not written to any more. */
static void test_closed(void **state) {
        Fixture *f = *state;
        unsigned n;

        begin_and_wait(f);
        n = f->n_parts;
        closep(&f->peer);
        run_until_connections(f, 0);
        pump(f);
        assert_int_equal(f->n_parts, n);
        assert_int_equal(f->n_closed, 1);
        assert_int_equal(f->n_unwritten, 0);
}

/* Who only sends no more gets it all. */
static void test_half_closed(void **state) {
        Fixture *f = *state;

        begin_and_wait(f);
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        receive(f);
        assert_int_equal(f->n_parts, 1000);
        assert_int_equal(f->n_received, sizeof("{\"parameters\":{\"parts\":[]}}") + 1000 * 13 - 1);
        assert_true(f->eof);
        assert_int_equal(f->n_closed, 0);
}

static void test_freed(void **state) {
        Fixture *f = *state;

        begin_and_wait(f);
        f->server = varlink_server_free(f->server);
        assert_int_equal(f->n_closed, 1);
        assert_int_equal(f->n_unwritten, 0);
}

/* Beyond what may wait for a peer. */
static void test_too_long(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        Fixture *f = *state;

        limits.output_max = 10000;
        varlink_server_set_limits(f->server, &limits);
        send_message(f, CALL_PARTS("9", "1000"));
        receive(f);
        assert_int_equal(f->n_received, sizeof("{\"parameters\":{\"parts\":[]}}") + 9 * 1003 - 1);
        f->n_received = 0;

        send_message(f, CALL_PARTS("10", "1000"));
        expect_closed(f);
        assert_int_equal(get_counters(f).overflows, 1);
        assert_int_equal(f->n_closed, 0);
        assert_int_equal(f->n_unwritten, 0);
}

/* Beside others, a long reply is sent, and a long message read, in several turns. */
static void test_short_turns(void **state) {
        static char message[SHARED_READ * 4];
        static const char big[] = "{\"method\":\"org.example.test.Big\",\"parameters\":{\"size\":100000}}";
        static const char head[] = "{\"method\":\"org.example.test.Empty\",\"org.example.more\":\"";
        Fixture *f = *state;
        unsigned n_turns = 0;
        int other = add_peer_of(f, 1);

        put(f->peer, big, sizeof(big));
        while (f->n_received == 0 || f->received[f->n_received - 1] != '\0') {
                ssize_t n = recv(f->peer, f->received + f->n_received, PEER_BUFFER_SIZE - f->n_received, 0);

                if (n > 0) {
                        assert_true((size_t)n <= SHARED_WRITE);
                        f->n_received += (size_t)n;
                } else
                        run_once(f);
        }
        assert_string_equal(f->received + f->n_received - 6, "xx\"}}");
        f->n_received = 0;

        memset(message, 'x', sizeof(message));
        memcpy(message, head, sizeof(head) - 1);
        memcpy(message + sizeof(message) - 3, "\"}", 3);
        put(f->peer, message, sizeof(message));
        for (unsigned before = f->n_handled; f->n_handled == before; n_turns++)
                run_once(f);
        assert_in_range(n_turns, sizeof(message) / SHARED_READ, 100);
        expect_message(f, "{}");
        closep(&other);
}

/* Nobody else is there. */
static void test_alone(void **state) {
        static const char big[] = "{\"method\":\"org.example.test.Big\",\"parameters\":{\"size\":100000}}";
        Fixture *f = *state;

        put(f->peer, big, sizeof(big));
        while (f->n_handled == 0)
                run_once(f);
        f->n_received = (size_t)recv(f->peer, f->received, PEER_BUFFER_SIZE, 0);
        assert_in_range(f->n_received, 100000, 100100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_order),    TEST(test_others_between), TEST(test_one_at_a_time),
                TEST(test_closed),   TEST(test_half_closed),    TEST(test_freed),
                TEST(test_too_long), TEST(test_short_turns),    TEST(test_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
