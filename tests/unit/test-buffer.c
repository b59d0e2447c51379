/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "varlink/buffer.h"

static void assert_pending(const Buffer *buffer, const char *text) {
        assert_int_equal(buffer_pending(buffer), strlen(text));
        assert_memory_equal(buffer->data + buffer->start, text, strlen(text));
}

static void test_append_and_consume(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1024);

        assert_null(buffer.data);
        assert_int_equal(buffer_pending(&buffer), 0);
        assert_int_equal(buffer_append(&buffer, "", 0), 0);
        assert_null(buffer.data);

        assert_int_equal(buffer_append(&buffer, "hello", 5), 0);
        assert_int_equal(buffer_append(&buffer, " world", 6), 0);
        assert_pending(&buffer, "hello world");
        buffer_consume(&buffer, 6);
        assert_pending(&buffer, "world");
        buffer_consume(&buffer, 5);
        assert_int_equal(buffer_pending(&buffer), 0);
        assert_int_equal(buffer.start, 0);
        /* Small storage stays for the next message. */
        assert_non_null(buffer.data);

        buffer_deinit(&buffer);
        assert_null(buffer.data);
        assert_int_equal(buffer.limit, 1024);
}

static void test_replace(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(600);
        char text[600];

        assert_int_equal(buffer_replace(&buffer, 0, 0, NULL, 0), 0);
        assert_int_equal(buffer_replace(&buffer, 0, 0, "+hello world", 12), 0);
        buffer_consume(&buffer, 1);
        assert_int_equal(buffer_replace(&buffer, 0, 5, "bye", 3), 0);
        assert_pending(&buffer, "bye world");
        assert_int_equal(buffer_replace(&buffer, 4, 0, "big ", 4), 0);
        assert_pending(&buffer, "bye big world");
        assert_int_equal(buffer_replace(&buffer, 7, 6, NULL, 0), 0);
        assert_pending(&buffer, "bye big");

        /* Storage grows, up to the limit. */
        memset(text, 'x', sizeof(text));
        assert_int_equal(buffer_replace(&buffer, 4, 0, text, 594), -ENOBUFS);
        assert_pending(&buffer, "bye big");
        assert_int_equal(buffer_replace(&buffer, 4, 0, text, 593), 0);
        assert_int_equal(buffer_pending(&buffer), 600);
        assert_memory_equal(buffer.data + buffer.start + 597, "big", 3);
}

static void test_limit(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(700);
        char text[701];

        memset(text, 'x', sizeof(text));
        assert_int_equal(buffer_append(&buffer, text, 701), -ENOBUFS);
        assert_int_equal(buffer_append(&buffer, text, SIZE_MAX), -ENOBUFS);
        assert_int_equal(buffer_append(&buffer, text, 700), 0);
        assert_int_equal(buffer.size, 700);
        assert_int_equal(buffer_append(&buffer, text, 1), -ENOBUFS);
        assert_int_equal(buffer_pending(&buffer), 700);

        /* What is consumed makes room again, though it stood at the front. */
        text[0] = 'y';
        buffer_consume(&buffer, 1);
        assert_int_equal(buffer_append(&buffer, text, 1), 0);
        assert_int_equal(buffer_pending(&buffer), 700);
        assert_int_equal(buffer.data[buffer.start], 'x');
        assert_int_equal(buffer.data[buffer.end - 1], 'y');
}

static void test_drained_gives_back(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1 << 20);
        char text[BUFFER_KEEP_MAX + 1];

        memset(text, 'x', sizeof(text));
        assert_int_equal(buffer_append(&buffer, text, sizeof(text)), 0);
        buffer_consume(&buffer, sizeof(text) - 1);
        assert_non_null(buffer.data);
        buffer_consume(&buffer, 1);
        assert_null(buffer.data);
        assert_int_equal(buffer.size, 0);

        assert_int_equal(buffer_append(&buffer, text, 1), 0);
        assert_true(buffer.size < BUFFER_KEEP_MAX);
}

/* A queue of steady length neither grows for ever nor loses a byte. */
static void test_steady_queue(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1 << 20);
        unsigned char in = 0, out = 0;

        for (unsigned i = 0; i < 300; i++, in++)
                assert_int_equal(buffer_append(&buffer, &in, 1), 0);
        for (unsigned i = 0; i < 100000; i++, in++, out++) {
                assert_int_equal(buffer_append(&buffer, &in, 1), 0);
                assert_int_equal((unsigned char)buffer.data[buffer.start], out);
                buffer_consume(&buffer, 1);
        }
        assert_int_equal(buffer_pending(&buffer), 300);
        assert_true(buffer.size <= 1024);
}

/* What has once been moved is not moved again before as many bytes have been appended. */
static void test_compaction_pays(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1 << 20);
        char text[512] = {0};

        assert_int_equal(buffer_append(&buffer, text, sizeof(text)), 0);
        assert_int_equal(buffer.size, sizeof(text));
        buffer_consume(&buffer, 1);
        assert_int_equal(buffer_append(&buffer, text, 1), 0);
        assert_int_equal(buffer.start, 0);
        assert_true(buffer.size - buffer.end >= sizeof(text) - 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_append_and_consume),
                cmocka_unit_test(test_replace),
                cmocka_unit_test(test_limit),
                cmocka_unit_test(test_drained_gives_back),
                cmocka_unit_test(test_steady_queue),
                cmocka_unit_test(test_compaction_pays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
