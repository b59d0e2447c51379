/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Turns that are long. What users get of those that are not: test-varlink-server-limits.c. */

#include <unistd.h>

#include "tests/unit/server-fixture.h"

#define SLOW_USEC 1000
/* At least so many times that it rests. */
#define RESTS 3

static const char slow[] = "{\"method\":\"org.example.test.Slow\",\"parameters\":{\"usec\":1000}}";

/* Sends @n slow calls at once, and runs the loop until all have been carried out; how long that took. */
static uint64_t run_slow(Fixture *f, unsigned n) {
        unsigned end = f->n_handled + n;
        uint64_t begin = clock_now_usec();

        for (unsigned i = 0; i < n; i++)
                assert_int_equal(send(f->peer, slow, sizeof(slow), MSG_NOSIGNAL), (ssize_t)sizeof(slow));
        while (f->n_handled < end)
                assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);

        return clock_now_usec() - begin;
}

/* Whoever has others beside himself rests after each turn that was long, and all his calls are answered. */
static void test_rests(void **state) {
        Fixture *f = *state;
        int other;

        if (geteuid() != 0)
                skip();
        assert_int_equal(seteuid(1), 0);
        other = add_peer(f);
        assert_int_equal(seteuid(0), 0);

        /* The last one is not waited for. */
        assert_true(run_slow(f, 1) >= SLOW_USEC);
        assert_true(run_slow(f, 5) >= (uint64_t)5 * SLOW_USEC + (uint64_t)4 * RESTS * SLOW_USEC);
        closep(&other);
}

/* Who is served while the other rests: one turn of the other is all that there is to wait for. */
static void test_others_meanwhile(void **state) {
        static const char empty[] = "{\"method\":\"org.example.test.Empty\"}";
        char reply[100];
        Fixture *f = *state;
        unsigned before;
        int other;

        if (geteuid() != 0)
                skip();
        assert_int_equal(seteuid(1), 0);
        other = add_peer(f);
        assert_int_equal(seteuid(0), 0);

        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(send(f->peer, slow, sizeof(slow), MSG_NOSIGNAL), (ssize_t)sizeof(slow));
        while (f->n_handled == 0)
                assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);

        before = f->n_handled;
        assert_int_equal(send(other, empty, sizeof(empty), MSG_NOSIGNAL), (ssize_t)sizeof(empty));
        while (recv(other, reply, sizeof(reply), MSG_DONTWAIT) < 0)
                assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
        assert_in_range(f->n_handled - before, 1, 2);

        /* One who goes while he rests is forgotten. */
        closep(&f->peer);
        closep(&other);
        run_until_connections(f, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_rests, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(test_others_meanwhile, fixture_setup, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
