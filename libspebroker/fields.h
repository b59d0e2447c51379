/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Reads the members of an object that the broker sent into a struct, by a table. The broker is another
 * program of another version: what a VMM will hand to the kernel is checked here, once, and what is not known
 * here is passed over.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum FieldKind {
        FIELD_STRING,  /* const char *, which belongs to the object; NULL for null */
        FIELD_INTEGER, /* int64_t from min to max; -1 for null */
        FIELD_BOOL,    /* bool */
        FIELD_OBJECT,  /* struct json_object *, which belongs to the object; NULL for null */
        FIELD_ARRAY,   /* likewise */
} FieldKind;

typedef struct Field {
        const char *name;
        size_t offset; /* of the member of the struct */
        int64_t min;
        int64_t max;
        FieldKind kind;
        bool nullable;
} Field;

#define FIELD(key, what, type, member) \
        { .name = (key), .kind = (what), .offset = offsetof(type, member) }
#define FIELD_OR_NULL(key, what, type, member) \
        { .name = (key), .kind = (what), .offset = offsetof(type, member), .nullable = true }
#define FIELD_RANGE(key, type, member, least, most)                                                     \
        {                                                                                               \
                .name = (key), .kind = FIELD_INTEGER, .offset = offsetof(type, member), .min = (least), \
                .max = (most)                                                                           \
        }
#define FIELD_RANGE_OR_NULL(key, type, member, least, most)                                             \
        {                                                                                               \
                .name = (key), .kind = FIELD_INTEGER, .offset = offsetof(type, member), .min = (least), \
                .max = (most), .nullable = true                                                         \
        }

/* -EPROTO if a member that is needed is not there, or one has another type or is out of range. */
int fields_read(struct json_object *object, const Field *fields, size_t n_fields, void *ret_struct);
