/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one grammar of JSON here: RFC 8259 to the letter, in one pass that checks the bytes and builds json-c
 * objects as it goes. json-c's own parser accepts much that the specification forbids and saturates numbers
 * silently, so it is never used on bytes from outside.
 *
 * Refused beyond syntax: invalid UTF-8, lone surrogates, NUL inside a string (raw or escaped), duplicate
 * members of an object, integers outside int64, numbers that overflow a double, nesting beyond
 * JSON_DEPTH_MAX, anything but white space after the value. A number without fraction and exponent becomes an
 * int, any other a double.
 *
 * An empty object is two bytes of text and hundreds of memory. So that memory stays in proportion, a text may
 * hold JSON_CONTAINERS_FREE objects and arrays, and one more for each JSON_CONTAINER_BYTES of its length:
 * several times what real messages need.
 */

#include <json-c/json.h>
#include <stddef.h>

#include "util/cleanup.h"

#define JSON_DEPTH_MAX       64U
#define JSON_CONTAINERS_FREE 1024U
#define JSON_CONTAINER_BYTES 16U

enum {
        _JSON_READ_E_SUCCESS,
        JSON_READ_E_SYNTAX,    /* not JSON, or bytes after the value */
        JSON_READ_E_ENCODING,  /* invalid UTF-8, lone surrogate, NUL in a string */
        JSON_READ_E_DUPLICATE, /* a member stands twice in one object */
        JSON_READ_E_RANGE,     /* an integer outside int64, or a double out of range */
        JSON_READ_E_DEPTH,     /* nested too deeply */
        JSON_READ_E_SIZE,      /* more objects and arrays than a text of this length may hold */
};

/*
 * Parses @n bytes. On success the caller owns *@ret_value (json_object_put(); NULL is JSON's null).
 * *@ret_offset, if given, is set for positive outcomes too: where the fault was seen.
 */
int json_read(const char *bytes, size_t n, struct json_object **ret_value, size_t *ret_offset);

/* A short phrase for a positive outcome, for logs: "invalid UTF-8". */
const char *json_read_strerror(int error);

_unused_ static inline void json_object_putp(struct json_object **object) {
        json_object_put(*object);
}
