/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Values against types. An absent member and null are the same thing, and only a nullable type takes them.
 * Nothing is allocated; the recursion follows the value, whose depth json-read has bounded. @field is the
 * innermost field around a value, for the caller to be told; an element counts as its array or map.
 */

#include "varlink/idl.h"

#include "varlink/idl-type.h"

static int check_value(const IdlType *type, struct json_object *value, const char *field,
                       const char **ret_field);

static int fail(int outcome, const char *field, const char **ret_field) {
        *ret_field = field;
        return outcome;
}

/* One of the required fields is known to be absent. */
static int fail_missing(const IdlType *type, struct json_object *object, const char **ret_field) {
        size_t i = 0;

        while (type->fields[i].type->kind == IDL_NULLABLE ||
               json_object_object_get_ex(object, type->fields[i].name, NULL))
                i++;

        return fail(IDL_E_MISSING_FIELD, type->fields[i].name, ret_field);
}

static int check_struct(const IdlType *type, struct json_object *object, const char **ret_field) {
        size_t n_required = 0;

        json_object_object_foreach(object, name, value) {
                const IdlField *field = idl_type_find_field(type, name);
                int r;

                if (!field)
                        return fail(IDL_E_UNKNOWN_FIELD, name, ret_field);

                r = check_value(field->type, value, field->name, ret_field);
                if (r != 0)
                        return r;
                if (field->type->kind != IDL_NULLABLE)
                        n_required++;
        }

        return n_required == type->n_required ? 0 : fail_missing(type, object, ret_field);
}

static int check_array(const IdlType *type, struct json_object *array, const char *field,
                       const char **ret_field) {
        size_t n = json_object_array_length(array);

        for (size_t i = 0; i < n; i++) {
                int r = check_value(type->element, json_object_array_get_idx(array, i), field, ret_field);

                if (r != 0)
                        return r;
        }

        return 0;
}

static int check_map(const IdlType *type, struct json_object *map, const char *field,
                     const char **ret_field) {
        json_object_object_foreach(map, name, value) {
                int r = check_value(type->element, value, field, ret_field);

                (void)name;
                if (r != 0)
                        return r;
        }

        return 0;
}

static bool has_json_type(const IdlType *type, enum json_type json_type) {
        switch (type->kind) {
        case IDL_BOOL:
                return json_type == json_type_boolean;
        case IDL_INT:
                return json_type == json_type_int;
        case IDL_FLOAT:
                return json_type == json_type_double || json_type == json_type_int;
        case IDL_STRING:
        case IDL_ENUM:
                return json_type == json_type_string;
        case IDL_OBJECT:
        case IDL_STRUCT:
        case IDL_MAP:
                return json_type == json_type_object;
        case IDL_ARRAY:
                return json_type == json_type_array;
        default:
                return true;
        }
}

static int check_value(const IdlType *type, struct json_object *value, const char *field,
                       const char **ret_field) {
        if (type->kind == IDL_NULLABLE) {
                if (!value)
                        return 0;
                type = type->element;
        }
        if (!value)
                return fail(IDL_E_MISSING_FIELD, field, ret_field);

        if (type->kind == IDL_NAMED)
                type = type->element; /* a struct or an enum */
        if (!has_json_type(type, json_object_get_type(value)))
                return fail(IDL_E_TYPE, field, ret_field);

        switch (type->kind) {
        case IDL_STRUCT:
                return check_struct(type, value, ret_field);
        case IDL_ENUM:
                if (!idl_type_find_field(type, json_object_get_string(value)))
                        return fail(IDL_E_TYPE, field, ret_field);
                return 0;
        case IDL_ARRAY:
                return check_array(type, value, field, ret_field);
        case IDL_MAP:
                return check_map(type, value, field, ret_field);
        default:
                return 0;
        }
}

int idl_check(_unused_ const Idl *idl, const IdlType *type, struct json_object *object,
              const char **ret_field) {
        if (!object && type->n_required > 0)
                return fail_missing(type, NULL, ret_field);
        if (!object)
                return 0;

        return check_value(type, object, "", ret_field);
}
