/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Delays between attempts: none, then growing to their bound and no further, and never twice the same. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "util/backoff.h"
#include "util/cleanup.h"
#include "util/random.h"

static void test_delays(_unused_ void **state) {
        Backoff backoff = BACKOFF_INIT(60000);
        uint64_t full = BACKOFF_FIRST_USEC;

        for (unsigned round = 0; round < 2; round++) {
                assert_int_equal(backoff_next(&backoff), 0);
                for (unsigned i = 0; i < 100; i++) {
                        uint64_t usec = backoff_next(&backoff);

                        assert_in_range(usec, full / 2, full);
                        full = 2 * full < 60000 ? 2 * full : 60000;
                }
                assert_int_equal(full, 60000);
                backoff_reset(&backoff);
                full = BACKOFF_FIRST_USEC;
        }
}

static void test_spread(_unused_ void **state) {
        uint64_t least = UINT64_MAX, most = 0;

        for (unsigned i = 0; i < 1000; i++) {
                Backoff backoff = BACKOFF_INIT(1000000);
                uint64_t usec;

                (void)backoff_next(&backoff);
                usec = backoff_next(&backoff);
                least = usec < least ? usec : least;
                most = usec > most ? usec : most;
        }

        /* Of 1,000 even throws, none in the lowest or highest tenth: once in 10^45. */
        assert_true(least < BACKOFF_FIRST_USEC * 55 / 100);
        assert_true(most > BACKOFF_FIRST_USEC * 95 / 100);
}

static void test_id(_unused_ void **state) {
        char a[RANDOM_ID_SIZE], b[RANDOM_ID_SIZE];

        assert_int_equal(random_id(a), 0);
        assert_int_equal(random_id(b), 0);
        assert_int_equal(strlen(a), 32);
        assert_int_equal(strspn(a, "0123456789abcdef"), 32);
        assert_string_not_equal(a, b);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_delays),
                cmocka_unit_test(test_spread),
                cmocka_unit_test(test_id),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
