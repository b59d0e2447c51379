/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define UTF8_MAX 4U

/*
 * The length (1 to 4) of the well-formed UTF-8 sequence that @n bytes at @bytes begin with, or 0 where they
 * begin with none. Well-formed is what RFC 3629 says: no overlong form, no surrogate, nothing above U+10FFFF.
 */
size_t utf8_sequence(const char *bytes, size_t n);

/*
 * The length (1 to 3) of a character that the @n bytes of well-formed UTF-8 at @bytes begin with and that
 * must not reach a terminal, with its number; else 0. A terminal obeys C0, DEL and C1 (U+0080 to U+009F);
 * U+2028 to U+202E and U+2066 to U+2069 break lines or turn the direction of what follows.
 */
size_t utf8_unsafe(const char *bytes, size_t n, unsigned *ret_value);

/* Writes the character @value, at most U+10FFFF and no surrogate, to @buffer; returns its length (1 to 4). */
size_t utf8_encode(uint32_t value, char buffer[static UTF8_MAX]);
