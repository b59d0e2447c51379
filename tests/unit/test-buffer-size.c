/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/buffer-size.h"
#include "util/cleanup.h"

#define N_CODES (1U << 14)

/* Architecture's definition of the field, not the one under test. */
static uint64_t decode_by_definition(unsigned code) {
        unsigned e = code >> 9, m = code & 0x1ff;

        return e == 0 ? (uint64_t)m << 12 : (uint64_t)(m | 0x200) << (e + 11);
}

static void test_codes(_unused_ void **state) {
        uint64_t before = 0;

        assert_int_equal(buffer_size_decode(0), 0);
        assert_false(buffer_size_is_representable(0)); /* code 0 is 'no limit', which nobody is granted */

        for (unsigned code = 1; code < N_CODES; code++) {
                uint64_t size = buffer_size_decode((uint16_t)code);

                assert_int_equal(size, decode_by_definition(code));
                assert_true(size > before);
                assert_int_equal(buffer_size_encode(size), code);
                assert_true(buffer_size_is_representable(size));
                assert_false(buffer_size_is_representable(size + 1));
                assert_false(buffer_size_is_representable(size - 1));
                before = size;
        }

        assert_int_equal(before, BUFFER_SIZE_MAX);
        assert_int_equal(buffer_size_decode(1), BUFFER_SIZE_MIN);
}

/* The largest of all sizes that is not above, by looking at all of them. */
static void test_floor(_unused_ void **state) {
        for (unsigned code = 1; code < N_CODES; code++) {
                uint64_t size = decode_by_definition(code);
                uint64_t next = code + 1 < N_CODES ? decode_by_definition(code + 1) : UINT64_MAX;

                assert_int_equal(buffer_size_floor(size), size);
                assert_int_equal(buffer_size_floor(size + 1), size);
                assert_int_equal(buffer_size_floor(size + (next - size) / 2), size);
                assert_int_equal(buffer_size_floor(next - 1), size);
        }

        assert_int_equal(buffer_size_floor(0), 0);
        assert_int_equal(buffer_size_floor(1), 0);
        assert_int_equal(buffer_size_floor(4095), 0);
        assert_int_equal(buffer_size_floor(UINT64_MAX), BUFFER_SIZE_MAX);
}

static void test_floor_power_of_two(_unused_ void **state) {
        assert_int_equal(buffer_size_floor_power_of_two(4095), 0);
        for (unsigned k = 12; k <= 51; k++) {
                uint64_t size = UINT64_C(1) << k;

                assert_int_equal(buffer_size_floor_power_of_two(size), size);
                assert_int_equal(buffer_size_floor_power_of_two(size + 1), size);
                assert_int_equal(buffer_size_floor_power_of_two(2 * size - 1), size);
        }
        assert_int_equal(buffer_size_floor_power_of_two(UINT64_C(1) << 52), UINT64_C(1) << 51);
        assert_int_equal(buffer_size_floor_power_of_two(UINT64_MAX), UINT64_C(1) << 51);
}

static void test_representable(_unused_ void **state) {
        static const struct {
                uint64_t size;
                unsigned e, m, code;
        } table[] = {
                {4096, 0, 0x001, 0x0001},
                {8192, 0, 0x002, 0x0002},
                {65536, 0, 0x010, 0x0010},
                {1048576, 0, 0x100, 0x0100},
                {2093056, 0, 0x1ff, 0x01ff},
                {2097152, 1, 0x000, 0x0200},
                {2101248, 1, 0x001, 0x0201},
                {4190208, 1, 0x1ff, 0x03ff},
                {4194304, 2, 0x000, 0x0400},
                {4202496, 2, 0x001, 0x0401},
                {8388608, 3, 0x000, 0x0600},
                {67108864, 6, 0x000, 0x0c00},
                {104857600, 6, 0x120, 0x0d20},
                {1073741824, 10, 0x000, 0x1400},
                {4294967296, 12, 0x000, 0x1800},
                {2251799813685248, 31, 0x000, 0x3e00},
                {4499201580859392, 31, 0x1ff, 0x3fff},
        };

        for (size_t i = 0; i < ELEMENTS_OF(table); i++) {
                assert_int_equal(table[i].e << 9 | table[i].m, table[i].code);
                assert_true(buffer_size_is_representable(table[i].size));
                assert_int_equal(buffer_size_encode(table[i].size), table[i].code);
                assert_int_equal(buffer_size_decode((uint16_t)table[i].code), table[i].size);
        }
}

static void test_not_representable(_unused_ void **state) {
        static const struct {
                uint64_t size, nearest;
                unsigned code;
        } table[] = {
                {1, 0, 0},
                {4095, 0, 0},
                {5000, 4096, 0x0001},
                {1050624, 1048576, 0x0100},
                {2097151, 2093056, 0x01ff},
                {4198400, 4194304, 0x0400},
                {8384512, 8380416, 0x05ff},
                {8396800, 8388608, 0x0600},
                {104923136, 104857600, 0x0d20},
                {1074790400, 1073741824, 0x1400},
                {4294967295, 4290772992, 0x17ff},
                {4299161600, 4294967296, 0x1800},
                {4503599627370496, 4499201580859392, 0x3fff},
                {UINT64_MAX, 4499201580859392, 0x3fff},
        };

        for (size_t i = 0; i < ELEMENTS_OF(table); i++) {
                assert_false(buffer_size_is_representable(table[i].size));
                assert_int_equal(buffer_size_floor(table[i].size), table[i].nearest);
                if (table[i].nearest > 0)
                        assert_int_equal(buffer_size_encode(table[i].nearest), table[i].code);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_codes),
                cmocka_unit_test(test_floor),
                cmocka_unit_test(test_floor_power_of_two),
                cmocka_unit_test(test_representable),
                cmocka_unit_test(test_not_representable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
