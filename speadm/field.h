/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Members of a reply. Replies of a newer broker may hold more, so nothing is demanded of them: a member that
 * is absent, null or of another type than expected reads as its fallback.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL where there is none. */
const char *field_string(const struct json_object *object, const char *key);
int64_t field_int(const struct json_object *object, const char *key, int64_t fallback);
/* A number that is never below 0: sizes, counts. */
uint64_t field_unsigned(const struct json_object *object, const char *key);
bool field_bool(const struct json_object *object, const char *key);
/* True if there is a number. */
bool field_has_int(const struct json_object *object, const char *key);
/* NULL where there is none; both are borrowed. */
struct json_object *field_object(const struct json_object *object, const char *key);
struct json_object *field_array(const struct json_object *object, const char *key);
/* 0 for NULL. */
size_t array_length(const struct json_object *array);
