/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The scanner below json-read: white space, punctuation, strings, numbers and words of JSON, checked and
 * converted, without a tree. Its outcomes are json-read's, and on a fault next stands at it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varlink/buffer.h"

typedef struct JsonScan {
        const char *next; /* what is to be read */
        const char *end;
        Buffer scratch; /* for strings that cannot be used in place */
} JsonScan;

/* Checked text without NUL, in place or in the scratch: good until the next string is read. */
typedef struct JsonText {
        const char *bytes;
        size_t n;
} JsonText;

typedef struct JsonNumber {
        bool is_double;
        int64_t integer;
        double real;
} JsonNumber;

void json_scan_init(JsonScan *scan, const char *bytes, size_t n);
void json_scan_deinit(JsonScan *scan);

/* The next byte; NUL at the end, which no rule accepts anywhere. */
static inline char json_scan_peek(const JsonScan *scan) {
        return scan->next < scan->end ? *scan->next : '\0';
}

/* Takes @c (not NUL) if it is next. */
static inline bool json_scan_take(JsonScan *scan, char c) {
        if (json_scan_peek(scan) != c)
                return false;

        scan->next++;
        return true;
}

void json_scan_skip_space(JsonScan *scan);
bool json_scan_take_word(JsonScan *scan, const char *word);
int json_scan_string(JsonScan *scan, JsonText *ret_text);
int json_scan_number(JsonScan *scan, JsonNumber *ret_number);
