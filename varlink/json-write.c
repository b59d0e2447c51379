/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The JSON writer. Every value asks once for all the room that it, its name and its comma need, and then
 * writes through a bare pointer; only strings that need quoting ask again. Invariant: whatever the caller
 * passes, the bytes between begin and end are a prefix of valid JSON in valid UTF-8.
 */

#include "varlink/json-write.h"

#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "varlink/utf8.h"

#define INT64_TEXT_MAX  20U /* "-9223372036854775808" */
#define DOUBLE_TEXT_MAX 32U /* "-2.2250738585072014e-308", ".0" and a NUL */
#define ESCAPED_MAX     6U  /* "\u001f" */

#define REPLACEMENT_CHARACTER "\xef\xbf\xbd" /* U+FFFD */

void json_writer_init(JsonWriter *writer, Buffer *buffer) {
        *writer = (JsonWriter){
                .buffer = buffer,
                .begin = buffer_pending(buffer),
        };
}

int json_writer_finish(JsonWriter *writer) {
        if (writer->error < 0) {
                writer->buffer->end = writer->buffer->start + writer->begin;
                return writer->error;
        }

        assert(writer->depth == 0);
        return 0;
}

/* Room for @n bytes: where to write them, or NULL after an error. */
static char *writer_reserve(JsonWriter *writer, size_t n) {
        int r;

        if (writer->error < 0)
                return NULL;

        if (n > writer->buffer->size - writer->buffer->end) {
                r = buffer_reserve(writer->buffer, n);
                if (r < 0) {
                        writer->error = r;
                        return NULL;
                }
        }

        return writer->buffer->data + writer->buffer->end;
}

static void writer_commit(JsonWriter *writer, const char *end) {
        writer->buffer->end = (size_t)(end - writer->buffer->data);
}

static char *put(char *p, const char *text, size_t n) {
        memcpy(p, text, n);
        return p + n;
}

static uint64_t level_bit(const JsonWriter *writer) {
        return UINT64_C(1) << (writer->depth - 1);
}

/* The comma, if one is due. The outermost value stands alone. */
static char *put_comma(JsonWriter *writer, char *p) {
        if (writer->depth == 0)
                return p;

        if (writer->has_members & level_bit(writer))
                *p++ = ',';
        writer->has_members |= level_bit(writer);
        return p;
}

/* Writes what stands before a value, with room for @n bytes of it: where they go, or NULL after an error. */
static char *writer_begin_value(JsonWriter *writer, const char *key, size_t n) {
        size_t n_key = key ? strlen(key) : 0;
        char *p;

        p = writer_reserve(writer, strlen(",\"\":") + n_key + n);
        if (!p)
                return NULL;

        p = put_comma(writer, p);
        if (key) {
                *p++ = '"';
                p = put(p, key, n_key);
                *p++ = '"';
                *p++ = ':';
        }
        return p;
}

static void write_literal(JsonWriter *writer, const char *key, const char *text, size_t n) {
        char *p = writer_begin_value(writer, key, n);

        if (p)
                writer_commit(writer, put(p, text, n));
}

void json_write_written(JsonWriter *writer, const char *key, const Buffer *value) {
        write_literal(writer, key, value->data + value->start, buffer_pending(value));
}

static void write_begin(JsonWriter *writer, const char *key, char bracket) {
        if (writer->error >= 0 && writer->depth >= JSON_WRITE_DEPTH_MAX)
                writer->error = -EOVERFLOW;

        write_literal(writer, key, &bracket, 1);
        if (writer->error < 0)
                return;

        writer->depth++;
        writer->has_members &= ~level_bit(writer);
}

static void write_end(JsonWriter *writer, char bracket) {
        char *p = writer_reserve(writer, 1);

        if (!p)
                return;

        assert(writer->depth > 0);
        *p++ = bracket;
        writer_commit(writer, p);
        writer->depth--;
}

void json_write_object_begin(JsonWriter *writer, const char *key) {
        write_begin(writer, key, '{');
}

void json_write_object_end(JsonWriter *writer) {
        write_end(writer, '}');
}

void json_write_array_begin(JsonWriter *writer, const char *key) {
        write_begin(writer, key, '[');
}

void json_write_array_end(JsonWriter *writer) {
        write_end(writer, ']');
}

void json_write_null(JsonWriter *writer, const char *key) {
        write_literal(writer, key, "null", strlen("null"));
}

void json_write_bool(JsonWriter *writer, const char *key, bool value) {
        const char *text = value ? "true" : "false";

        write_literal(writer, key, text, strlen(text));
}

void json_write_int(JsonWriter *writer, const char *key, int64_t value) {
        uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
        char text[INT64_TEXT_MAX], *p = text + sizeof(text);

        do {
                *--p = (char)('0' + rest % 10);
                rest /= 10;
        } while (rest > 0);
        if (value < 0)
                *--p = '-';

        write_literal(writer, key, p, (size_t)(text + sizeof(text) - p));
}

/* Needs the C locale. 15 digits always survive a trip through text; 17 always suffice for one back. */
static size_t format_double(double value, char text[static DOUBLE_TEXT_MAX]) {
        size_t n = 0;

        for (int digits = 15; digits <= 17; digits++) {
                n = (size_t)snprintf(text, DOUBLE_TEXT_MAX, "%.*g", digits, value);
                if (strtod(text, NULL) == value)
                        break;
        }

        if (strcspn(text, ".e") == n)
                n = (size_t)(stpcpy(text + n, ".0") - text);
        return n;
}

void json_write_double(JsonWriter *writer, const char *key, double value) {
        char text[DOUBLE_TEXT_MAX];
        locale_t locale;
        size_t n;

        if (writer->error < 0)
                return;
        if (!isfinite(value)) {
                writer->error = -EDOM;
                return;
        }

        /* A program that links the library may have set a locale with a decimal comma. */
        locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (!locale) {
                writer->error = -errno;
                return;
        }
        locale_t previous = uselocale(locale);
        n = format_double(value, text);
        uselocale(previous);
        freelocale(locale);

        write_literal(writer, key, text, n);
}

/* True for the bytes that stand for themselves in a JSON string, whatever follows. */
static bool is_plain(unsigned char c) {
        return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/*
 * True if one of the eight bytes of @word is not plain; the arithmetic is done on all at once. A borrow or
 * carry between bytes only ever comes out of a byte that is not plain itself.
 */
static bool any_special(uint64_t word) {
        const uint64_t ones = UINT64_MAX / 0xff, high = ones * 0x80;
        const uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
        const uint64_t control = (word - ones * 0x20) & ~word;
        const uint64_t not_ascii = word | (word + ones); /* DEL, 0x7f, too */

        return (control | not_ascii | ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash)) & high;
}

static size_t plain_run(const char *text, size_t n) {
        size_t i = 0;

        for (uint64_t word; i + sizeof(word) <= n; i += sizeof(word)) {
                memcpy(&word, text + i, sizeof(word));
                if (any_special(word))
                        break;
        }
        while (i < n && is_plain((unsigned char)text[i]))
                i++;
        return i;
}

/* Writes one ASCII character that is not plain. */
static char *put_escaped(char *p, unsigned char c) {
        static const char hex[] = "0123456789abcdef";
        static const char letters[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
                                       ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};

        *p++ = '\\';
        if (c < sizeof(letters) && letters[c]) {
                *p++ = letters[c];
                return p;
        }

        p = put(p, "u00", 3);
        *p++ = hex[c >> 4];
        *p++ = hex[c & 0xf];
        return p;
}

/* Writes the first character of @text, which is not plain; returns the bytes of @text that it took. */
static size_t write_special(JsonWriter *writer, const char *text, size_t n) {
        unsigned char c = (unsigned char)text[0];
        size_t length = utf8_sequence(text, n);
        char *p = writer_reserve(writer, ESCAPED_MAX);

        if (!p)
                return n;

        if (length == 0 || c == 0) {
                p = put(p, REPLACEMENT_CHARACTER, strlen(REPLACEMENT_CHARACTER));
                length = 1;
        } else if (length == 1)
                p = put_escaped(p, c);
        else
                p = put(p, text, length);

        writer_commit(writer, p);
        return length;
}

/* Writes a string after whatever stands before it; the room for its first quote must be there. */
static void write_quoted(JsonWriter *writer, char *p, const char *text, size_t n) {
        *p++ = '"';
        writer_commit(writer, p);

        for (;;) {
                size_t run = plain_run(text, n);

                p = writer_reserve(writer, run + 1);
                if (!p)
                        return;
                p = put(p, text, run);
                text += run;
                n -= run;

                if (n == 0)
                        break;
                writer_commit(writer, p);

                size_t taken = write_special(writer, text, n);
                text += taken;
                n -= taken;
        }

        *p++ = '"';
        writer_commit(writer, p);
}

void json_write_string_n(JsonWriter *writer, const char *key, const char *value, size_t n) {
        char *p;

        if (!value) {
                json_write_null(writer, key);
                return;
        }

        p = writer_begin_value(writer, key, strlen("\"\""));
        if (p)
                write_quoted(writer, p, value, n);
}

void json_write_string(JsonWriter *writer, const char *key, const char *value) {
        json_write_string_n(writer, key, value, value ? strlen(value) : 0);
}

void json_write_cpuset(JsonWriter *writer, const char *key, const CpuSet *set) {
        char text[CPUSET_TEXT_MAX];

        json_write_string_n(writer, key, text, cpuset_format(set, text, sizeof(text)));
}

/* A member's name that may be any bytes. Its value follows after the colon, and no comma is due before it. */
static void write_name(JsonWriter *writer, const char *name) {
        char *p;

        json_write_string(writer, NULL, name);
        p = writer_reserve(writer, 1);
        if (!p)
                return;

        *p++ = ':';
        writer_commit(writer, p);
        writer->has_members &= ~level_bit(writer);
}

void json_write_member(JsonWriter *writer, const char *name, struct json_object *value) {
        if (writer->error < 0)
                return;

        write_name(writer, name);
        json_write_json(writer, NULL, value);
}

void json_write_members(JsonWriter *writer, struct json_object *object) {
        json_object_object_foreach(object, name, value) json_write_member(writer, name, value);
}

static void write_json_object(JsonWriter *writer, const char *key, struct json_object *object) {
        json_write_object_begin(writer, key);
        json_write_members(writer, object);
        json_write_object_end(writer);
}

static void write_json_array(JsonWriter *writer, const char *key, struct json_object *array) {
        size_t n = json_object_array_length(array);

        json_write_array_begin(writer, key);
        for (size_t i = 0; i < n && writer->error >= 0; i++)
                json_write_json(writer, NULL, json_object_array_get_idx(array, i));
        json_write_array_end(writer);
}

/* The recursion ends at JSON_WRITE_DEPTH_MAX, beyond which the error stops it. */
void json_write_json(JsonWriter *writer, const char *key, struct json_object *value) {
        switch (json_object_get_type(value)) {
        case json_type_null:
                json_write_null(writer, key);
                break;
        case json_type_boolean:
                json_write_bool(writer, key, json_object_get_boolean(value));
                break;
        case json_type_int:
                json_write_int(writer, key, json_object_get_int64(value));
                break;
        case json_type_double:
                json_write_double(writer, key, json_object_get_double(value));
                break;
        case json_type_string:
                json_write_string_n(writer, key, json_object_get_string(value),
                                    (size_t)json_object_get_string_len(value));
                break;
        case json_type_object:
                write_json_object(writer, key, value);
                break;
        case json_type_array:
                write_json_array(writer, key, value);
                break;
        }
}
