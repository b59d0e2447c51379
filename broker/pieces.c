/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The elements stand in the reply's own buffer, so an array of which nothing has changed is not copied, and
 * its memory is charged like that of any reply; beside it there is an index, a tenth as large. Taking
 * elements out moves those behind them, all at once.
 *
 * Invariant: what is in the buffer between begin and end are the elements of all pieces with a size, in the
 * order of the pieces, with commas between them.
 */

#include "broker/pieces.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 64U

void pieces_init(Pieces *pieces, PiecesList *list, PieceWriteFn write) {
        *pieces = (Pieces){.write = write};
        LIST_INSERT_HEAD(list, pieces, link);
}

void pieces_deinit(Pieces *pieces) {
        LIST_REMOVE(pieces, link);
        free(pieces->items);
}

void pieces_array_begin(Pieces *pieces, JsonWriter *w, const char *key) {
        json_write_array_begin(w, key);
        pieces->begin = pieces->end = buffer_pending(w->buffer);
}

static Piece *append(Pieces *pieces, JsonWriter *w, uint64_t serial, const void *subject) {
        Piece *piece;

        assert(pieces->n == 0 || pieces->items[pieces->n - 1].serial < serial);

        if (pieces->n == pieces->room) {
                size_t room = pieces->room > 0 ? pieces->room * 2 : ROOM_FIRST;
                Piece *items = reallocarray(pieces->items, room, sizeof(*items));

                if (!items) {
                        w->error = -ENOMEM;
                        return NULL;
                }
                pieces->items = items;
                pieces->room = room;
        }

        piece = &pieces->items[pieces->n++];
        *piece = (Piece){.subject = subject, .serial = serial};
        return piece;
}

void pieces_add(Pieces *pieces, JsonWriter *w, uint64_t serial, const void *subject) {
        size_t before = buffer_pending(w->buffer), after;
        Piece *piece = append(pieces, w, serial, subject);

        if (!piece)
                return;

        pieces->write(w, subject);
        after = buffer_pending(w->buffer);
        if (after == before || w->error < 0)
                return;

        piece->offset = before + (before > pieces->begin); /* a comma */
        piece->size = after - piece->offset;
        pieces->end = after;
}

void pieces_array_end(_unused_ Pieces *pieces, JsonWriter *w) {
        json_write_array_end(w);
}

void pieces_add_late(Pieces *pieces, JsonWriter *w, uint64_t serial, const void *subject) {
        Piece *piece = append(pieces, w, serial, subject);

        if (piece)
                piece->stale = pieces->stale = true;
}

static Piece *find(const Pieces *pieces, uint64_t serial) {
        size_t low = 0, high = pieces->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (pieces->items[middle].serial < serial)
                        low = middle + 1;
                else
                        high = middle;
        }

        return low < pieces->n && pieces->items[low].serial == serial ? &pieces->items[low] : NULL;
}

void pieces_note_change(PiecesList *list, uint64_t serial) {
        Pieces *pieces;

        LIST_FOREACH(pieces, list, link) {
                Piece *piece = find(pieces, serial);

                if (piece)
                        piece->stale = pieces->stale = true;
        }
}

void pieces_note_end(PiecesList *list, uint64_t serial) {
        Pieces *pieces;

        LIST_FOREACH(pieces, list, link) {
                Piece *piece = find(pieces, serial);

                if (piece) {
                        piece->subject = NULL;
                        piece->stale = pieces->stale = true;
                }
        }
}

/* Leaves only what is still so; the end of that. */
static size_t drop_stale(const Pieces *pieces, Buffer *buffer) {
        char *data = buffer->data + buffer->start;
        size_t to = pieces->begin;

        for (size_t i = 0; i < pieces->n; i++) {
                const Piece *piece = &pieces->items[i];

                if (piece->stale || piece->size == 0)
                        continue;
                if (to > pieces->begin)
                        data[to++] = ','; /* there was one before this element */
                if (to != piece->offset)
                        memmove(data + to, data + piece->offset, piece->size);
                to += piece->size;
        }

        return to;
}

/* Those that are stale as they are now: the elements of an array, in its brackets. */
static int write_stale(const Pieces *pieces, Buffer *buffer) {
        JsonWriter w;

        json_writer_init(&w, buffer);
        json_write_array_begin(&w, NULL);
        for (size_t i = 0; i < pieces->n; i++)
                if (pieces->items[i].stale && pieces->items[i].subject)
                        pieces->write(&w, pieces->items[i].subject);
        json_write_array_end(&w);
        return json_writer_finish(&w);
}

void pieces_put_right(Pieces *pieces, JsonWriter *w) {
        _cleanup_(buffer_deinit) Buffer fresh = BUFFER_INIT(w->buffer->limit);
        size_t end, n;
        char *text;
        int r;

        if (!pieces->stale || w->error < 0)
                return;
        r = write_stale(pieces, &fresh);
        if (r < 0) {
                w->error = r;
                return;
        }

        end = drop_stale(pieces, w->buffer);
        text = fresh.data + fresh.start;
        n = buffer_pending(&fresh) - strlen("[]");
        if (n > 0 && end > pieces->begin)
                text[0] = ',', n++; /* in the place of its bracket */
        else
                text++;

        r = buffer_replace(w->buffer, end, pieces->end - end, text, n);
        if (r < 0)
                w->error = r;
}
