/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/member.h"
#include "util/cleanup.h"
#include "varlink/json-read.h"

static const char text[] =
        "{\"yes\":true,\"no\":false,\"int\":7,\"negative\":-1,\"double\":7.0,\"string\":\"s\",\"null\":null,"
        "\"cpus\":\"0-3\",\"empty\":\"\",\"array\":[1],\"object\":{\"a\":1},\"max\":9223372036854775807}";

static int setup(void **state) {
        return json_read(text, strlen(text), (struct json_object **)state, NULL);
}

static int teardown(void **state) {
        json_object_put(*state);
        return 0;
}

static void test_good(void **state) {
        MemberReader r, inner;
        CpuSet cpus;

        member_reader_init(&r, *state, "bad");
        assert_true(member_get_bool(&r, "yes", "bad"));
        assert_false(member_get_bool(&r, "no", "bad"));
        assert_int_equal(member_get_int(&r, "int", 7, 7, "bad"), 7);
        assert_int_equal(member_get_int(&r, "negative", -1, 0, "bad"), -1);
        assert_int_equal(member_get_time(&r, "max", "bad"), INT64_MAX);
        assert_string_equal(member_get_string(&r, "string", "bad"), "s");
        assert_string_equal(member_get_optional_string(&r, "empty", "bad"), "");
        assert_true(member_get_optional_cpus(&r, "cpus", "bad", &cpus));
        assert_int_equal(cpuset_count(&cpus), 4);
        assert_int_equal(json_object_array_length(member_get_array(&r, "array", "bad")), 1);
        member_reader_enter(&r, "object", "bad", &inner);
        assert_int_equal(member_get_int(&inner, "a", 0, 1, "bad"), 1);
        assert_null(member_reader_finish(&inner, "more"));
        member_require(&r, true, "bad");

        /* Two have not been asked for. */
        assert_string_equal(member_reader_finish(&r, "more"), "more");
        assert_int_equal(member_get_time(&r, "null", "bad"), UINT64_MAX);
        r.n_read++;
        assert_null(member_reader_finish(&r, "more"));
}

static void test_null(void **state) {
        MemberReader r;
        CpuSet cpus;

        member_reader_init(&r, *state, "bad");
        assert_null(member_get_optional_string(&r, "null", "bad"));
        assert_false(member_get_optional_cpus(&r, "null", "bad", &cpus));
        assert_true(cpuset_is_empty(&cpus));
        assert_int_equal(member_get_time(&r, "null", "bad"), UINT64_MAX);
        assert_null(r.fault);
}

/* One getter and a member that it does not take: zero, and the fault. */
#define assert_fault(state, call, zero)                                       \
        do {                                                                  \
                MemberReader r;                                               \
                                                                              \
                member_reader_init(&r, *(state), "object");                   \
                assert_true((call) == (zero));                                \
                assert_non_null(r.fault);                                     \
                assert_string_equal(r.fault, "bad");                          \
                assert_string_equal(member_reader_finish(&r, "more"), "bad"); \
                /* It sticks: what is good after it is not given any more. */ \
                assert_false(member_get_bool(&r, "yes", "other"));            \
                assert_string_equal(r.fault, "bad");                          \
        } while (0)

static void test_bad(void **state) {
        static const char *const not_strings[] = {"yes",   "int",    "double", "null",
                                                  "array", "object", "absent"};
        MemberReader inner;
        CpuSet cpus;

        for (size_t i = 0; i < ELEMENTS_OF(not_strings); i++)
                assert_fault(state, member_get_string(&r, not_strings[i], "bad"), NULL);
        assert_fault(state, member_get_optional_string(&r, "int", "bad"), NULL);
        assert_fault(state, member_get_optional_string(&r, "absent", "bad"), NULL);
        assert_fault(state, member_get_bool(&r, "int", "bad"), false);
        assert_fault(state, member_get_bool(&r, "null", "bad"), false);
        assert_fault(state, member_get_int(&r, "double", 0, 9, "bad"), 0);
        assert_fault(state, member_get_int(&r, "int", 8, 9, "bad"), 0);
        assert_fault(state, member_get_int(&r, "int", 0, 6, "bad"), 0);
        assert_fault(state, member_get_time(&r, "negative", "bad"), 0);
        assert_fault(state, member_get_time(&r, "absent", "bad"), 0);
        assert_fault(state, member_get_array(&r, "object", "bad"), NULL);
        assert_fault(state, (member_get_cpus(&r, "empty", "bad", &cpus), cpuset_is_empty(&cpus)), true);
        assert_fault(state, (member_get_cpus(&r, "null", "bad", &cpus), cpuset_is_empty(&cpus)), true);
        assert_fault(state, member_get_optional_cpus(&r, "string", "bad", &cpus), false);
        assert_fault(state, (member_reader_enter(&r, "array", "bad", &inner), inner.fault != NULL), true);
        assert_fault(state, (member_require(&r, false, "bad"), 0), 0);
}

static void test_no_object(void **state) {
        struct json_object *array;
        MemberReader r;

        assert_true(json_object_object_get_ex(*state, "array", &array));
        member_reader_init(&r, array, "not an object");
        assert_int_equal(member_get_int(&r, "int", 0, 9, "bad"), 0);
        assert_string_equal(member_reader_finish(&r, "more"), "not an object");
        member_reader_init(&r, NULL, "not an object");
        assert_string_equal(member_reader_finish(&r, "more"), "not an object");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_good, setup, teardown),
                cmocka_unit_test_setup_teardown(test_null, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_object, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
