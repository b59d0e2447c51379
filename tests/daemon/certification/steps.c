/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The table of the certification's values, and what it means that two values are the same. */

#include "tests/daemon/certification/steps.h"

#include <stdlib.h>
#include <string.h>

#include "varlink/json-read.h"

#define FOUR_TYPES "{\"bool\":false,\"int\":2,\"float\":3.141592653589793,\"string\":\"a lot of string\"}"

const Step steps[STEP_END + 1] = {
        {"Start", "{}"},
        {"Test01", "{\"bool\":true}"},
        {"Test02", "{\"int\":1}"},
        {"Test03", "{\"float\":1.0}"},
        {"Test04", "{\"string\":\"ping\"}"},
        {"Test05", FOUR_TYPES},
        {"Test06", "{\"struct\":" FOUR_TYPES "}"},
        {"Test07", "{\"map\":{\"bar\":\"Bar\",\"foo\":\"Foo\"}}"},
        {"Test08", "{\"set\":{\"one\":{},\"two\":{},\"three\":{}}}"},
        {"Test09", "{\"mytype\":{"
                   "\"object\":{\"method\":\"org.varlink.certification.Test09\","
                   "\"parameters\":{\"map\":{\"foo\":\"Foo\",\"bar\":\"Bar\"}}},"
                   "\"enum\":\"two\",\"struct\":{\"first\":1,\"second\":\"2\"},"
                   "\"array\":[\"one\",\"two\",\"three\"],\"dictionary\":{\"foo\":\"Foo\",\"bar\":\"Bar\"},"
                   "\"stringset\":{\"one\":{},\"two\":{},\"three\":{}},"
                   "\"nullable\":null,\"nullable_array_struct\":null,"
                   "\"interface\":{\"foo\":[null,{\"Foo\":\"foo\",\"Bar\":\"bar\"},null,"
                   "{\"one\":\"foo\",\"two\":\"bar\"}],\"anon\":{\"foo\":true,\"bar\":false}}}}"},
        {"Test10", "{\"last_more_replies\":[\"Reply number 1\",\"Reply number 2\",\"Reply number 3\","
                   "\"Reply number 4\",\"Reply number 5\",\"Reply number 6\",\"Reply number 7\","
                   "\"Reply number 8\",\"Reply number 9\",\"Reply number 10\"]}"},
        {"Test11", "{}"},
        {"End", "{\"all_ok\":true}"},
};

struct json_object *step_gives(size_t step) {
        struct json_object *value = NULL;

        if (json_read(steps[step].gives, strlen(steps[step].gives), &value, NULL) != 0)
                abort();
        return value;
}

struct json_object *step_takes(size_t step) {
        return step > 0 ? step_gives(step - 1) : json_object_new_object();
}

static bool is_number(struct json_object *value) {
        return json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
}

static bool array_equal(struct json_object *a, struct json_object *b) {
        size_t n = json_object_array_length(a);

        if (n != json_object_array_length(b))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!value_equal(json_object_array_get_idx(a, i), json_object_array_get_idx(b, i)))
                        return false;
        return true;
}

/* Every member of @a that is not null is in @b with the same value. */
static bool members_equal(struct json_object *a, struct json_object *b) {
        json_object_object_foreach(a, key, value) {
                if (value && strcmp(key, "client_id") != 0 &&
                    !value_equal(value, json_object_object_get(b, key)))
                        return false;
        }
        return true;
}

bool value_equal(struct json_object *got, struct json_object *wanted) {
        if (is_number(got) && is_number(wanted))
                return json_object_get_double(got) == json_object_get_double(wanted);
        if (json_object_get_type(got) != json_object_get_type(wanted))
                return false;

        switch (json_object_get_type(got)) {
        case json_type_object:
                return members_equal(got, wanted) && members_equal(wanted, got);
        case json_type_array:
                return array_equal(got, wanted);
        default:
                return json_object_equal(got, wanted);
        }
}
