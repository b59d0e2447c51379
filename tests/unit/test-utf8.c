/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "varlink/utf8.h"

static void assert_encoded(uint32_t value, const char *expected) {
        char text[UTF8_MAX];
        size_t n = utf8_encode(value, text);

        assert_int_equal(n, strlen(expected));
        assert_memory_equal(text, expected, n);
}

static void test_encode(_unused_ void **state) {
        assert_encoded(0x1, "\x01");
        assert_encoded(0x7f, "\x7f");
        assert_encoded(0x80, "\xc2\x80");
        assert_encoded(0x7ff, "\xdf\xbf");
        assert_encoded(0x800, "\xe0\xa0\x80");
        assert_encoded(0x20ac, "\xe2\x82\xac");
        assert_encoded(0xffff, "\xef\xbf\xbf");
        assert_encoded(0x10000, "\xf0\x90\x80\x80");
        assert_encoded(0x10ffff, "\xf4\x8f\xbf\xbf");
}

/* Against the definition, for every value. */
static void test_unsafe(_unused_ void **state) {
        for (unsigned value = 0; value < 0x110000; value++) {
                bool unsafe = value < 0x20 || (value >= 0x7f && value < 0xa0) ||
                              (value >= 0x2028 && value <= 0x202e) || (value >= 0x2066 && value <= 0x2069);
                char text[UTF8_MAX];
                unsigned code = 0;
                size_t n;

                if (value >= 0xd800 && value <= 0xdfff)
                        continue;
                n = utf8_encode(value, text);
                assert_int_equal(utf8_unsafe(text, n, &code), unsafe ? n : 0);
                assert_int_equal(code, unsafe ? value : 0);
                if (n > 1)
                        assert_int_equal(utf8_unsafe(text, n - 1, &code), 0);
        }
}

/* utf8_sequence() against the definition, for every value, and against the number of valid strings. */
static void test_sequence(_unused_ void **state) {
        unsigned n_valid[5] = {0};

        for (unsigned value = 0; value < 0x1fffff; value++) {
                bool valid = value < 0x110000 && (value < 0xd800 || value > 0xdfff);
                char text[UTF8_MAX];
                size_t n = utf8_encode(value, text);

                if (utf8_sequence(text, n) != (valid ? n : 0))
                        fail_msg("U+%X", value);
                if (n > 1 && utf8_sequence(text, n - 1) != 0)
                        fail_msg("U+%X cut short", value);
        }

        /* Of all 4-byte strings' first three bytes (the fourth a tail), as many are valid as there are
         * values. */
        for (unsigned i = 0; i < 1U << 24; i++) {
                const char text[] = {(char)(i >> 16), (char)(i >> 8), (char)i, (char)0x80};

                n_valid[utf8_sequence(text, sizeof(text))]++;
        }
        assert_int_equal(n_valid[1], 0x80 << 16);
        assert_int_equal(n_valid[2], (0x800 - 0x80) << 8);
        assert_int_equal(n_valid[3], 0x10000 - 0x800 - 0x800);
        assert_int_equal(n_valid[4], 0x100000 >> 6);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_encode),
                cmocka_unit_test(test_sequence),
                cmocka_unit_test(test_unsafe),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
