/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * JSON's tokens, to the letter of RFC 8259. Every function reads from next on, never at or beyond end. A
 * string without escapes is used where it lies; only others are copied, character by character, to the
 * scratch.
 */

#include "varlink/json-scan.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <string.h>

#include "varlink/json-read.h"
#include "varlink/utf8.h"

/* Numbers up to this length, with a NUL, are converted on the stack. */
#define DOUBLE_ON_STACK 64U

void json_scan_init(JsonScan *scan, const char *bytes, size_t n) {
        *scan = (JsonScan){
                .next = bytes,
                .end = bytes + n,
                .scratch = BUFFER_INIT(SIZE_MAX),
        };
}

void json_scan_deinit(JsonScan *scan) {
        buffer_deinit(&scan->scratch);
}

void json_scan_skip_space(JsonScan *scan) {
        while (scan->next < scan->end) {
                char c = *scan->next;

                if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
                        return;
                scan->next++;
        }
}

bool json_scan_take_word(JsonScan *scan, const char *word) {
        size_t n = strlen(word);

        if ((size_t)(scan->end - scan->next) < n || memcmp(scan->next, word, n) != 0)
                return false;

        scan->next += n;
        return true;
}

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

/* Checks characters that stand for themselves, up to a quote or a backslash. */
static int skip_characters(JsonScan *scan) {
        while (scan->next < scan->end) {
                unsigned char c = (unsigned char)*scan->next;

                if (c == '"' || c == '\\')
                        return 0;

                if (c >= 0x80) {
                        size_t n = utf8_sequence(scan->next, (size_t)(scan->end - scan->next));

                        if (n == 0)
                                return JSON_READ_E_ENCODING;
                        scan->next += n;
                } else if (c >= 0x20)
                        scan->next++;
                else
                        return c == 0 ? JSON_READ_E_ENCODING : JSON_READ_E_SYNTAX;
        }

        return JSON_READ_E_SYNTAX;
}

static int read_hex4(JsonScan *scan, uint32_t *ret_unit) {
        uint32_t unit = 0;

        for (unsigned i = 0; i < 4; i++) {
                char c = json_scan_peek(scan);

                if (is_digit(c))
                        unit = unit << 4 | (uint32_t)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        unit = unit << 4 | (uint32_t)(c - 'a' + 10);
                else if (c >= 'A' && c <= 'F')
                        unit = unit << 4 | (uint32_t)(c - 'A' + 10);
                else
                        return JSON_READ_E_SYNTAX;
                scan->next++;
        }

        *ret_unit = unit;
        return 0;
}

/* The character behind "\u": one UTF-16 unit, or a pair of surrogates. */
static int read_unicode_escape(JsonScan *scan, uint32_t *ret_value) {
        uint32_t unit, low;
        int r;

        r = read_hex4(scan, &unit);
        if (r != 0)
                return r;
        if (unit == 0)
                return JSON_READ_E_ENCODING;
        if (unit < 0xd800 || unit > 0xdfff) {
                *ret_value = unit;
                return 0;
        }

        if (unit > 0xdbff || !json_scan_take(scan, '\\') || !json_scan_take(scan, 'u'))
                return JSON_READ_E_ENCODING;
        r = read_hex4(scan, &low);
        if (r != 0)
                return r;
        if (low < 0xdc00 || low > 0xdfff)
                return JSON_READ_E_ENCODING;

        *ret_value = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return 0;
}

/* What stands behind a backslash, appended to the scratch. */
static int read_escape(JsonScan *scan) {
        static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        char c = json_scan_peek(scan), text[UTF8_MAX];
        const char *letter;
        uint32_t value;
        int r;

        if (json_scan_take(scan, 'u')) {
                r = read_unicode_escape(scan, &value);
                if (r != 0)
                        return r;
                return buffer_append(&scan->scratch, text, utf8_encode(value, text));
        }

        letter = c ? strchr(letters, c) : NULL;
        if (!letter)
                return JSON_READ_E_SYNTAX;
        scan->next++;
        return buffer_append(&scan->scratch, &meanings[letter - letters], 1);
}

int json_scan_string(JsonScan *scan, JsonText *ret_text) {
        const char *begin;
        int r;

        if (!json_scan_take(scan, '"'))
                return JSON_READ_E_SYNTAX;

        begin = scan->next;
        r = skip_characters(scan);
        if (r != 0)
                return r;
        if (json_scan_take(scan, '"')) {
                *ret_text = (JsonText){begin, (size_t)(scan->next - 1 - begin)};
                return 0;
        }

        buffer_consume(&scan->scratch, buffer_pending(&scan->scratch));
        for (;;) {
                r = buffer_append(&scan->scratch, begin, (size_t)(scan->next - begin));
                if (r < 0)
                        return r;
                if (json_scan_take(scan, '"'))
                        break;

                scan->next++; /* the backslash */
                r = read_escape(scan);
                if (r != 0)
                        return r;

                begin = scan->next;
                r = skip_characters(scan);
                if (r != 0)
                        return r;
        }

        *ret_text = (JsonText){scan->scratch.data + scan->scratch.start, buffer_pending(&scan->scratch)};
        return 0;
}

/* Converts checked text, whatever the program's locale makes of a point. */
static int convert_double(const char *text, size_t n, double *ret_value) {
        _cleanup_(freep) char *on_heap = NULL;
        char on_stack[DOUBLE_ON_STACK], *copy = on_stack;
        locale_t locale;

        if (n >= sizeof(on_stack)) {
                on_heap = malloc(n + 1);
                if (!on_heap)
                        return -ENOMEM;
                copy = on_heap;
        }
        memcpy(copy, text, n);
        copy[n] = '\0';

        locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (!locale)
                return -errno;
        *ret_value = strtod_l(copy, NULL, locale);
        freelocale(locale);

        return isfinite(*ret_value) ? 0 : JSON_READ_E_RANGE;
}

/* One digit or more. */
static int skip_digits(JsonScan *scan) {
        if (!is_digit(json_scan_peek(scan)))
                return JSON_READ_E_SYNTAX;

        while (is_digit(json_scan_peek(scan)))
                scan->next++;
        return 0;
}

/* Fraction and exponent; *@ret_any says whether there is one. */
static int skip_fraction(JsonScan *scan, bool *ret_any) {
        bool any = false;
        int r;

        if (json_scan_take(scan, '.')) {
                r = skip_digits(scan);
                if (r != 0)
                        return r;
                any = true;
        }

        if (json_scan_take(scan, 'e') || json_scan_take(scan, 'E')) {
                if (!json_scan_take(scan, '-'))
                        json_scan_take(scan, '+');
                r = skip_digits(scan);
                if (r != 0)
                        return r;
                any = true;
        }

        *ret_any = any;
        return 0;
}

static int read_double(JsonScan *scan, const char *begin, JsonNumber *ret_number) {
        double real = 0;
        int r;

        r = convert_double(begin, (size_t)(scan->next - begin), &real);
        if (r != 0) {
                scan->next = begin;
                return r;
        }

        *ret_number = (JsonNumber){.is_double = true, .real = real};
        return 0;
}

int json_scan_number(JsonScan *scan, JsonNumber *ret_number) {
        const char *begin = scan->next;
        bool negative = json_scan_take(scan, '-'), overflow = false, is_double;
        uint64_t magnitude = 0;
        int r;

        if (!is_digit(json_scan_peek(scan)))
                return JSON_READ_E_SYNTAX;
        if (!json_scan_take(scan, '0'))
                for (; is_digit(json_scan_peek(scan)); scan->next++)
                        overflow |=
                                __builtin_mul_overflow(magnitude, 10U, &magnitude) ||
                                __builtin_add_overflow(magnitude, (unsigned)(*scan->next - '0'), &magnitude);

        r = skip_fraction(scan, &is_double);
        if (r != 0)
                return r;
        if (is_double)
                return read_double(scan, begin, ret_number);

        if (overflow || magnitude > (uint64_t)INT64_MAX + negative) {
                scan->next = begin;
                return JSON_READ_E_RANGE;
        }

        *ret_number = (JsonNumber){.integer = (int64_t)(negative ? -magnitude : magnitude)};
        return 0;
}
