/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Bytes on their way out (or in): one growing piece of memory with the pending bytes somewhere inside. An
 * idle connection has next to no storage: the first byte allocates, and a drained buffer that has grown gives
 * its storage back.
 */

#include <stddef.h>

#include "util/cleanup.h"

/* [start, end) of data is pending; start <= end <= size <= limit. The storage doubles, up to limit. */
typedef struct Buffer {
        char *data;
        size_t start;
        size_t end;
        size_t size;
        size_t limit;
} Buffer;

#define BUFFER_INIT(max) ((Buffer){.limit = (max)})

/* What a drained buffer may keep. */
#define BUFFER_KEEP_MAX 2048U

void buffer_deinit(Buffer *buffer);

static inline size_t buffer_pending(const Buffer *buffer) {
        return buffer->end - buffer->start;
}

/*
 * Room for @n more bytes at end; -ENOMEM, or -ENOBUFS beyond the limit of pending bytes. May move the pending
 * bytes to the front of the storage: positions are kept relative to start, never to data.
 */
int buffer_reserve(Buffer *buffer, size_t n);
int buffer_append(Buffer *buffer, const void *data, size_t n);
/* Puts @n_data bytes in the place of @n pending ones, from @at on; what is behind them moves. As
 * buffer_reserve() if there is no room, with nothing changed. */
int buffer_replace(Buffer *buffer, size_t at, size_t n, const void *data, size_t n_data);

/* @n bytes have been sent. An empty buffer gives its storage back if it has grown large. */
void buffer_consume(Buffer *buffer, size_t n);
