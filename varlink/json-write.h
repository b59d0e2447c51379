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

/* Bytes on their way out: [start, end) of data is pending. The storage doubles, up to limit. */
typedef struct Buffer {
        char *data;
        size_t start;
        size_t end;
        size_t size;
        size_t limit;
} Buffer;

#define BUFFER_INIT(max) ((Buffer){.limit = (max)})

void buffer_deinit(Buffer *buffer);
static inline size_t buffer_pending(const Buffer *buffer) {
        return buffer->end - buffer->start;
}
/* Room for @n more bytes at end; -ENOMEM, or -ENOBUFS beyond the limit. */
int buffer_reserve(Buffer *buffer, size_t n);
int buffer_append(Buffer *buffer, const void *data, size_t n);
/* @n bytes have been sent. An empty buffer gives its storage back if it has grown large. */
void buffer_consume(Buffer *buffer, size_t n);

#define JSON_WRITE_DEPTH_MAX 64U

typedef struct JsonWriter {
        Buffer *buffer;
        size_t begin; /* offset of the message's first byte, from buffer->data */
        unsigned depth;
        uint64_t has_members; /* bit per level: a comma is due */
        int error;
} JsonWriter;

/* Begins a message at the buffer's end. */
void json_writer_init(JsonWriter *writer, Buffer *buffer);
/* 0, or the sticky error, with every byte since init taken back. */
int json_writer_finish(JsonWriter *writer);

/* @key is NULL for an array's element and for the outermost value, else the member's name (ASCII, trusted).
 */
void json_write_object_begin(JsonWriter *writer, const char *key);
void json_write_object_end(JsonWriter *writer);
void json_write_array_begin(JsonWriter *writer, const char *key);
void json_write_array_end(JsonWriter *writer);
void json_write_null(JsonWriter *writer, const char *key);
void json_write_bool(JsonWriter *writer, const char *key, bool value);
void json_write_int(JsonWriter *writer, const char *key, int64_t value);
void json_write_double(JsonWriter *writer, const char *key,
                       double value); /* finite; shortest text that reads back equal */
/* Any bytes: quotes what must be; invalid UTF-8 (comm, say, is any bytes) becomes U+FFFD. NULL writes null.
 */
void json_write_string(JsonWriter *writer, const char *key, const char *value);
void json_write_string_n(JsonWriter *writer, const char *key, const char *value, size_t n);
/* A cpulist string. */
void json_write_cpuset(JsonWriter *writer, const char *key, const CpuSet *set);
struct json_object;
/* A json-c tree, as one value. */
void json_write_json(JsonWriter *writer, const char *key, struct json_object *value);
