/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Out of memory at every single allocation of the codec, json-c's included: each attempt answers -ENOMEM and
 * leaves nothing behind, until one has all it needs. The allocator is replaced for that, which a sanitizer
 * does not allow: there the test is skipped.
 */

#include <errno.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/failing-allocator.h"
#include "util/cleanup.h"
#include "varlink/idl.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

/* No object has so many members that json-c's table must grow: if it cannot, json-c 0.16 loses the name. */
static int attempt_read(void) {
        static const char text[] =
                "{\"a\":[1,-2.5,\"x\",true,null,[],{\"b\":1},6,7,8,9],\"escaped\":\"\\u00e9\\n\","
                "\"a name that is too long for the stack to keep it\":{},"
                "\"number\":0.00000000000000000000000000000000000000000000000000000000000000000001,"
                "\"1\":1,\"2\":2,\"3\":3}";
        struct json_object *value = NULL;
        int r;

        r = json_read(text, strlen(text), &value, NULL);
        json_object_put(value);
        return r;
}

static int attempt_write(void) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1 << 20);
        JsonWriter writer;
        int r;

        json_writer_init(&writer, &buffer);
        json_write_array_begin(&writer, NULL);
        for (int i = 0; i < 1000; i++) {
                json_write_string(&writer, NULL, "text\n");
                json_write_double(&writer, NULL, 0.1);
        }
        json_write_array_end(&writer);
        r = json_writer_finish(&writer);
        if (r < 0)
                assert_int_equal(buffer_pending(&buffer), 0);
        return r;
}

static int attempt_parse(void) {
        static const char text[] =
                "interface a.b\ntype A (a: []?int, b: [string]B, c: (x, y, z))\ntype B ()\n"
                "method M(a: A) -> (b: B)\nerror E (a: int)";
        Idl *idl = NULL;
        int r;

        r = idl_parse(text, strlen(text), &idl, NULL);
        idl_free(idl);
        return r;
}

static void fail_everywhere(int (*attempt)(void), long n_min) {
        long n = 0, n_before;
        int r;

        assert_int_equal(attempt(), 0);
        do {
                n_before = n_live;
                allowed = n++;
                r = attempt();
                allowed = -1;
                assert_true(r == 0 || r == -ENOMEM);
                assert_int_equal(n_live, n_before);
        } while (r != 0);
        assert_true(n > n_min);
}

static void test_read(_unused_ void **state) {
        fail_everywhere(attempt_read, 30);
}

static void test_write(_unused_ void **state) {
        fail_everywhere(attempt_write, 4);
}

static void test_parse(_unused_ void **state) {
        fail_everywhere(attempt_parse, 20);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read),
                cmocka_unit_test(test_write),
                cmocka_unit_test(test_parse),
        };

        if (!ALLOCATOR_CAN_FAIL) {
                puts("the sanitizer has its own allocator");
                return 77;
        }

        return cmocka_run_group_tests(tests, NULL, NULL);
}
