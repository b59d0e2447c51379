/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Words for people: sizes, times, and texts that strangers wrote. VM and command names may hold anything, so
 * what a terminal would obey is spelled out ("\u001b") before it gets near one.
 */

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TEXT_SIZE_MAX 16U
#define TEXT_TIME_MAX 32U

/* "4M", "1.5G": one decimal at most, and none that is 0. Returns @buffer. */
char *text_size(uint64_t bytes, char buffer[static TEXT_SIZE_MAX]);
/* "2h5m", "1m30s", "8s", "250ms": the two largest units, in one word. Returns @buffer. */
char *text_duration(uint64_t usec, char buffer[static TEXT_TIME_MAX]);
/* A point in time as the local "2026-11-22 17:20:01". Returns @buffer. */
char *text_time(int64_t usec, char buffer[static TEXT_TIME_MAX]);

/*
 * Spells out, in every string below @value, what a terminal obeys: control characters, those of U+0080 to
 * U+009F too, and the marks that reorder or break lines. Returns 0 or -ENOMEM.
 */
int text_clean(struct json_object *value);

/* Writes @word so that a shell reads it back as one word. */
void text_write_quoted(FILE *file, const char *word);
