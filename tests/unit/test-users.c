/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "varlink/server/users.h"

static void test_counts(_unused_ void **state) {
        static const uid_t uids[] = {1000, 0, 65534, 1, (uid_t)-2, 500, 1001, 2, 999, 3};
        User *found[ELEMENTS_OF(uids)] = {0}, *user;
        Users users = {0};

        assert_int_equal(users_count(&users, 0), 0);
        for (size_t i = 0; i < ELEMENTS_OF(uids); i++)
                for (size_t k = 0; k <= i; k++) {
                        assert_int_equal(users_ref(&users, uids[i], &user), 0);
                        assert_int_equal(user->uid, uids[i]);
                        assert_true(k == 0 || user == found[i]);
                        found[i] = user;
                }
        for (size_t i = 0; i < ELEMENTS_OF(uids); i++)
                assert_int_equal(users_count(&users, uids[i]), i + 1);
        assert_int_equal(users_count(&users, 4), 0);
        assert_int_equal(users.n_items, ELEMENTS_OF(uids));

        /* Whoever has none left is forgotten, and the others are not disturbed. */
        for (size_t i = 0; i < ELEMENTS_OF(uids); i += 2)
                for (size_t k = 0; k <= i; k++)
                        users_unref(&users, found[i]);
        for (size_t i = 0; i < ELEMENTS_OF(uids); i++)
                assert_int_equal(users_count(&users, uids[i]), i % 2 ? i + 1 : 0);
        assert_int_equal(users.n_items, ELEMENTS_OF(uids) / 2);

        assert_int_equal(users_ref(&users, 1000, &user), 0);
        assert_int_equal(users_count(&users, 1000), 1);
        users_unref(&users, user);
        for (size_t i = 1; i < ELEMENTS_OF(uids); i += 2)
                for (size_t k = 0; k <= i; k++)
                        users_unref(&users, found[i]);
        users_deinit(&users);
}

static void test_charge(_unused_ void **state) {
        Users users = {0};
        User *one, *two;

        assert_int_equal(users_ref(&users, 1, &one), 0);
        assert_int_equal(users_ref(&users, 2, &two), 0);
        users_charge(&users, one, 0, 100);
        users_charge(&users, two, 0, 7);
        users_charge(&users, one, 0, 50);
        assert_int_equal(one->bytes, 150);
        assert_int_equal(users.bytes, 157);
        users_charge(&users, one, 100, 20);
        assert_int_equal(one->bytes, 70);
        assert_int_equal(two->bytes, 7);
        assert_int_equal(users.bytes, 77);
        users_charge(&users, two, 7, 0);
        users_charge(&users, one, 70, 0);
        assert_int_equal(users.bytes, 0);
        users_unref(&users, one);
        users_unref(&users, two);
        users_deinit(&users);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_counts),
                cmocka_unit_test(test_charge),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
