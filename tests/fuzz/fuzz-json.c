/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The JSON reader on any bytes. What it accepts survives a trip through the writer, and json-c's own parser,
 * which is laxer, reads the same from it. And the writer makes a string of any bytes that the reader takes.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

#define OUTPUT_MAX (64U * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void read_back(const Buffer *buffer, struct json_object *expected) {
        _cleanup_(json_object_putp) struct json_object *value = NULL;

        require(json_read(buffer->data + buffer->start, buffer_pending(buffer), &value, NULL) == 0);
        require(json_object_equal(value, expected));
}

static void write_and_read(struct json_object *value) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(OUTPUT_MAX);
        JsonWriter writer;

        json_writer_init(&writer, &buffer);
        json_write_json(&writer, NULL, value);
        require(json_writer_finish(&writer) == 0);
        read_back(&buffer, value);
}

static void compare_with_json_c(const char *text, size_t size, struct json_object *expected) {
        _cleanup_(json_object_putp) struct json_object *value = NULL;
        struct json_tokener *tokener = json_tokener_new_ex((int)JSON_DEPTH_MAX + 1);

        require(tokener);
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        /* With the NUL, without which it waits for more of a number. */
        value = json_tokener_parse_ex(tokener, text, (int)size + 1);
        require(json_tokener_get_error(tokener) == json_tokener_success);
        /*
         * json-c 0.16 takes the character of a pair of surrogates for another surrogate if its low 16 bits
         * look like one: "\ud836\udd2e", U+1D92E, becomes U+FFFD.
         */
        require(strcasestr(text, "\\ud") || json_object_equal(value, expected));
        json_tokener_free(tokener);
}

static void write_string(const char *text, size_t size) {
        _cleanup_(json_object_putp) struct json_object *value = NULL;
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(OUTPUT_MAX);
        JsonWriter writer;

        json_writer_init(&writer, &buffer);
        json_write_string_n(&writer, NULL, text, size);
        require(json_writer_finish(&writer) == 0);
        require(json_read(buffer.data + buffer.start, buffer_pending(&buffer), &value, NULL) == 0);
        require(json_object_is_type(value, json_type_string));
        write_and_read(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_object_putp) struct json_object *value = NULL;
        _cleanup_(freep) char *text = malloc(size + 1);
        size_t offset = SIZE_MAX;
        int r;

        require(text);
        memcpy(text, data, size);
        text[size] = '\0';
        write_string(text, size);

        r = json_read((const char *)data, size, &value, &offset);
        require(r >= 0 && offset <= size);
        if (r > 0)
                return 0;

        require(offset == size);
        write_and_read(value);
        compare_with_json_c(text, size, value);
        return 0;
}
