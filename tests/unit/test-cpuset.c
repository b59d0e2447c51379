/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/cpuset.h"

static void assert_round_trip(const char *text, const char *canonical) {
        char buffer[CPUSET_TEXT_MAX];
        CpuSet set;

        assert_int_equal(cpuset_parse(text, strlen(text), &set), 0);
        assert_int_equal(cpuset_format(&set, buffer, sizeof(buffer)), strlen(canonical));
        assert_string_equal(buffer, canonical);
}

static void test_text(_unused_ void **state) {
        assert_round_trip("", "");
        assert_round_trip("0", "0");
        assert_round_trip("0-63", "0-63");
        assert_round_trip("8,0-3", "0-3,8");
        assert_round_trip("3,2,1,1-2", "1-3");
        assert_round_trip("007", "7");
        assert_round_trip("63-64,127-128", "63-64,127-128");
        assert_round_trip("0-4095", "0-4095");
        assert_round_trip("4095", "4095");
}

static void test_refused(_unused_ void **state) {
        static const char *const syntax[] = {",",   "1,",    ",1",      "-",   "1-",    "-1",
                                             "3-1", "1--2",  " 1",      "1 ",  "1\n",   "0x1",
                                             "a",   "1-2-3", "0-3:1/2", "all", "9999,", "1;2"};
        static const char *const range[] = {"4096", "0-4096", "4294967296", "18446744073709551616",
                                            "99999999999999999999-99999999999999999999"};
        CpuSet set, untouched;

        memset(&set, 0xa5, sizeof(set));
        untouched = set;
        for (size_t i = 0; i < ELEMENTS_OF(syntax); i++)
                assert_int_equal(cpuset_parse(syntax[i], strlen(syntax[i]), &set), CPUSET_E_SYNTAX);
        for (size_t i = 0; i < ELEMENTS_OF(range); i++)
                assert_int_equal(cpuset_parse(range[i], strlen(range[i]), &set), CPUSET_E_RANGE);
        assert_int_equal(cpuset_parse("1\0002", 3, &set), CPUSET_E_SYNTAX);
        assert_true(cpuset_equal(&set, &untouched));
}

static void test_longest(_unused_ void **state) {
        char buffer[CPUSET_TEXT_MAX];
        CpuSet set = CPUSET_NULL, again;
        size_t n;

        for (unsigned cpu = 0; cpu < CPUSET_MAX; cpu += 2)
                cpuset_add(&set, cpu);
        n = cpuset_format(&set, buffer, sizeof(buffer));
        assert_int_equal(cpuset_parse(buffer, n, &again), 0);
        assert_true(cpuset_equal(&set, &again));
        assert_int_equal(cpuset_count(&set), CPUSET_MAX / 2);

        /* Too small a buffer: cut at a whole range, never beyond. */
        assert_int_equal(cpuset_format(&set, buffer, 6), 5);
        assert_string_equal(buffer, "0,2,4");
        assert_int_equal(cpuset_format(&set, buffer, 5), 3);
        assert_string_equal(buffer, "0,2");
}

static void test_algebra(_unused_ void **state) {
        CpuSet a = CPUSET_NULL, b = CPUSET_NULL, c;

        assert_true(cpuset_is_empty(&a));
        cpuset_add_range(&a, 60, 70);
        cpuset_add_range(&b, 66, 80);
        assert_true(cpuset_intersects(&a, &b));
        assert_false(cpuset_is_subset(&a, &b));

        c = a;
        cpuset_and(&c, &b);
        assert_int_equal(cpuset_count(&c), 5);
        assert_true(cpuset_is_subset(&c, &a));
        c = a;
        cpuset_subtract(&c, &b);
        assert_int_equal(cpuset_count(&c), 6);
        assert_false(cpuset_intersects(&c, &b));
        cpuset_or(&c, &b);
        assert_int_equal(cpuset_count(&c), 21);
        cpuset_remove(&c, 60);
        assert_int_equal(cpuset_next(&c, 0), 61);
        assert_int_equal(cpuset_next(&c, 81), CPUSET_MAX);
        assert_int_equal(cpuset_next(&c, CPUSET_MAX), CPUSET_MAX);
        assert_false(cpuset_has(&c, CPUSET_MAX));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_longest),
                cmocka_unit_test(test_algebra),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
