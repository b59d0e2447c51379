/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Objects into structs. Strings and inner objects are borrowed, so whoever keeps the struct keeps the object.
 */

#include "libspebroker/fields.h"

#include <errno.h>

static json_type field_json_type(FieldKind kind) {
        switch (kind) {
        case FIELD_STRING:
                return json_type_string;
        case FIELD_INTEGER:
                return json_type_int;
        case FIELD_BOOL:
                return json_type_boolean;
        case FIELD_OBJECT:
                return json_type_object;
        case FIELD_ARRAY:
                break;
        }

        return json_type_array;
}

static int field_store(const Field *field, struct json_object *value, char *base) {
        void *target = base + field->offset;
        int64_t integer;

        switch (field->kind) {
        case FIELD_STRING:
                *(const char **)target = json_object_get_string(value);
                break;
        case FIELD_INTEGER:
                integer = json_object_get_int64(value);
                if (integer < field->min || integer > field->max)
                        return -EPROTO;
                *(int64_t *)target = integer;
                break;
        case FIELD_BOOL:
                *(bool *)target = json_object_get_boolean(value);
                break;
        case FIELD_OBJECT:
        case FIELD_ARRAY:
                *(struct json_object **)target = value;
                break;
        }

        return 0;
}

static void field_store_null(const Field *field, char *base) {
        void *target = base + field->offset;

        switch (field->kind) {
        case FIELD_STRING:
                *(const char **)target = NULL;
                break;
        case FIELD_INTEGER:
                *(int64_t *)target = -1;
                break;
        case FIELD_BOOL:
                *(bool *)target = false;
                break;
        case FIELD_OBJECT:
        case FIELD_ARRAY:
                *(struct json_object **)target = NULL;
                break;
        }
}

int fields_read(struct json_object *object, const Field *fields, size_t n_fields, void *ret_struct) {
        int r;

        if (!json_object_is_type(object, json_type_object))
                return -EPROTO;

        for (size_t i = 0; i < n_fields; i++) {
                struct json_object *value = json_object_object_get(object, fields[i].name);

                if (!value) {
                        if (!fields[i].nullable)
                                return -EPROTO;
                        field_store_null(&fields[i], ret_struct);
                        continue;
                }
                if (!json_object_is_type(value, field_json_type(fields[i].kind)))
                        return -EPROTO;

                r = field_store(&fields[i], value, ret_struct);
                if (r < 0)
                        return r;
        }

        return 0;
}
