/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An array of a long reply that is written in parts, a turn each, and yet says what is so at one moment: that
 * of its end. What changes or goes after it was written is noted, and put right by the last part: nothing has
 * to be held back meanwhile, and what has not changed is written once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "varlink/json-write.h"

/* As many bytes as take some ten microseconds; and as many entries that are looked at, where few are said. */
#define PART_SIZE        (8U * 1024U)
#define PART_ENTRIES_MAX 256U

/* Writes @subject as an element, or nothing if it is not to be seen yet. */
typedef void (*PieceWriteFn)(JsonWriter *w, const void *subject);

/* What is known of one subject: where in the buffer its element is. */
typedef struct Piece {
        const void *subject; /* NULL: it is gone */
        uint64_t serial;     /* they come in this order */
        size_t offset;       /* from the first pending byte, without a comma */
        size_t size;         /* 0: nothing of it was written */
        bool stale;          /* it is another now */
} Piece;

typedef struct Pieces {
        LIST_ENTRY(Pieces) link;
        PieceWriteFn write;
        Piece *items;
        size_t n;
        size_t room;
        size_t begin; /* of the elements, in the buffer */
        size_t end;
        bool stale; /* some are, or are gone */
} Pieces;

/* All those that are being written of one kind of subjects. */
typedef LIST_HEAD(PiecesList, Pieces) PiecesList;

void pieces_init(Pieces *pieces, PiecesList *list, PieceWriteFn write);
void pieces_deinit(Pieces *pieces);

void pieces_array_begin(Pieces *pieces, JsonWriter *w, const char *key);
/* The next element. @serial is larger than all before. Without memory the error sticks to @w. */
void pieces_add(Pieces *pieces, JsonWriter *w, uint64_t serial, const void *subject);
void pieces_array_end(Pieces *pieces, JsonWriter *w);
/* One that came behind the array's end. */
void pieces_add_late(Pieces *pieces, JsonWriter *w, uint64_t serial, const void *subject);
/* Takes out what is gone, and writes anew what is stale, behind the others. What was written behind the array
 * moves. */
void pieces_put_right(Pieces *pieces, JsonWriter *w);

/* The subject with this serial is another one now; it is about to go. */
void pieces_note_change(PiecesList *list, uint64_t serial);
void pieces_note_end(PiecesList *list, uint64_t serial);
