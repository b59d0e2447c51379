/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every reader of numbers on one text: what is accepted is in range, and reads back from its own text. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/buffer-size.h"
#include "util/cleanup.h"
#include "util/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void check_buffer_size(uint64_t size) {
        uint64_t floor = buffer_size_floor(size), power = buffer_size_floor_power_of_two(size);

        require(floor <= size && power <= floor);
        require((floor == 0) == (size < BUFFER_SIZE_MIN));
        if (floor == 0)
                return;
        require(buffer_size_is_representable(floor));
        require(buffer_size_decode(buffer_size_encode(floor)) == floor);
        require(buffer_size_is_representable(size) == (floor == size));
        require((power & (power - 1)) == 0 && (power == 0 || buffer_size_is_representable(power)));
}

static void check_size(const char *text) {
        char buffer[FORMAT_SIZE_MAX];
        uint64_t bytes, again;

        if (parse_size(text, &bytes))
                return;
        require(bytes <= INT64_MAX);
        require(parse_size(format_size(bytes, buffer), &again) == 0 && again == bytes);
        require(strlen(buffer) <= strlen(text) || text[0] == '0');
        check_buffer_size(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *text = malloc(size + 1);
        uint64_t value, max = size > 0 ? (uint64_t)data[0] << (data[0] % 57) : 0;
        bool percent, flag;

        if (!text)
                return 0;
        memcpy(text, data, size);
        text[size] = '\0';

        check_size(text);
        if (parse_u64(text, max, &value) == 0)
                require(value <= max && text[strspn(text, "0123456789")] == '\0');
        if (parse_size_or_percent(text, &value, &percent) == 0)
                require(percent ? value >= 1 && value <= 100 : value <= INT64_MAX);
        if (parse_duration(text, &value) == 0)
                require(value <= INT64_MAX);
        (void)parse_bool(text, &flag);
        return 0;
}
