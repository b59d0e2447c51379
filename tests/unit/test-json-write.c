/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <float.h>
#include <json-c/json.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "varlink/json-write.h"

#define LIMIT (1U << 20)

/* A writer on its own buffer. */
typedef struct Fixture {
        Buffer buffer;
        JsonWriter writer;
} Fixture;

static void fixture_begin(Fixture *f) {
        f->buffer = BUFFER_INIT(LIMIT);
        json_writer_init(&f->writer, &f->buffer);
}

/* Ends the message, compares it, and gives everything back. */
static void fixture_assert(Fixture *f, const char *expected) {
        assert_int_equal(json_writer_finish(&f->writer), 0);
        assert_int_equal(buffer_append(&f->buffer, "", 1), 0);
        assert_string_equal(f->buffer.data, expected);
        assert_int_equal(buffer_pending(&f->buffer), strlen(expected) + 1);
        buffer_deinit(&f->buffer);
}

static void assert_int_text(int64_t value, const char *expected) {
        Fixture f;

        fixture_begin(&f);
        json_write_int(&f.writer, NULL, value);
        fixture_assert(&f, expected);
}

static void assert_double_text(double value, const char *expected) {
        Fixture f;

        fixture_begin(&f);
        json_write_double(&f.writer, NULL, value);
        fixture_assert(&f, expected);
}

static void assert_string_text(const char *value, size_t n, const char *expected) {
        Fixture f;

        fixture_begin(&f);
        json_write_string_n(&f.writer, NULL, value, n);
        fixture_assert(&f, expected);
}

static void test_structure(_unused_ void **state) {
        CpuSet set = CPUSET_NULL;
        Fixture f;

        cpuset_add_range(&set, 0, 3);
        cpuset_add(&set, 8);

        fixture_begin(&f);
        json_write_object_begin(&f.writer, NULL);
        json_write_string(&f.writer, "a", "x");
        json_write_string(&f.writer, "b", NULL);
        json_write_array_begin(&f.writer, "c");
        json_write_object_begin(&f.writer, NULL);
        json_write_object_end(&f.writer);
        json_write_array_begin(&f.writer, NULL);
        json_write_bool(&f.writer, NULL, true);
        json_write_bool(&f.writer, NULL, false);
        json_write_null(&f.writer, NULL);
        json_write_array_end(&f.writer);
        json_write_int(&f.writer, NULL, 7);
        json_write_array_end(&f.writer);
        json_write_cpuset(&f.writer, "cpus", &set);
        json_write_object_begin(&f.writer, "e");
        json_write_object_end(&f.writer);
        json_write_object_end(&f.writer);
        fixture_assert(&f,
                       "{\"a\":\"x\",\"b\":null,\"c\":[{},[true,false,null],7],\"cpus\":\"0-3,8\",\"e\":{}}");
}

static void test_numbers(_unused_ void **state) {
        assert_int_text(0, "0");
        assert_int_text(-1, "-1");
        assert_int_text(10, "10");
        assert_int_text(4194304, "4194304");
        assert_int_text(INT64_MAX, "9223372036854775807");
        assert_int_text(INT64_MIN, "-9223372036854775808");

        assert_double_text(0, "0.0");
        assert_double_text(-0.0, "-0.0");
        assert_double_text(1, "1.0");
        assert_double_text(-2.5, "-2.5");
        assert_double_text(0.1, "0.1");
        assert_double_text(0.1 + 0.2, "0.30000000000000004");
        assert_double_text(M_PI, "3.141592653589793");
        assert_double_text(1e300, "1e+300");
        assert_double_text(DBL_MAX, "1.7976931348623157e+308");
        assert_double_text(-DBL_MIN, "-2.2250738585072014e-308");
        assert_double_text(-DBL_TRUE_MIN, "-4.94065645841247e-324");
        assert_double_text(1e15, "1e+15");
        assert_double_text(123456789012345, "123456789012345.0");
}

/* The library lives in programs that set a locale; the wire has none. */
static void test_double_in_any_locale(_unused_ void **state) {
        if (!setlocale(LC_ALL, "de_DE.UTF-8"))
                skip();

        assert_double_text(2.5, "2.5");
        setlocale(LC_ALL, "C");
}

static void test_not_finite(_unused_ void **state) {
        const double values[] = {NAN, INFINITY, -INFINITY};

        for (size_t i = 0; i < ELEMENTS_OF(values); i++) {
                Fixture f;

                fixture_begin(&f);
                json_write_double(&f.writer, NULL, values[i]);
                assert_int_equal(json_writer_finish(&f.writer), -EDOM);
                assert_int_equal(buffer_pending(&f.buffer), 0);
                buffer_deinit(&f.buffer);
        }
}

#define S(literal) literal, sizeof(literal) - 1
#define FFFD       "\xef\xbf\xbd"

static void test_strings(_unused_ void **state) {
        assert_string_text(S(""), "\"\"");
        assert_string_text(S("arm_spe_0"), "\"arm_spe_0\"");
        assert_string_text(S("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
        assert_string_text(S("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
        assert_string_text(S("\x01\x1f\x7f"), "\"\\u0001\\u001f\\u007f\"");
        assert_string_text(S("a\0b"), "\"a" FFFD "b\"");
        assert_string_text(S("\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x90\x80\x80 "
                             "\xf4\x8f\xbf\xbf"),
                           "\"\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x90\x80\x80 "
                           "\xf4\x8f\xbf\xbf\"");

        /* One replacement per byte that begins no character. */
        assert_string_text(S("\xff"), "\"" FFFD "\"");
        assert_string_text(S("x\x80y"), "\"x" FFFD "y\"");
        assert_string_text(S("\xc0\x80"), "\"" FFFD FFFD "\"");
        assert_string_text(S("\xed\xa0\x80"), "\"" FFFD FFFD FFFD "\"");
        assert_string_text(S("\xf4\x90\x80\x80"), "\"" FFFD FFFD FFFD FFFD "\"");
        assert_string_text(S("ok\xe2\x82"), "\"ok" FFFD FFFD "\"");
        assert_string_text(S("\xe2\x82\""), "\"" FFFD FFFD "\\\"\"");
}

static void test_rolls_back(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(64);
        JsonWriter writer;

        assert_int_equal(buffer_append(&buffer, "sent.earlier", 12), 0);
        buffer_consume(&buffer, 5);

        json_writer_init(&writer, &buffer);
        json_write_array_begin(&writer, NULL);
        for (int i = 0; i < 64; i++)
                json_write_int(&writer, NULL, i);
        json_write_object_begin(&writer, NULL);
        assert_int_equal(json_writer_finish(&writer), -ENOBUFS);
        assert_int_equal(buffer_pending(&buffer), 7);
        assert_memory_equal(buffer.data + buffer.start, "earlier", 7);

        /* A message that fits goes behind it, though the storage has to be compacted for it. */
        json_writer_init(&writer, &buffer);
        json_write_string(&writer, NULL, "0123456789012345678901234567890123456789");
        assert_int_equal(json_writer_finish(&writer), 0);
        assert_int_equal(buffer_pending(&buffer), 49);
        assert_memory_equal(buffer.data + buffer.start, "earlier\"0123456789012345678901234567890123456789\"",
                            49);
}

static void nest(JsonWriter *writer, unsigned depth) {
        for (unsigned i = 0; i < depth; i++)
                json_write_array_begin(writer, NULL);
        for (unsigned i = 0; i < depth; i++)
                json_write_array_end(writer);
}

static void test_depth(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LIMIT);
        JsonWriter writer;

        assert_int_equal(buffer_append(&buffer, "before", 6), 0);
        buffer_consume(&buffer, 2);

        json_writer_init(&writer, &buffer);
        nest(&writer, JSON_WRITE_DEPTH_MAX);
        assert_int_equal(json_writer_finish(&writer), 0);
        assert_int_equal(buffer_pending(&buffer), 4 + 2 * JSON_WRITE_DEPTH_MAX);
        buffer_consume(&buffer, 2 * JSON_WRITE_DEPTH_MAX);

        json_writer_init(&writer, &buffer);
        nest(&writer, JSON_WRITE_DEPTH_MAX + 1);
        assert_int_equal(json_writer_finish(&writer), -EOVERFLOW);
        assert_int_equal(buffer_pending(&buffer), 4);
        assert_memory_equal(buffer.data + buffer.start, "]]]]", 4);
}

static void test_tree(_unused_ void **state) {
        struct json_object *tree = json_object_new_object(), *array = json_object_new_array(), *outer;
        Fixture f;

        json_object_array_add(array, json_object_new_int64(INT64_MIN));
        json_object_array_add(array, NULL);
        json_object_array_add(array, json_object_new_double(2));
        json_object_array_add(array, json_object_new_string_len("a\0b", 3));
        json_object_object_add(tree, "list", array);
        json_object_object_add(tree, "odd \"name\xff", json_object_new_boolean(1));
        json_object_object_add(tree, "", json_object_new_object());

        fixture_begin(&f);
        json_write_object_begin(&f.writer, NULL);
        json_write_json(&f.writer, "tree", tree);
        json_write_json(&f.writer, "null", NULL);
        json_write_object_end(&f.writer);
        fixture_assert(&f, "{\"tree\":{\"list\":[-9223372036854775808,null,2.0,\"a" FFFD
                           "b\"],\"odd \\\"name" FFFD "\":true,\"\":{}},\"null\":null}");

        /* The same members among others. */
        fixture_begin(&f);
        json_write_object_begin(&f.writer, NULL);
        json_write_int(&f.writer, "first", 1);
        json_write_members(&f.writer, tree);
        json_write_int(&f.writer, "last", 2);
        json_write_object_end(&f.writer);
        fixture_assert(&f, "{\"first\":1,\"list\":[-9223372036854775808,null,2.0,\"a" FFFD
                           "b\"],\"odd \\\"name" FFFD "\":true,\"\":{},\"last\":2}");
        json_object_put(tree);

        /* A tree deeper than the writer is an error, not a crash. */
        tree = json_object_new_array();
        for (unsigned i = 0; i < JSON_WRITE_DEPTH_MAX; i++) {
                outer = json_object_new_array();
                json_object_array_add(outer, tree);
                tree = outer;
        }
        fixture_begin(&f);
        json_write_json(&f.writer, NULL, tree);
        assert_int_equal(json_writer_finish(&f.writer), -EOVERFLOW);
        buffer_deinit(&f.buffer);
        json_object_put(tree);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_structure),
                cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_double_in_any_locale),
                cmocka_unit_test(test_not_finite),
                cmocka_unit_test(test_strings),
                cmocka_unit_test(test_rolls_back),
                cmocka_unit_test(test_depth),
                cmocka_unit_test(test_tree),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
