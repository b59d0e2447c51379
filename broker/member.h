/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Reads the members of one object of a state file. The first fault sticks, as in the JSON writer: whoever
 * reads asks for one member after the other, and once at the end whether all was good. Every getter has the
 * phrase that is the fault if the member is missing or is not what was asked for; it then returns zero or
 * NULL.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/cpuset.h"

typedef struct MemberReader {
        struct json_object *object;
        unsigned n_read;
        const char *fault; /* NULL: none so far */
} MemberReader;

/* @fault: that it is no object. */
void member_reader_init(MemberReader *reader, struct json_object *object, const char *fault);
/* The member of @outer that is an object itself. */
void member_reader_enter(MemberReader *outer, const char *name, const char *fault, MemberReader *ret_inner);
/* The first fault, or NULL. @other: the fault that there are members that nobody has asked for. */
const char *member_reader_finish(const MemberReader *reader, const char *other);
void member_require(MemberReader *reader, bool condition, const char *fault);

bool member_get_bool(MemberReader *reader, const char *name, const char *fault);
/* @min to @max. */
int64_t member_get_int(MemberReader *reader, const char *name, int64_t min, int64_t max, const char *fault);
/* A time, 0 or later; UINT64_MAX for null. */
uint64_t member_get_time(MemberReader *reader, const char *name, const char *fault);
/* Borrowed from the object. */
const char *member_get_string(MemberReader *reader, const char *name, const char *fault);
/* NULL for null, too. */
const char *member_get_optional_string(MemberReader *reader, const char *name, const char *fault);
/* A list of CPUs that is not empty. */
void member_get_cpus(MemberReader *reader, const char *name, const char *fault, CpuSet *ret_cpus);
/* False for null. */
bool member_get_optional_cpus(MemberReader *reader, const char *name, const char *fault, CpuSet *ret_cpus);
struct json_object *member_get_array(MemberReader *reader, const char *name, const char *fault);
