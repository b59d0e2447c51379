/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Tables of assignments, and texts of their files. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "broker/assignment-record.h"
#include "policy/assignment.h"
#include "tests/unit/seal.h"
#include "util/cleanup.h"

#define BOOT "0123456789abcdef0123456789abcdef"

#define FILE_OF(list) "{\"version\":1,\"bootId\":\"" BOOT "\",\"assignments\":" list "}"
#define ENTRY(c, o, v, g, u) \
        "{\"cpus\":" c ",\"owner\":" o ",\"vm\":" v ",\"origin\":" g ",\"untilUSec\":" u "}"
#define GOOD(c) ENTRY(c, "\"any\"", "\"a\"", "\"persistent\"", "5")

_unused_ static CpuSet cpus_of(const char *text) {
        CpuSet cpus;

        assert_int_equal(cpuset_parse(text, strlen(text), &cpus), 0);
        return cpus;
}

_unused_ static void set(AssignmentTable *table, const char *text, AssignmentOwner owner, const char *vm,
                         AssignmentOrigin origin, uint64_t until_usec) {
        CpuSet cpus = cpus_of(text);

        assert_int_equal(assignment_table_set(table, &cpus, owner, vm, origin, until_usec), 0);
}

_unused_ static void assert_entry(const AssignmentTable *table, size_t i, const char *text,
                                  AssignmentOwner owner, const char *vm, AssignmentOrigin origin,
                                  uint64_t until_usec) {
        const Assignment *a = table->entries[i];
        CpuSet cpus = cpus_of(text);

        assert_true(cpuset_equal(&a->cpus, &cpus));
        assert_int_equal(a->owner, owner);
        assert_int_equal(a->origin, origin);
        assert_int_equal(a->until_usec, until_usec);
        if (vm)
                assert_string_equal(a->vm, vm);
        else
                assert_null(a->vm);
}

_unused_ static bool same_head(const AssignmentHead *a, const AssignmentHead *b) {
        return strcmp(a->id, b->id) == 0 && strcmp(a->unassigned_id, b->unassigned_id) == 0 &&
               cpuset_equal(&a->unassigned, &b->unassigned);
}

_unused_ static const char *text_of(struct json_object *object) {
        return json_object_to_json_string_ext(object,
                                              JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static void copy_member(struct json_object *to, struct json_object *from, const char *name) {
        struct json_object *value;

        if (json_object_object_get_ex(from, name, &value))
                json_object_object_add(to, name, json_object_get(value));
}

/* The sum of what @root says, as broker/assignment-record.h has it. */
_unused_ static void sum_of(struct json_object *root, char ret_digits[static SEAL_SIZE]) {
        static const char *const members[] = {"cpus", "owner", "vm", "origin", "untilUSec"};
        struct json_object *list = json_object_object_get(root, "assignments");
        struct json_object *summed = json_object_new_object(), *elements = json_object_new_array();

        copy_member(summed, root, "bootId");
        copy_member(summed, root, "id");
        copy_member(summed, root, "unassigned");
        json_object_object_add(summed, "assignments", elements);
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *element = json_object_new_object();

                for (size_t j = 0; j < ELEMENTS_OF(members); j++)
                        copy_member(element, json_object_array_get_idx(list, i), members[j]);
                json_object_array_add(elements, element);
        }

        seal(text_of(summed), ret_digits);
        json_object_put(summed);
}
