/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/*
 * The length (1 to 4) of the well-formed UTF-8 sequence that @n bytes at @bytes begin with, or 0 where they
 * begin with none. Well-formed is what RFC 3629 says: no overlong form, no surrogate, nothing above U+10FFFF.
 */
size_t utf8_sequence(const char *bytes, size_t n);
