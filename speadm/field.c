/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Members of a reply, by name and type. */

#include "speadm/field.h"

static struct json_object *field(const struct json_object *object, const char *key, enum json_type type) {
        struct json_object *value;

        if (!json_object_is_type(object, json_type_object) ||
            !json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, type))
                return NULL;
        return value;
}

const char *field_string(const struct json_object *object, const char *key) {
        struct json_object *value = field(object, key, json_type_string);

        return value ? json_object_get_string(value) : NULL;
}

int64_t field_int(const struct json_object *object, const char *key, int64_t fallback) {
        struct json_object *value = field(object, key, json_type_int);

        return value ? json_object_get_int64(value) : fallback;
}

uint64_t field_unsigned(const struct json_object *object, const char *key) {
        int64_t value = field_int(object, key, 0);

        return value > 0 ? (uint64_t)value : 0;
}

bool field_bool(const struct json_object *object, const char *key) {
        struct json_object *value = field(object, key, json_type_boolean);

        return value && json_object_get_boolean(value);
}

bool field_has_int(const struct json_object *object, const char *key) {
        return field(object, key, json_type_int);
}

struct json_object *field_object(const struct json_object *object, const char *key) {
        return field(object, key, json_type_object);
}

struct json_object *field_array(const struct json_object *object, const char *key) {
        return field(object, key, json_type_array);
}

size_t array_length(const struct json_object *array) {
        return array ? json_object_array_length(array) : 0;
}
