/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Numbers as people and the kernel write them. strtoull() and friends are not used: they skip white space,
 * take signs, wrap "-1" around and depend on the locale. Syntax is judged over the whole text before range,
 * so that a text that is no number is never called one that is too large.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/parse.h"

#define PERCENT_MAX 100

static const struct {
        char suffix;
        unsigned shift;
} size_units[] = {
        {'T', 40},
        {'G', 30},
        {'M', 20},
        {'K', 10},
};

static const struct {
        const char *name;
        uint64_t usec;
} duration_units[] = {
        {"ms", USEC_PER_MSEC}, {"s", USEC_PER_SEC},  {"min", USEC_PER_MIN},
        {"m", USEC_PER_MIN},   {"h", USEC_PER_HOUR}, {"d", USEC_PER_DAY},
};

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

/* Reads the digits at *@text and moves it behind them. PARSE_E_RANGE still moves it, and *@ret_value is then
 * UINT64_MAX. */
static int read_digits(const char **text, uint64_t *ret_value) {
        const char *p = *text;
        uint64_t value = 0;
        bool overflow = false;

        if (!is_digit(*p))
                return PARSE_E_SYNTAX;
        for (; is_digit(*p); p++)
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
                        overflow = true;

        *text = p;
        *ret_value = overflow ? UINT64_MAX : value;
        return overflow ? PARSE_E_RANGE : 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret_value) {
        uint64_t value;
        int r;

        r = read_digits(&text, &value);
        if (r == PARSE_E_SYNTAX || *text != '\0')
                return PARSE_E_SYNTAX;
        if (r || value > max)
                return PARSE_E_RANGE;

        *ret_value = value;
        return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes) {
        unsigned shift = 0;
        uint64_t value;
        int r;

        r = read_digits(&text, &value);
        if (r == PARSE_E_SYNTAX)
                return r;
        for (size_t i = 0; i < ELEMENTS_OF(size_units); i++)
                if ((*text & ~0x20) == size_units[i].suffix) {
                        shift = size_units[i].shift;
                        text++;
                        break;
                }
        if (*text != '\0')
                return PARSE_E_SYNTAX;
        if (r || value > (uint64_t)INT64_MAX >> shift)
                return PARSE_E_RANGE;

        *ret_bytes = value << shift;
        return 0;
}

int parse_size_or_percent(const char *text, uint64_t *ret_value, bool *ret_percent) {
        const char *p = text;
        uint64_t value;
        int r;

        r = read_digits(&p, &value);
        if (r == PARSE_E_SYNTAX)
                return r;
        if (p[0] == '%' && p[1] == '\0') {
                if (value < 1 || value > PERCENT_MAX)
                        return PARSE_E_RANGE;
                *ret_value = value;
                *ret_percent = true;
                return 0;
        }

        r = parse_size(text, ret_value);
        if (r)
                return r;
        *ret_percent = false;
        return 0;
}

/* Reads a unit's name at *@text and moves it behind it; 0 if there is none. */
static uint64_t read_duration_unit(const char **text) {
        size_t n = strspn(*text, "abcdefghijklmnopqrstuvwxyz");

        for (size_t i = 0; i < ELEMENTS_OF(duration_units); i++)
                if (strlen(duration_units[i].name) == n && memcmp(*text, duration_units[i].name, n) == 0) {
                        *text += n;
                        return duration_units[i].usec;
                }
        return 0;
}

int parse_duration(const char *text, uint64_t *ret_usec) {
        uint64_t total = 0;
        bool overflow = false;

        for (bool first = true;; first = false) {
                uint64_t value, unit;
                int r;

                r = read_digits(&text, &value);
                if (r == PARSE_E_SYNTAX)
                        return r;
                /* A bare number means seconds, but only alone: "1h 30" is left to nobody's guess. */
                unit = first && *text == '\0' ? USEC_PER_SEC : read_duration_unit(&text);
                if (unit == 0)
                        return PARSE_E_SYNTAX;
                if (r || __builtin_mul_overflow(value, unit, &value) ||
                    __builtin_add_overflow(total, value, &total))
                        overflow = true;
                if (*text == '\0')
                        break;
                text += strspn(text, " ");
        }
        if (overflow || total > INT64_MAX)
                return PARSE_E_RANGE;

        *ret_usec = total;
        return 0;
}

int parse_bool(const char *text, bool *ret_value) {
        static const char *const yes[] = {"yes", "true", "on", "1"};
        static const char *const no[] = {"no", "false", "off", "0"};

        for (size_t i = 0; i < ELEMENTS_OF(yes); i++)
                if (strcasecmp(text, yes[i]) == 0) {
                        *ret_value = true;
                        return 0;
                }
        for (size_t i = 0; i < ELEMENTS_OF(no); i++)
                if (strcasecmp(text, no[i]) == 0) {
                        *ret_value = false;
                        return 0;
                }
        return PARSE_E_SYNTAX;
}

char *format_size(uint64_t bytes, char buffer[static FORMAT_SIZE_MAX]) {
        for (size_t i = 0; i < ELEMENTS_OF(size_units); i++) {
                uint64_t unit = UINT64_C(1) << size_units[i].shift;

                if (bytes > 0 && bytes % unit == 0) {
                        (void)snprintf(buffer, FORMAT_SIZE_MAX, "%" PRIu64 "%c", bytes / unit,
                                       size_units[i].suffix);
                        return buffer;
                }
        }

        (void)snprintf(buffer, FORMAT_SIZE_MAX, "%" PRIu64, bytes);
        return buffer;
}
