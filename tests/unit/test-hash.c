/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* util/hash: the hashes that everybody's FNV-1a has, in one piece and in parts. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/hash.h"

static uint64_t hash_of(const char *text) {
        return hash_add(HASH_INIT, text, strlen(text));
}

/* From the test vectors of its authors. */
static void test_vectors(_unused_ void **state) {
        assert_true(hash_of("") == UINT64_C(0xcbf29ce484222325));
        assert_true(hash_of("a") == UINT64_C(0xaf63dc4c8601ec8c));
        assert_true(hash_of("foobar") == UINT64_C(0x85944171f73967e8));
}

static void test_parts(_unused_ void **state) {
        assert_true(hash_add(hash_of("foo"), "bar", 3) == hash_of("foobar"));
        assert_true(hash_of("oofbar") != hash_of("foobar"));
}

/* Every byte counts, also one that ends a string, or is negative as a char. */
static void test_bytes(_unused_ void **state) {
        assert_true(hash_add(HASH_INIT, "a\0", 2) != hash_of("a"));
        assert_true(hash_of("\xff") == UINT64_C(0xaf64724c8602eb6e));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_parts),
                cmocka_unit_test(test_bytes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
