/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/quota.h"
#include "util/cleanup.h"

/* As many as one may have, and one less is enough for one more. */
static void test_user(_unused_ void **state) {
        Quota quota = QUOTA_INIT(3, 100);
        QuotaToken tokens[3], other, more = QUOTA_TOKEN_NULL;

        for (size_t i = 0; i < ELEMENTS_OF(tokens); i++)
                assert_int_equal(quota_take(&quota, 1000, &tokens[i]), 0);
        assert_int_equal(quota_take(&quota, 1000, &more), QUOTA_E_USER);
        assert_null(more.quota);
        assert_int_equal(quota_take(&quota, 1001, &other), 0);
        assert_int_equal(quota.n, 4);

        quota_refund(&tokens[1]);
        assert_int_equal(quota_take(&quota, 1000, &more), 0);
        assert_int_equal(quota_take(&quota, 1000, &tokens[1]), QUOTA_E_USER);
        quota_refund(&more);
        quota_refund(&other);
        quota_refund(&tokens[0]);
        quota_refund(&tokens[2]);
        quota_deinit(&quota);
}

static void test_all(_unused_ void **state) {
        Quota quota = QUOTA_INIT(3, 5);
        QuotaToken tokens[5], more = QUOTA_TOKEN_NULL;

        for (size_t i = 0; i < ELEMENTS_OF(tokens); i++)
                assert_int_equal(quota_take(&quota, (uid_t)(i / 2), &tokens[i]), 0);
        assert_int_equal(quota_take(&quota, 7, &more), QUOTA_E_ALL);
        quota_refund(&tokens[0]);
        assert_int_equal(quota_take(&quota, 7, &more), 0);
        assert_int_equal(quota.n, 5);

        quota_refund(&more);
        for (size_t i = 0; i < ELEMENTS_OF(tokens); i++)
                quota_refund(&tokens[i]);
        quota_deinit(&quota);
}

/* A token gives back once, however often it is asked to. */
static void test_refund(_unused_ void **state) {
        Quota quota = QUOTA_INIT(2, 2);
        QuotaToken one, two, none = QUOTA_TOKEN_NULL;

        quota_refund(&none);
        assert_int_equal(quota_take(&quota, 1, &one), 0);
        assert_int_equal(quota_take(&quota, 1, &two), 0);
        quota_refund(&one);
        quota_refund(&one);
        assert_int_equal(quota.n, 1);
        quota_refund(&two);
        assert_int_equal(quota.n, 0);
        quota_deinit(&quota);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_user),
                cmocka_unit_test(test_all),
                cmocka_unit_test(test_refund),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
