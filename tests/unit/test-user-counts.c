/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "varlink/server/users.h"

static void test_counts(_unused_ void **state) {
        static const uid_t uids[] = {1000, 0, 65534, 1, (uid_t)-2, 500, 1001, 2, 999, 3};
        UserCounts counts = {0};

        assert_int_equal(user_counts_get(&counts, 0), 0);
        for (size_t i = 0; i < ELEMENTS_OF(uids); i++)
                for (size_t k = 0; k <= i; k++)
                        assert_int_equal(user_counts_add(&counts, uids[i]), 0);
        for (size_t i = 0; i < ELEMENTS_OF(uids); i++)
                assert_int_equal(user_counts_get(&counts, uids[i]), i + 1);
        assert_int_equal(user_counts_get(&counts, 4), 0);
        assert_int_equal(counts.n_items, ELEMENTS_OF(uids));

        /* Whoever has none left is forgotten, and the others are not disturbed. */
        for (size_t i = 0; i < ELEMENTS_OF(uids); i += 2)
                for (size_t k = 0; k <= i; k++)
                        user_counts_remove(&counts, uids[i]);
        for (size_t i = 0; i < ELEMENTS_OF(uids); i++)
                assert_int_equal(user_counts_get(&counts, uids[i]), i % 2 ? i + 1 : 0);
        assert_int_equal(counts.n_items, ELEMENTS_OF(uids) / 2);

        assert_int_equal(user_counts_add(&counts, 1000), 0);
        assert_int_equal(user_counts_get(&counts, 1000), 1);
        user_counts_deinit(&counts);
}

static void test_charge(_unused_ void **state) {
        UserCounts counts = {0};

        assert_int_equal(user_counts_add(&counts, 1), 0);
        assert_int_equal(user_counts_add(&counts, 2), 0);
        assert_int_equal(user_counts_charge(&counts, 1, 0, 100), 100);
        assert_int_equal(user_counts_charge(&counts, 2, 0, 7), 7);
        assert_int_equal(user_counts_charge(&counts, 1, 0, 50), 150);
        assert_int_equal(user_counts_charge(&counts, 1, 100, 20), 70);
        assert_int_equal(user_counts_charge(&counts, 2, 7, 0), 0);
        assert_int_equal(user_counts_charge(&counts, 1, 70, 0), 0);
        user_counts_deinit(&counts);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_counts),
                cmocka_unit_test(test_charge),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
