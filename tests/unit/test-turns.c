/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Turns that are long. What users get of those that are not: test-varlink-server-limits.c. */

#include "tests/unit/server-fixture.h"

#define SLOW_USEC UINT64_C(1000)
/* At least so many times that it rests. */
#define RESTS 3

static const char slow[] = "{\"method\":\"org.example.test.Slow\",\"parameters\":{\"usec\":1000}}";

/* As long, in ten parts that are not. */
static const char slow_parts[] =
        "{\"method\":\"org.example.test.Parts\",\"parameters\":{\"n\":10,\"size\":1,\"usec\":100}}";

/* Sends @n of such calls at once, and runs the loop until all have been carried out; how often there was
 * nothing that could be done meanwhile, and so was waited for. */
static unsigned run_calls(Fixture *f, const char *call, size_t size, unsigned n) {
        unsigned end = f->n_handled + n, n_rests = 0;

        for (unsigned i = 0; i < n; i++)
                assert_int_equal(send(f->peer, call, size, MSG_NOSIGNAL), (ssize_t)size);
        while (f->n_handled < end || f->n_unwritten > 0) {
                int r = sd_event_run(f->event, 0);

                assert_true(r >= 0);
                if (r > 0)
                        continue;
                n_rests++;
                assert_true(sd_event_run(f->event, UINT64_MAX) > 0);
        }

        return n_rests;
}

/* Whoever has others beside himself rests after each turn that was long, and all his calls are answered. */
static void test_rests(void **state) {
        Fixture *f = *state;
        uint64_t begin;
        int other;

        other = add_peer_of(f, 1);

        /* The last one is not waited for. */
        assert_int_equal(run_calls(f, slow, sizeof(slow), 1), 0);
        begin = clock_now_usec();
        assert_in_range(run_calls(f, slow, sizeof(slow), 5), 1, 5);
        assert_true(clock_now_usec() - begin >= 5 * SLOW_USEC + 4 * RESTS * SLOW_USEC);
        assert_in_range(run_calls(f, slow_parts, sizeof(slow_parts), 5), 1, 5);
        closep(&other);
}

/* Who is served while the other rests: one turn of the other is all that there is to wait for. */
static void test_others_meanwhile(void **state) {
        static const char empty[] = "{\"method\":\"org.example.test.Empty\"}";
        char reply[100];
        Fixture *f = *state;
        unsigned before;
        int other;

        other = add_peer_of(f, 1);

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
