/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The JSON reader: recursive descent over the scanner's tokens. A value is built only from bytes that have
 * been checked, and belongs to its parent as soon as it is whole, so that a fault anywhere leaves nothing
 * behind.
 */

#include "varlink/json-read.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "varlink/json-scan.h"

/* Names of members up to this length, with a NUL, are kept on the stack while their value is read. */
#define NAME_ON_STACK 40U
/* json-c's default of 32 would let "[]" cost 128 times its length. */
#define ARRAY_SLOTS 4

typedef struct Reader {
        JsonScan scan;
        unsigned depth;
        size_t containers_left;
} Reader;

static int read_value(Reader *reader, struct json_object **ret_value);

static int read_string(Reader *reader, struct json_object **ret_value) {
        struct json_object *value;
        JsonText text;
        int r;

        r = json_scan_string(&reader->scan, &text);
        if (r != 0)
                return r;
        if (text.n > INT_MAX)
                return JSON_READ_E_SIZE;

        value = json_object_new_string_len(text.bytes, (int)text.n);
        if (!value)
                return -ENOMEM;

        *ret_value = value;
        return 0;
}

static int read_number(Reader *reader, struct json_object **ret_value) {
        struct json_object *value;
        JsonNumber number;
        int r;

        r = json_scan_number(&reader->scan, &number);
        if (r != 0)
                return r;

        value = number.is_double ? json_object_new_double(number.real)
                                 : json_object_new_int64(number.integer);
        if (!value)
                return -ENOMEM;

        *ret_value = value;
        return 0;
}

/* true, false or null. Bytes that follow the word are the caller's syntax error. */
static int read_word(Reader *reader, struct json_object **ret_value) {
        struct json_object *value;
        bool is_true;

        if (json_scan_take_word(&reader->scan, "null")) {
                *ret_value = NULL;
                return 0;
        }

        is_true = json_scan_take_word(&reader->scan, "true");
        if (!is_true && !json_scan_take_word(&reader->scan, "false"))
                return JSON_READ_E_SYNTAX;

        value = json_object_new_boolean(is_true);
        if (!value)
                return -ENOMEM;

        *ret_value = value;
        return 0;
}

static int enter_container(Reader *reader) {
        if (reader->depth >= JSON_DEPTH_MAX)
                return JSON_READ_E_DEPTH;
        if (reader->containers_left == 0)
                return JSON_READ_E_SIZE;

        reader->depth++;
        reader->containers_left--;
        reader->scan.next++; /* the bracket */
        json_scan_skip_space(&reader->scan);
        return 0;
}

/* Behind an element: a comma (*@ret_more true), or the closing @bracket. */
static int read_separator(Reader *reader, char bracket, bool *ret_more) {
        bool more;

        json_scan_skip_space(&reader->scan);
        more = json_scan_take(&reader->scan, ',');
        if (!more && !json_scan_take(&reader->scan, bracket))
                return JSON_READ_E_SYNTAX;
        if (more)
                json_scan_skip_space(&reader->scan);

        *ret_more = more;
        return 0;
}

static int read_array(Reader *reader, struct json_object **ret_value) {
        _cleanup_(json_object_putp) struct json_object *array = NULL;
        bool more;
        int r;

        r = enter_container(reader);
        if (r != 0)
                return r;

        array = json_object_new_array_ext(ARRAY_SLOTS);
        if (!array)
                return -ENOMEM;

        more = !json_scan_take(&reader->scan, ']');
        while (more) {
                _cleanup_(json_object_putp) struct json_object *value = NULL;

                r = read_value(reader, &value);
                if (r != 0)
                        return r;
                if (json_object_array_add(array, value) < 0)
                        return -ENOMEM;
                value = NULL; /* the array's now */

                r = read_separator(reader, ']', &more);
                if (r != 0)
                        return r;
        }

        reader->depth--;
        *ret_value = steal_ptr(array);
        return 0;
}

/* Adds to @object the member whose name is next. The name outlives the scratch while its value is read. */
static int read_member(Reader *reader, struct json_object *object) {
        _cleanup_(json_object_putp) struct json_object *value = NULL;
        _cleanup_(freep) char *on_heap = NULL;
        char on_stack[NAME_ON_STACK], *name = on_stack;
        const char *begin = reader->scan.next;
        JsonText text;
        int r;

        r = json_scan_string(&reader->scan, &text);
        if (r != 0)
                return r;

        if (text.n >= sizeof(on_stack)) {
                on_heap = malloc(text.n + 1);
                if (!on_heap)
                        return -ENOMEM;
                name = on_heap;
        }
        memcpy(name, text.bytes, text.n);
        name[text.n] = '\0';

        if (json_object_object_get_ex(object, name, NULL)) {
                reader->scan.next = begin;
                return JSON_READ_E_DUPLICATE;
        }

        json_scan_skip_space(&reader->scan);
        if (!json_scan_take(&reader->scan, ':'))
                return JSON_READ_E_SYNTAX;
        json_scan_skip_space(&reader->scan);
        r = read_value(reader, &value);
        if (r != 0)
                return r;

        if (json_object_object_add_ex(object, name, value, JSON_C_OBJECT_ADD_KEY_IS_NEW) < 0)
                return -ENOMEM;
        value = NULL; /* the object's now */
        return 0;
}

static int read_object(Reader *reader, struct json_object **ret_value) {
        _cleanup_(json_object_putp) struct json_object *object = NULL;
        bool more;
        int r;

        r = enter_container(reader);
        if (r != 0)
                return r;

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;

        more = !json_scan_take(&reader->scan, '}');
        while (more) {
                r = read_member(reader, object);
                if (r != 0)
                        return r;
                r = read_separator(reader, '}', &more);
                if (r != 0)
                        return r;
        }

        reader->depth--;
        *ret_value = steal_ptr(object);
        return 0;
}

/* The recursion ends at JSON_DEPTH_MAX. */
static int read_value(Reader *reader, struct json_object **ret_value) {
        switch (json_scan_peek(&reader->scan)) {
        case '{':
                return read_object(reader, ret_value);
        case '[':
                return read_array(reader, ret_value);
        case '"':
                return read_string(reader, ret_value);
        case 't':
        case 'f':
        case 'n':
                return read_word(reader, ret_value);
        default:
                return read_number(reader, ret_value);
        }
}

int json_read(const char *bytes, size_t n, struct json_object **ret_value, size_t *ret_offset) {
        _cleanup_(json_object_putp) struct json_object *value = NULL;
        Reader reader = {.containers_left = JSON_CONTAINERS_FREE + n / JSON_CONTAINER_BYTES};
        JsonScan *scan = &reader.scan;
        int r;

        json_scan_init(scan, bytes, n);
        json_scan_skip_space(scan);
        r = read_value(&reader, &value);
        if (r == 0) {
                json_scan_skip_space(scan);
                if (scan->next < scan->end)
                        r = JSON_READ_E_SYNTAX;
        }
        json_scan_deinit(scan);

        if (r >= 0 && ret_offset)
                *ret_offset = (size_t)(scan->next - bytes);
        if (r != 0)
                return r;

        *ret_value = steal_ptr(value);
        return 0;
}

const char *json_read_strerror(int error) {
        switch (error) {
        case _JSON_READ_E_SUCCESS:
                return "success";
        case JSON_READ_E_SYNTAX:
                return "not JSON";
        case JSON_READ_E_ENCODING:
                return "invalid UTF-8, lone surrogate or NUL in a string";
        case JSON_READ_E_DUPLICATE:
                return "duplicate member";
        case JSON_READ_E_RANGE:
                return "number out of range";
        case JSON_READ_E_DEPTH:
                return "nested too deeply";
        case JSON_READ_E_SIZE:
                return "too many objects and arrays";
        default:
                return "error";
        }
}
