/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Members of state files. Types are exact: a number is not its text, and 1.0 is not 1. Nothing has a default,
 * so that a text says all that is believed of it.
 */

#include "broker/member.h"

#include <stddef.h>
#include <string.h>

void member_require(MemberReader *reader, bool condition, const char *fault) {
        if (!condition && !reader->fault)
                reader->fault = fault;
}

void member_reader_init(MemberReader *reader, struct json_object *object, const char *fault) {
        *reader = (MemberReader){.object = object};
        member_require(reader, json_object_is_type(object, json_type_object), fault);
}

/* The member @name if it is of @type; JSON's null is json_type_null. */
static bool find(MemberReader *reader, const char *name, enum json_type type,
                 struct json_object **ret_value) {
        struct json_object *value;

        if (reader->fault || !json_object_object_get_ex(reader->object, name, &value) ||
            !json_object_is_type(value, type))
                return false;

        reader->n_read++;
        *ret_value = value;
        return true;
}

static bool is_null(MemberReader *reader, const char *name) {
        struct json_object *value;

        return find(reader, name, json_type_null, &value);
}

/* As find(); what is missing is a fault. */
static bool get(MemberReader *reader, const char *name, enum json_type type, const char *fault,
                struct json_object **ret_value) {
        bool there = find(reader, name, type, ret_value);

        member_require(reader, there, fault);
        return there;
}

void member_reader_enter(MemberReader *outer, const char *name, const char *fault, MemberReader *ret_inner) {
        struct json_object *value = NULL;

        *ret_inner = (MemberReader){0};
        if (get(outer, name, json_type_object, fault, &value))
                ret_inner->object = value;
        else
                ret_inner->fault = outer->fault;
}

const char *member_reader_finish(const MemberReader *reader, const char *other) {
        if (reader->fault)
                return reader->fault;

        return (unsigned)json_object_object_length(reader->object) == reader->n_read ? NULL : other;
}

bool member_get_bool(MemberReader *reader, const char *name, const char *fault) {
        struct json_object *value;

        return get(reader, name, json_type_boolean, fault, &value) && json_object_get_boolean(value);
}

int64_t member_get_int(MemberReader *reader, const char *name, int64_t min, int64_t max, const char *fault) {
        struct json_object *value;
        int64_t number;

        if (!get(reader, name, json_type_int, fault, &value))
                return 0;

        number = json_object_get_int64(value);
        member_require(reader, number >= min && number <= max, fault);
        return reader->fault ? 0 : number;
}

uint64_t member_get_time(MemberReader *reader, const char *name, const char *fault) {
        if (is_null(reader, name))
                return UINT64_MAX;

        return (uint64_t)member_get_int(reader, name, 0, INT64_MAX, fault);
}

const char *member_get_string(MemberReader *reader, const char *name, const char *fault) {
        struct json_object *value;

        return get(reader, name, json_type_string, fault, &value) ? json_object_get_string(value) : NULL;
}

const char *member_get_optional_string(MemberReader *reader, const char *name, const char *fault) {
        return is_null(reader, name) ? NULL : member_get_string(reader, name, fault);
}

void member_get_cpus(MemberReader *reader, const char *name, const char *fault, CpuSet *ret_cpus) {
        const char *text = member_get_string(reader, name, fault);
        CpuSet cpus;

        *ret_cpus = CPUSET_NULL;
        if (!text)
                return;
        if (cpuset_parse(text, strlen(text), &cpus) == 0 && !cpuset_is_empty(&cpus))
                *ret_cpus = cpus;
        else
                member_require(reader, false, fault);
}

bool member_get_optional_cpus(MemberReader *reader, const char *name, const char *fault, CpuSet *ret_cpus) {
        if (is_null(reader, name)) {
                *ret_cpus = CPUSET_NULL;
                return false;
        }

        member_get_cpus(reader, name, fault, ret_cpus);
        return !reader->fault;
}

struct json_object *member_get_array(MemberReader *reader, const char *name, const char *fault) {
        struct json_object *value;

        return get(reader, name, json_type_array, fault, &value) ? value : NULL;
}
