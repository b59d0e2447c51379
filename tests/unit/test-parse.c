/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/parse.h"

#define UNTOUCHED UINT64_C(0xa5a5a5a5a5a5a5a5)
#define SEC       UINT64_C(1000000)

typedef struct Case {
        const char *text;
        int outcome;
        uint64_t value;
} Case;

static void test_u64(_unused_ void **state) {
        static const Case cases[] = {
                {"0", 0, 0},
                {"007", 0, 7},
                {"4294967295", 0, UINT32_MAX},
                {"4294967296", PARSE_E_RANGE, UNTOUCHED},
                {"18446744073709551616", PARSE_E_RANGE, UNTOUCHED},
                {"99999999999999999999999999", PARSE_E_RANGE, UNTOUCHED},
                {"99999999999999999999999999x", PARSE_E_SYNTAX, UNTOUCHED},
                {"", PARSE_E_SYNTAX, UNTOUCHED},
                {"-1", PARSE_E_SYNTAX, UNTOUCHED},
                {"+1", PARSE_E_SYNTAX, UNTOUCHED},
                {" 1", PARSE_E_SYNTAX, UNTOUCHED},
                {"1 ", PARSE_E_SYNTAX, UNTOUCHED},
                {"1\n", PARSE_E_SYNTAX, UNTOUCHED},
                {"0x10", PARSE_E_SYNTAX, UNTOUCHED},
                {"1e3", PARSE_E_SYNTAX, UNTOUCHED},
                {"1K", PARSE_E_SYNTAX, UNTOUCHED},
        };
        uint64_t value;

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                value = UNTOUCHED;
                assert_int_equal(parse_u64(cases[i].text, UINT32_MAX, &value), cases[i].outcome);
                assert_int_equal(value, cases[i].value);
        }
        assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &value), 0);
        assert_int_equal(value, UINT64_MAX);
}

static void test_size(_unused_ void **state) {
        static const Case cases[] = {
                {"0", 0, 0},
                {"4096", 0, 4096},
                {"64K", 0, 65536},
                {"64k", 0, 65536},
                {"4M", 0, 4194304},
                {"2g", 0, UINT64_C(2147483648)},
                {"1T", 0, UINT64_C(1) << 40},
                {"9223372036854775807", 0, INT64_MAX},
                {"9223372036854775808", PARSE_E_RANGE, UNTOUCHED},
                {"8388607T", 0, UINT64_C(8388607) << 40},
                {"8388608T", PARSE_E_RANGE, UNTOUCHED},
                {"18446744073709551616K", PARSE_E_RANGE, UNTOUCHED},
                {"", PARSE_E_SYNTAX, UNTOUCHED},
                {"M", PARSE_E_SYNTAX, UNTOUCHED},
                {"4MB", PARSE_E_SYNTAX, UNTOUCHED},
                {"4MiB", PARSE_E_SYNTAX, UNTOUCHED},
                {"4 M", PARSE_E_SYNTAX, UNTOUCHED},
                {"4.5M", PARSE_E_SYNTAX, UNTOUCHED},
                {"-4M", PARSE_E_SYNTAX, UNTOUCHED},
                {"4X", PARSE_E_SYNTAX, UNTOUCHED},
                {"4\x0b", PARSE_E_SYNTAX, UNTOUCHED},
                {"5%", PARSE_E_SYNTAX, UNTOUCHED},
                {"lots", PARSE_E_SYNTAX, UNTOUCHED},
        };

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                uint64_t value = UNTOUCHED;

                assert_int_equal(parse_size(cases[i].text, &value), cases[i].outcome);
                assert_int_equal(value, cases[i].value);
        }
}

static void test_size_or_percent(_unused_ void **state) {
        static const struct {
                Case c;
                bool percent;
        } cases[] = {
                {{"5%", 0, 5}, true},
                {{"1%", 0, 1}, true},
                {{"100%", 0, 100}, true},
                {{"5", 0, 5}, false},
                {{"5M", 0, 5242880}, false},
                {{"0%", PARSE_E_RANGE, UNTOUCHED}, true},
                {{"101%", PARSE_E_RANGE, UNTOUCHED}, true},
                {{"18446744073709551617%", PARSE_E_RANGE, UNTOUCHED}, true},
                {{"%", PARSE_E_SYNTAX, UNTOUCHED}, true},
                {{"5%%", PARSE_E_SYNTAX, UNTOUCHED}, true},
                {{"5M%", PARSE_E_SYNTAX, UNTOUCHED}, true},
                {{"5 %", PARSE_E_SYNTAX, UNTOUCHED}, true},
                {{"-5%", PARSE_E_SYNTAX, UNTOUCHED}, true},
        };

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                bool percent = !cases[i].percent;
                uint64_t value = UNTOUCHED;

                assert_int_equal(parse_size_or_percent(cases[i].c.text, &value, &percent),
                                 cases[i].c.outcome);
                assert_int_equal(value, cases[i].c.value);
                assert_int_equal(percent, cases[i].c.outcome ? !cases[i].percent : cases[i].percent);
        }
}

static void test_duration(_unused_ void **state) {
        static const Case cases[] = {
                {"0", 0, 0},
                {"10", 0, 10 * SEC},
                {"250ms", 0, SEC / 4},
                {"30s", 0, 30 * SEC},
                {"10m", 0, 600 * SEC},
                {"10min", 0, 600 * SEC},
                {"2h", 0, 7200 * SEC},
                {"1d", 0, 86400 * SEC},
                {"1h 30m", 0, 5400 * SEC},
                {"1h30min", 0, 5400 * SEC},
                {"1d 1h  1m 1s 1ms", 0, 90061 * SEC + 1000},
                {"9223372036854s", 0, 9223372036854 * SEC},
                {"9223372036855s", PARSE_E_RANGE, UNTOUCHED},
                {"106751991d 106751991d", PARSE_E_RANGE, UNTOUCHED},
                {"99999999999999999999d", PARSE_E_RANGE, UNTOUCHED},
                {"99999999999999999999", PARSE_E_RANGE, UNTOUCHED},
                {"99999999999999999999x", PARSE_E_SYNTAX, UNTOUCHED},
                {"", PARSE_E_SYNTAX, UNTOUCHED},
                {" ", PARSE_E_SYNTAX, UNTOUCHED},
                {"s", PARSE_E_SYNTAX, UNTOUCHED},
                {"1h 30", PARSE_E_SYNTAX, UNTOUCHED},
                {"1h ", PARSE_E_SYNTAX, UNTOUCHED},
                {"10 m", PARSE_E_SYNTAX, UNTOUCHED},
                {"10S", PARSE_E_SYNTAX, UNTOUCHED},
                {"10sec", PARSE_E_SYNTAX, UNTOUCHED},
                {"-1s", PARSE_E_SYNTAX, UNTOUCHED},
                {"1.5h", PARSE_E_SYNTAX, UNTOUCHED},
        };

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                uint64_t value = UNTOUCHED;

                assert_int_equal(parse_duration(cases[i].text, &value), cases[i].outcome);
                assert_int_equal(value, cases[i].value);
        }
}

static void test_bool(_unused_ void **state) {
        static const char *const yes[] = {"yes", "true", "on", "1", "YES", "On"};
        static const char *const no[] = {"no", "false", "off", "0", "No", "FALSE"};
        static const char *const neither[] = {"", "y", "n", "2", "yes ", "maybe"};
        bool value;

        for (size_t i = 0; i < ELEMENTS_OF(yes); i++) {
                value = false;
                assert_int_equal(parse_bool(yes[i], &value), 0);
                assert_true(value);
        }
        for (size_t i = 0; i < ELEMENTS_OF(no); i++) {
                value = true;
                assert_int_equal(parse_bool(no[i], &value), 0);
                assert_false(value);
        }
        for (size_t i = 0; i < ELEMENTS_OF(neither); i++)
                assert_int_equal(parse_bool(neither[i], &value), PARSE_E_SYNTAX);
}

static void test_format_size(_unused_ void **state) {
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
                {0, "0"},
                {1, "1"},
                {5000, "5000"},
                {4096, "4K"},
                {4194304, "4M"},
                {UINT64_C(3) << 29, "1536M"},
                {UINT64_C(1) << 30, "1G"},
                {UINT64_C(1023) << 42, "4092T"},
                {UINT64_MAX, "18446744073709551615"},
                {UINT64_MAX - 1023, "18014398509481983K"},
        };
        char buffer[FORMAT_SIZE_MAX];

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                uint64_t again;

                assert_ptr_equal(format_size(cases[i].bytes, buffer), buffer);
                assert_string_equal(buffer, cases[i].text);
                if (cases[i].bytes <= INT64_MAX) {
                        assert_int_equal(parse_size(buffer, &again), 0);
                        assert_int_equal(again, cases[i].bytes);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_u64),
                cmocka_unit_test(test_size),
                cmocka_unit_test(test_size_or_percent),
                cmocka_unit_test(test_duration),
                cmocka_unit_test(test_bool),
                cmocka_unit_test(test_format_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
