/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <json-c/json.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

/* Reads from a heap copy of exactly @n bytes, gone before anybody looks: nothing aliases or overreads it. */
static int read_copy(const char *text, size_t n, struct json_object **ret_value, size_t *ret_offset) {
        char *copy = malloc(n > 0 ? n : 1);
        int r;

        assert_non_null(copy);
        memcpy(copy, text, n);
        r = json_read(copy, n, ret_value, ret_offset);
        memset(copy, 'Z', n);
        free(copy);
        return r;
}

static struct json_object *read_good_n(const char *text, size_t n) {
        struct json_object *value = NULL;
        size_t offset = SIZE_MAX;
        int r;

        r = read_copy(text, n, &value, &offset);
        if (r != 0)
                fail_msg("%s at %zu: %s", json_read_strerror(r), offset, text);
        assert_int_equal(offset, n);
        return value;
}

static struct json_object *read_good(const char *text) {
        return read_good_n(text, strlen(text));
}

static void assert_refused_n(const char *text, size_t n, int expected, size_t expected_offset) {
        struct json_object *untouched = (struct json_object *)&n, *value = untouched;
        size_t offset = SIZE_MAX;
        int r;

        r = read_copy(text, n, &value, &offset);
        if (r != expected || offset != expected_offset)
                fail_msg("%s at %zu instead of %s at %zu: %s", json_read_strerror(r), offset,
                         json_read_strerror(expected), expected_offset, text);
        assert_ptr_equal(value, untouched);
}

static void assert_refused(const char *text, int expected, size_t offset) {
        assert_refused_n(text, strlen(text), expected, offset);
}

static void assert_int_value(const char *text, int64_t expected) {
        struct json_object *value = read_good(text);

        assert_true(json_object_is_type(value, json_type_int));
        assert_true(json_object_get_int64(value) == expected);
        json_object_put(value);
}

static void assert_double_value(const char *text, double expected) {
        struct json_object *value = read_good(text);

        assert_true(json_object_is_type(value, json_type_double));
        assert_true(json_object_get_double(value) == expected);
        assert_int_equal(signbit(json_object_get_double(value)) != 0, signbit(expected) != 0);
        json_object_put(value);
}

static void assert_string_value(const char *text, const char *expected) {
        struct json_object *value = read_good(text);

        assert_true(json_object_is_type(value, json_type_string));
        assert_int_equal(json_object_get_string_len(value), strlen(expected));
        assert_string_equal(json_object_get_string(value), expected);
        json_object_put(value);
}

static void test_call(_unused_ void **state) {
        struct json_object *call, *parameters, *value;

        call = read_good(" {\"method\":\"io.spebroker.Broker.Acquire\",\n\t\"parameters\" : {\"vcpus\":4, "
                         "\"list\":[1,null,true,"
                         "false,[],{}]},\"more\":true}\r\n");
        assert_int_equal(json_object_object_length(call), 3);
        assert_true(json_object_object_get_ex(call, "method", &value));
        assert_string_equal(json_object_get_string(value), "io.spebroker.Broker.Acquire");
        assert_true(json_object_object_get_ex(call, "more", &value));
        assert_true(json_object_get_boolean(value));
        assert_true(json_object_object_get_ex(call, "parameters", &parameters));
        assert_true(json_object_object_get_ex(parameters, "vcpus", &value));
        assert_int_equal(json_object_get_int64(value), 4);

        assert_true(json_object_object_get_ex(parameters, "list", &value));
        assert_int_equal(json_object_array_length(value), 6);
        assert_null(json_object_array_get_idx(value, 1));
        assert_true(json_object_get_boolean(json_object_array_get_idx(value, 2)));
        assert_true(json_object_is_type(json_object_array_get_idx(value, 3), json_type_boolean));
        assert_false(json_object_get_boolean(json_object_array_get_idx(value, 3)));
        assert_int_equal(json_object_array_length(json_object_array_get_idx(value, 4)), 0);
        assert_int_equal(json_object_object_length(json_object_array_get_idx(value, 5)), 0);
        json_object_put(call);

        assert_null(read_good("null"));
}

static void test_integers(_unused_ void **state) {
        assert_int_value("0", 0);
        assert_int_value("-0", 0);
        assert_int_value(" 7 ", 7);
        assert_int_value("-1", -1);
        assert_int_value("9223372036854775807", INT64_MAX);
        assert_int_value("-9223372036854775808", INT64_MIN);

        assert_refused("9223372036854775808", JSON_READ_E_RANGE, 0);
        assert_refused("-9223372036854775809", JSON_READ_E_RANGE, 0);
        assert_refused("18446744073709551615", JSON_READ_E_RANGE, 0);
        assert_refused("18446744073709551616", JSON_READ_E_RANGE, 0);
        assert_refused("[1,36893488147419103233]", JSON_READ_E_RANGE, 3);
        assert_refused("100000000000000000000000000000000", JSON_READ_E_RANGE, 0);
}

static void test_doubles(_unused_ void **state) {
        char text[400];

        assert_double_value("0.0", 0);
        assert_double_value("-0.0", -0.0);
        assert_double_value("2.0", 2);
        assert_double_value("2e0", 2);
        assert_double_value("1E+2", 100);
        assert_double_value("-12.5e-1", -1.25);
        assert_double_value("0e1", 0);
        assert_double_value("1e-999", 0);
        assert_double_value("1.7976931348623157e308", 1.7976931348623157e308);
        assert_double_value("3.14159265358979323846264338327950288419716939937510582097494459230781640628",
                            M_PI);

        assert_refused("1e999", JSON_READ_E_RANGE, 0);
        assert_refused("[-1e309]", JSON_READ_E_RANGE, 1);

        /* Beyond what fits the stack: 399 bytes that read as 1e-299 times 1e297, 0.01. */
        memset(text, '0', sizeof(text));
        memcpy(text, "0.", 2);
        text[300] = '1';
        memcpy(text + 394, "e+297", 5);
        text[399] = '\0';
        assert_double_value(text, 0.01);
}

/* The library lives in programs that set a locale; the wire has none. */
static void test_double_in_any_locale(_unused_ void **state) {
        if (!setlocale(LC_ALL, "de_DE.UTF-8"))
                skip();

        assert_double_value("2.5", 2.5);
        assert_refused("2,5", JSON_READ_E_SYNTAX, 1);
        setlocale(LC_ALL, "C");
}

static void test_number_syntax(_unused_ void **state) {
        assert_refused("", JSON_READ_E_SYNTAX, 0);
        assert_refused("-", JSON_READ_E_SYNTAX, 1);
        assert_refused("+1", JSON_READ_E_SYNTAX, 0);
        assert_refused("01", JSON_READ_E_SYNTAX, 1);
        assert_refused("-01", JSON_READ_E_SYNTAX, 2);
        assert_refused("--1", JSON_READ_E_SYNTAX, 1);
        assert_refused("5.", JSON_READ_E_SYNTAX, 2);
        assert_refused("5.e1", JSON_READ_E_SYNTAX, 2);
        assert_refused(".5", JSON_READ_E_SYNTAX, 0);
        assert_refused("-.5", JSON_READ_E_SYNTAX, 1);
        assert_refused("1e", JSON_READ_E_SYNTAX, 2);
        assert_refused("1e+", JSON_READ_E_SYNTAX, 3);
        assert_refused("1e1.5", JSON_READ_E_SYNTAX, 3);
        assert_refused("1.2.3", JSON_READ_E_SYNTAX, 3);
        assert_refused("0x10", JSON_READ_E_SYNTAX, 1);
        assert_refused("1_000", JSON_READ_E_SYNTAX, 1);
        assert_refused("1 2", JSON_READ_E_SYNTAX, 2);
        assert_refused("NaN", JSON_READ_E_SYNTAX, 0);
        assert_refused("Infinity", JSON_READ_E_SYNTAX, 0);
        assert_refused("-Infinity", JSON_READ_E_SYNTAX, 1);
        assert_refused("inf", JSON_READ_E_SYNTAX, 0);
}

static void test_strings(_unused_ void **state) {
        assert_string_value("\"\"", "");
        assert_string_value("\"arm_spe_0\"", "arm_spe_0");
        assert_string_value("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
        assert_string_value("\"\x7f\"", "\x7f");
        assert_string_value("\"a\\u0041\\u00e9\\u20AC\\uD834\\uDd1e\"",
                            "aA\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e");
        assert_string_value("\"\\u0001\\u007f\\ud7ff\\ue000\\uffff\\udbff\\udfff\"",
                            "\x01\x7f\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf4\x8f\xbf\xbf");
        assert_string_value("\"\\u005Cu0000\"", "\\u0000");
        assert_string_value("\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
                            "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");

        assert_refused("\"", JSON_READ_E_SYNTAX, 1);
        assert_refused("\"abc", JSON_READ_E_SYNTAX, 4);
        assert_refused("\"abc\\\"", JSON_READ_E_SYNTAX, 6);
        assert_refused("\"\\", JSON_READ_E_SYNTAX, 2);
        assert_refused("\"\\x41\"", JSON_READ_E_SYNTAX, 2);
        assert_refused("\"\\U0041\"", JSON_READ_E_SYNTAX, 2);
        assert_refused("\"\\'\"", JSON_READ_E_SYNTAX, 2);
        assert_refused("\"\\u004\"", JSON_READ_E_SYNTAX, 6);
        assert_refused("\"\\u00g1\"", JSON_READ_E_SYNTAX, 5);
        assert_refused("\"\\u 041\"", JSON_READ_E_SYNTAX, 3);
        assert_refused("\"\\u00", JSON_READ_E_SYNTAX, 5);
        assert_refused("\"a\nb\"", JSON_READ_E_SYNTAX, 2);
        assert_refused("\"\t\"", JSON_READ_E_SYNTAX, 1);
        assert_refused("\"\x1f\"", JSON_READ_E_SYNTAX, 1);
        assert_refused("'a'", JSON_READ_E_SYNTAX, 0);
        assert_refused("\"a\"\"b\"", JSON_READ_E_SYNTAX, 3);
}

static void test_encoding(_unused_ void **state) {
        static const char *const invalid[] = {
                "\x80",         "\xbf",         "\xc0\x80",         "\xc1\xbf",         "\xc2",
                "\xc2\x41",     "\xe0\x80\x80", "\xe0\x9f\xbf",     "\xe2\x82",         "\xed\xa0\x80",
                "\xed\xbf\xbf", "\xf0\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                "\xfe",         "\xff",         "\xf8\x88\x80\x80", "\xf0\x9f\x98",
        };

        for (size_t i = 0; i < ELEMENTS_OF(invalid); i++) {
                char text[32];

                snprintf(text, sizeof(text), "[\"ok%s\"]", invalid[i]);
                assert_refused(text, JSON_READ_E_ENCODING, 4);
                snprintf(text, sizeof(text), "{\"\\n%s\":1}", invalid[i]);
                assert_refused(text, JSON_READ_E_ENCODING, 4);
        }

        assert_refused("\"\\ud800\"", JSON_READ_E_ENCODING, 7);
        assert_refused("\"\\ud800x\"", JSON_READ_E_ENCODING, 7);
        assert_refused("\"\\ud800\\n\"", JSON_READ_E_ENCODING, 8);
        assert_refused("\"\\ud800\\u0041\"", JSON_READ_E_ENCODING, 13);
        assert_refused("\"\\ud800\\ud800\"", JSON_READ_E_ENCODING, 13);
        assert_refused("\"\\ud800\\ue000\"", JSON_READ_E_ENCODING, 13);
        assert_refused("\"\\udc00\\ud800\"", JSON_READ_E_ENCODING, 7);
        assert_refused("\"\\udfff\"", JSON_READ_E_ENCODING, 7);

        assert_refused("\"\\u0000\"", JSON_READ_E_ENCODING, 7);
        assert_refused("{\"method\\u0000x\":1}", JSON_READ_E_ENCODING, 14);
        assert_refused_n("\"a\0b\"", 5, JSON_READ_E_ENCODING, 2);
        assert_refused_n("{\"a\0\":1}", 8, JSON_READ_E_ENCODING, 3);
        /* Outside of strings they are not JSON at all. */
        assert_refused_n("1\0", 2, JSON_READ_E_SYNTAX, 1);
        assert_refused_n("\0", 1, JSON_READ_E_SYNTAX, 0);
        assert_refused_n("[\0]", 3, JSON_READ_E_SYNTAX, 1);
        assert_refused("\xef\xbb\xbf{}", JSON_READ_E_SYNTAX, 0);
        assert_refused("\xc2\xa0{}", JSON_READ_E_SYNTAX, 0);
}

static void test_structure(_unused_ void **state) {
        static const struct {
                const char *text;
                size_t offset;
        } bad[] = {
                {" ", 1},
                {"[", 1},
                {"]", 0},
                {"{", 1},
                {"}", 0},
                {"[1", 2},
                {"[1,", 3},
                {"[1,]", 3},
                {"[,1]", 1},
                {"[1,,2]", 3},
                {"[1 2]", 3},
                {"[1}", 2},
                {"{]", 1},
                {"{1:2}", 1},
                {"{\"a\"}", 4},
                {"{\"a\":}", 5},
                {"{\"a\"", 4},
                {"{\"a\":1", 6},
                {"{\"a\":1,}", 7},
                {"{,}", 1},
                {"{\"a\" 1}", 5},
                {"{a:1}", 1},
                {"{'a':1}", 1},
                {"{\"a\":1;}", 6},
                {"{\"a\"::1}", 5},
                {"[]]", 2},
                {"{}{}", 2},
                {"{} x", 3},
                {"nul", 0},
                {"nulll", 4},
                {"True", 0},
                {"TRUE", 0},
                {"fals", 0},
                {"tru", 0},
                {"truefalse", 4},
                {"// c\n1", 0},
                {"1 // c", 2},
                {"[/**/]", 1},
                {"\v1", 0},
                {"[1,\f2]", 3},
                {"undefined", 0},
                {"[1]\x1a", 3},
                {"{\"a\":1 \"b\":2}", 7},
                {"[\"a\" \"b\"]", 5},
        };
        struct json_object *value;

        for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
                assert_refused(bad[i].text, JSON_READ_E_SYNTAX, bad[i].offset);

        value = read_good("\t[ ]\n");
        assert_int_equal(json_object_array_length(value), 0);
        json_object_put(value);
        value = read_good("{ }");
        assert_int_equal(json_object_object_length(value), 0);
        json_object_put(value);
}

static void test_duplicates(_unused_ void **state) {
        char text[256], name[101];
        struct json_object *value;

        assert_refused("{\"a\":1,\"a\":1}", JSON_READ_E_DUPLICATE, 7);
        assert_refused("{\"a\":null,\"a\":1}", JSON_READ_E_DUPLICATE, 10);
        assert_refused("{\"a\":1,\"b\":{\"c\":1, \"c\":2}}", JSON_READ_E_DUPLICATE, 19);
        assert_refused("{\"a\":1,\"\\u0061\":1}", JSON_READ_E_DUPLICATE, 7);
        assert_refused("{\"\":1,\"\":1}", JSON_READ_E_DUPLICATE, 6);

        value = read_good("{\"a\":{\"a\":1},\"A\":[{\"a\":1},{\"a\":1}],\"\":0}");
        assert_int_equal(json_object_object_length(value), 3);
        json_object_put(value);

        /* Names that are equal for longer than what the stack holds. */
        memset(name, 'n', 100);
        name[100] = '\0';
        snprintf(text, sizeof(text), "{\"%s\":1,\"%s\":2}", name, name);
        assert_refused(text, JSON_READ_E_DUPLICATE, 106);
        snprintf(text, sizeof(text), "{\"%s\":1,\"%s\":2}", name, name + 1);
        value = read_good(text);
        assert_int_equal(json_object_get_int64(json_object_object_get(value, name)), 1);
        assert_int_equal(json_object_get_int64(json_object_object_get(value, name + 1)), 2);
        json_object_put(value);
}

/* A name with escapes, whose value's strings need the same scratch. */
static void test_scratch(_unused_ void **state) {
        struct json_object *value, *inner;

        value = read_good("{\"\\u006eame\":{\"\\u0062\":\"\\u0063\"},\"last\":\"\\t\"}");
        inner = json_object_object_get(value, "name");
        assert_non_null(inner);
        assert_string_equal(json_object_get_string(json_object_object_get(inner, "b")), "c");
        assert_string_equal(json_object_get_string(json_object_object_get(value, "last")), "\t");
        json_object_put(value);
}

static void test_depth(_unused_ void **state) {
        static char text[200001];
        const size_t max = JSON_DEPTH_MAX;
        size_t n = 0;

        /* Siblings do not nest. */
        text[n++] = '[';
        for (size_t i = 0; i < 2 * max; i++)
                n += (size_t)(stpcpy(text + n, i % 2 ? "[]," : "{},") - (text + n));
        text[n - 1] = ']';
        json_object_put(read_good_n(text, n));

        memset(text, '[', max + 1);
        memset(text + max, ']', max);
        json_object_put(read_good_n(text, 2 * max));

        memset(text, '[', max + 1);
        memset(text + max + 1, ']', max + 1);
        assert_refused_n(text, 2 * max + 2, JSON_READ_E_DEPTH, max);

        memset(text, '[', 100000);
        assert_refused_n(text, 100000, JSON_READ_E_DEPTH, max);
        for (size_t i = 0; i < 200000; i++)
                text[i] = "{\"a\":"[i % 5];
        assert_refused_n(text, 200000, JSON_READ_E_DEPTH, 5 * max);
}

/* There is a bound on how many empty objects a text may hold. */
static void test_size(_unused_ void **state) {
        static char text[4 * JSON_CONTAINERS_FREE];
        size_t n = 0;

        text[n++] = '[';
        for (size_t i = 0; i < 1000; i++)
                n += (size_t)(stpcpy(text + n, "{},") - (text + n));
        text[n - 1] = ']';
        json_object_put(read_good_n(text, n));

        n--;
        for (size_t i = 0; i < 300; i++)
                n += (size_t)(stpcpy(text + n, ",{}") - (text + n));
        text[n++] = ']';
        assert_int_equal(n, 3901);
        assert_refused_n(text, n, JSON_READ_E_SIZE,
                         1 + 3 * (JSON_CONTAINERS_FREE + 3901 / JSON_CONTAINER_BYTES - 1));
}

static void test_long_string(_unused_ void **state) {
        const size_t n = 1 << 20;
        char *text = malloc(n + 2);
        struct json_object *value;

        assert_non_null(text);
        memset(text, 'x', n + 2);
        text[0] = text[n + 1] = '"';
        value = read_good_n(text, n + 2);
        assert_int_equal(json_object_get_string_len(value), n);
        json_object_put(value);

        text[n / 2] = '\\';
        text[n / 2 + 1] = 'n';
        value = read_good_n(text, n + 2);
        assert_int_equal(json_object_get_string_len(value), n - 1);
        assert_int_equal(json_object_get_string(value)[n / 2 - 1], '\n');
        json_object_put(value);
        free(text);
}

/* Every prefix of a good text is refused, without reading beyond it (the copies are exact). */
static void test_prefixes(_unused_ void **state) {
        static const char text[] =
                "{\"a\":[1,-2.5e3,\"x\\u00e9\\ud834\\udd1e\xe2\x82\xac\",true,false,null],\"b\":{}}";

        json_object_put(read_good(text));
        for (size_t n = 0; n < sizeof(text) - 1; n++) {
                struct json_object *value;
                int r = read_copy(text, n, &value, NULL);

                assert_true(r == JSON_READ_E_SYNTAX || r == JSON_READ_E_ENCODING);
        }
}

/* xorshift: the same values on every run. */
static uint64_t next_random(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static struct json_object *random_string(uint64_t *state) {
        static const char *const pieces[] = {
                "a", "\"", "\\", "\n", "\x01", "\x7f", "\xc3\xa9", "\xf0\x9d\x84\x9e", "/", "long piece"};
        char text[128] = "";
        size_t length = 0;

        for (uint64_t n = next_random(state) % 10; n > 0; n--)
                length += (size_t)snprintf(text + length, sizeof(text) - length, "%s",
                                           pieces[next_random(state) % ELEMENTS_OF(pieces)]);
        return json_object_new_string(text);
}

static struct json_object *random_double(uint64_t *state) {
        uint64_t bits = next_random(state);
        double value;

        memcpy(&value, &bits, sizeof(value));
        return json_object_new_double(isfinite(value) ? value : 0.5);
}

static struct json_object *random_value(uint64_t *state, unsigned depth) {
        struct json_object *value;

        switch (next_random(state) % (depth > 0 ? 8 : 6)) {
        case 0:
                return NULL;
        case 1:
                return json_object_new_boolean(next_random(state) & 1);
        case 2:
                return json_object_new_int64((int64_t)next_random(state) >> next_random(state) % 64);
        case 3:
                return random_double(state);
        case 4:
        case 5:
                return random_string(state);
        case 6:
                value = json_object_new_array();
                for (uint64_t n = next_random(state) % 6; n > 0; n--)
                        json_object_array_add(value, random_value(state, depth - 1));
                return value;
        default:
                value = json_object_new_object();
                for (uint64_t n = next_random(state) % 6; n > 0; n--) {
                        struct json_object *name = random_string(state);

                        json_object_object_add(value, json_object_get_string(name),
                                               random_value(state, depth - 1));
                        json_object_put(name);
                }
                return value;
        }
}

static void test_round_trip(_unused_ void **state) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1 << 24);
        uint64_t random = UINT64_C(0x5eed5eed5eed5eed);

        for (unsigned i = 0; i < 5000; i++) {
                struct json_object *value = random_value(&random, 5), *again = NULL;
                JsonWriter writer;

                json_writer_init(&writer, &buffer);
                json_write_json(&writer, NULL, value);
                assert_int_equal(json_writer_finish(&writer), 0);
                again = read_good_n(buffer.data + buffer.start, buffer_pending(&buffer));
                assert_true(json_object_equal(value, again));
                buffer_consume(&buffer, buffer_pending(&buffer));
                json_object_put(value);
                json_object_put(again);
        }
}

static void test_words(_unused_ void **state) {
        for (int error = JSON_READ_E_SYNTAX; error <= JSON_READ_E_SIZE; error++)
                assert_string_not_equal(json_read_strerror(error), "error");
        assert_string_equal(json_read_strerror(JSON_READ_E_SIZE + 1), "error");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_call),          cmocka_unit_test(test_integers),
                cmocka_unit_test(test_doubles),       cmocka_unit_test(test_double_in_any_locale),
                cmocka_unit_test(test_number_syntax), cmocka_unit_test(test_strings),
                cmocka_unit_test(test_encoding),      cmocka_unit_test(test_structure),
                cmocka_unit_test(test_duplicates),    cmocka_unit_test(test_scratch),
                cmocka_unit_test(test_depth),         cmocka_unit_test(test_size),
                cmocka_unit_test(test_long_string),   cmocka_unit_test(test_prefixes),
                cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
