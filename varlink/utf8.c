/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * UTF-8, by the table of RFC 3629: the first byte says how many follow, and bounds the second one more
 * tightly than the others. That bound is what keeps overlong forms, surrogates and large values out.
 */

#include "varlink/utf8.h"

#include <stdbool.h>

static bool is_within(unsigned char c, unsigned char low, unsigned char high) {
        return c >= low && c <= high;
}

static bool is_tail(unsigned char c) {
        return is_within(c, 0x80, 0xbf);
}

size_t utf8_sequence(const char *bytes, size_t n) {
        const unsigned char *s = (const unsigned char *)bytes;
        unsigned char low = 0x80, high = 0xbf;

        if (n == 0)
                return 0;
        if (s[0] < 0x80)
                return 1;

        if (s[0] == 0xe0)
                low = 0xa0; /* below: overlong */
        else if (s[0] == 0xed)
                high = 0x9f; /* above: surrogates */
        else if (s[0] == 0xf0)
                low = 0x90; /* below: overlong */
        else if (s[0] == 0xf4)
                high = 0x8f; /* above: beyond U+10FFFF */

        if (n < 2 || !is_within(s[0], 0xc2, 0xf4) || !is_within(s[1], low, high))
                return 0;
        if (s[0] < 0xe0)
                return 2;
        if (n < 3 || !is_tail(s[2]))
                return 0;
        if (s[0] < 0xf0)
                return 3;
        if (n < 4 || !is_tail(s[3]))
                return 0;
        return 4;
}

size_t utf8_unsafe(const char *bytes, size_t n, unsigned *ret_value) {
        const unsigned char *s = (const unsigned char *)bytes;
        unsigned value;

        if (n >= 1 && (s[0] < 0x20 || s[0] == 0x7f)) {
                *ret_value = s[0];
                return 1;
        }
        if (n >= 2 && s[0] == 0xc2 && s[1] < 0xa0) {
                *ret_value = s[1];
                return 2;
        }
        if (n < 3 || s[0] != 0xe2)
                return 0;

        value = 0x2000U | (s[1] & 0x3fU) << 6 | (s[2] & 0x3fU);
        if (!(value >= 0x2028 && value <= 0x202e) && !(value >= 0x2066 && value <= 0x2069))
                return 0;

        *ret_value = value;
        return 3;
}

static char tail(uint32_t bits) {
        return (char)(0x80 | (bits & 0x3f));
}

size_t utf8_encode(uint32_t value, char buffer[static UTF8_MAX]) {
        if (value < 0x80) {
                buffer[0] = (char)value;
                return 1;
        }

        if (value < 0x800) {
                buffer[0] = (char)(0xc0 | value >> 6);
                buffer[1] = tail(value);
                return 2;
        }

        if (value < 0x10000) {
                buffer[0] = (char)(0xe0 | value >> 12);
                buffer[1] = tail(value >> 6);
                buffer[2] = tail(value);
                return 3;
        }

        buffer[0] = (char)(0xf0 | value >> 18);
        buffer[1] = tail(value >> 12);
        buffer[2] = tail(value >> 6);
        buffer[3] = tail(value);
        return 4;
}
