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

/* Writes the character @value, at most U+10FFFF and no surrogate, to @buffer; returns its length (1 to 4). */
size_t utf8_encode(uint32_t value, char buffer[static UTF8_MAX]);
