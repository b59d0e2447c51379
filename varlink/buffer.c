/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The growing buffer. Pending bytes are moved or storage is enlarged only if afterwards at least as many
 * bytes can be appended as are pending (or the limit is reached), so that appending n bytes costs O(n) in
 * sum.
 */

#include "varlink/buffer.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define SIZE_FIRST 512U

void buffer_deinit(Buffer *buffer) {
        free(buffer->data);
        *buffer = BUFFER_INIT(buffer->limit);
}

int buffer_reserve(Buffer *buffer, size_t n) {
        size_t pending = buffer_pending(buffer), size, wanted;
        char *data;

        if (n <= buffer->size - buffer->end)
                return 0;
        if (n > buffer->limit - pending)
                return -ENOBUFS;

        if (buffer->start > 0) {
                memmove(buffer->data, buffer->data + buffer->start, pending);
                buffer->start = 0;
                buffer->end = pending;
        }

        wanted = pending + (n > pending ? n : pending);
        if (wanted > buffer->limit)
                wanted = buffer->limit;
        if (wanted <= buffer->size)
                return 0;

        size = buffer->size > 0 ? buffer->size : SIZE_FIRST;
        while (size < wanted)
                size = size > buffer->limit / 2 ? buffer->limit : size * 2;
        if (size > buffer->limit)
                size = buffer->limit;

        data = realloc(buffer->data, size);
        if (!data)
                return -ENOMEM;

        buffer->data = data;
        buffer->size = size;
        return 0;
}

int buffer_append(Buffer *buffer, const void *data, size_t n) {
        int r;

        if (n == 0)
                return 0;

        r = buffer_reserve(buffer, n);
        if (r < 0)
                return r;

        memcpy(buffer->data + buffer->end, data, n);
        buffer->end += n;
        return 0;
}

int buffer_replace(Buffer *buffer, size_t at, size_t n, const void *data, size_t n_data) {
        size_t pending = buffer_pending(buffer);
        char *place;
        int r;

        assert(at <= pending && n <= pending - at);

        if (n_data > n) {
                r = buffer_reserve(buffer, n_data - n);
                if (r < 0)
                        return r;
        }
        if (pending == 0)
                return buffer_append(buffer, data, n_data);

        place = buffer->data + buffer->start + at;
        memmove(place + n_data, place + n, pending - at - n);
        if (n_data > 0)
                memcpy(place, data, n_data);
        buffer->end = buffer->end - n + n_data;
        return 0;
}

void buffer_consume(Buffer *buffer, size_t n) {
        assert(n <= buffer_pending(buffer));

        buffer->start += n;
        if (buffer->start < buffer->end)
                return;

        if (buffer->size > BUFFER_KEEP_MAX)
                buffer_deinit(buffer);
        else
                buffer->start = buffer->end = 0;
}
