/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Appends JSON text to a growing buffer. No tree is built: an encoder writes a reply straight into the
 * connection's buffer. The first error sticks (out of memory, or beyond the buffer's limit), everything after
 * it is ignored, and the one check is json_writer_finish(), which then takes the buffer back to where the
 * message began. Commas and quoting are the writer's business; nesting balanced is the caller's (asserted).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/cpuset.h"
#include "varlink/buffer.h"

struct json_object;

#define JSON_WRITE_DEPTH_MAX 64U

typedef struct JsonWriter {
        Buffer *buffer;
        size_t begin; /* where the message begins: bytes that were pending in the buffer before it */
        unsigned depth;
        uint64_t has_members; /* bit per level: a comma is due */
        int error;
} JsonWriter;

/* Begins a message at the buffer's end. Nothing may be consumed from the buffer until finish. */
void json_writer_init(JsonWriter *writer, Buffer *buffer);
/*
 * 0, or the sticky error, with every byte since init taken back: -ENOMEM, -ENOBUFS (the buffer's limit),
 * -EOVERFLOW (nested beyond JSON_WRITE_DEPTH_MAX), -EDOM (a double that is not finite).
 */
int json_writer_finish(JsonWriter *writer);

/*
 * @key is NULL for an array's element and for the outermost value, else the member's name (ASCII, trusted).
 */
void json_write_object_begin(JsonWriter *writer, const char *key);
void json_write_object_end(JsonWriter *writer);
void json_write_array_begin(JsonWriter *writer, const char *key);
void json_write_array_end(JsonWriter *writer);
void json_write_null(JsonWriter *writer, const char *key);
void json_write_bool(JsonWriter *writer, const char *key, bool value);
void json_write_int(JsonWriter *writer, const char *key, int64_t value);
/* Finite; the shortest text that reads back equal, and still reads as a double ("2.0"). */
void json_write_double(JsonWriter *writer, const char *key, double value);
/*
 * Any bytes: quotes what must be, and DEL, which sd-varlink refuses raw. Invalid UTF-8 (comm, say, is any
 * bytes) becomes U+FFFD, one per byte; so does NUL, which no peer accepts. A NULL @value writes null.
 */
void json_write_string(JsonWriter *writer, const char *key, const char *value);
void json_write_string_n(JsonWriter *writer, const char *key, const char *value, size_t n);
/* A cpulist string. */
void json_write_cpuset(JsonWriter *writer, const char *key, const CpuSet *set);
/* A value that another writer has written. */
void json_write_written(JsonWriter *writer, const char *key, const Buffer *value);
/* A json-c tree, as one value. Its strings and names may be any bytes, as above. */
void json_write_json(JsonWriter *writer, const char *key, struct json_object *value);
/* The same, as a member of the object that is being written whose name may be any bytes. */
void json_write_member(JsonWriter *writer, const char *name, struct json_object *value);
/* All members of a json-c object. */
void json_write_members(JsonWriter *writer, struct json_object *object);
