/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Words for people. Strings arrive as valid UTF-8 (the JSON reader refuses anything else). */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "speadm/text.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "varlink/utf8.h"

char *text_size(uint64_t bytes, char buffer[static TEXT_SIZE_MAX]) {
        static const char units[] = "BKMGTPE";
        unsigned shift = 0;
        uint64_t tenths;

        while (shift / 10 + 2 < sizeof units && bytes >> shift >= 1024)
                shift += 10;
        if (shift == 0) {
                (void)snprintf(buffer, TEXT_SIZE_MAX, "%uB", (unsigned)bytes);
                return buffer;
        }
        /* Rounded to the nearest tenth; in KiB from exbibytes on, so that times ten fits. */
        tenths = ((bytes >> (shift - 10)) * 10 + 512) >> 10;
        if (tenths >= 10240 && shift / 10 + 2 < sizeof units) {
                tenths = 10;
                shift += 10;
        }
        if (tenths % 10)
                (void)snprintf(buffer, TEXT_SIZE_MAX, "%u.%u%c", (unsigned)(tenths / 10),
                               (unsigned)(tenths % 10), units[shift / 10]);
        else
                (void)snprintf(buffer, TEXT_SIZE_MAX, "%u%c", (unsigned)(tenths / 10), units[shift / 10]);
        return buffer;
}

char *text_duration(uint64_t usec, char buffer[static TEXT_TIME_MAX]) {
        static const struct {
                const char *name;
                uint64_t usec;
        } units[] = {
                {"d", USEC_PER_DAY}, {"h", USEC_PER_HOUR},  {"m", USEC_PER_MIN},
                {"s", USEC_PER_SEC}, {"ms", USEC_PER_MSEC},
        };
        unsigned long long large, small;
        size_t i = 0;

        while (i + 1 < ELEMENTS_OF(units) && usec < units[i].usec)
                i++;
        large = usec / units[i].usec;
        small = i + 2 < ELEMENTS_OF(units) ? usec % units[i].usec / units[i + 1].usec : 0;
        if (small)
                (void)snprintf(buffer, TEXT_TIME_MAX, "%llu%s%llu%s", large, units[i].name, small,
                               units[i + 1].name);
        else
                (void)snprintf(buffer, TEXT_TIME_MAX, "%llu%s", large, units[i].name);
        return buffer;
}

char *text_time(int64_t usec, char buffer[static TEXT_TIME_MAX]) {
        time_t seconds = (time_t)(usec / (int64_t)USEC_PER_SEC);
        struct tm tm;

        if (!localtime_r(&seconds, &tm) || strftime(buffer, TEXT_TIME_MAX, "%Y-%m-%d %H:%M:%S", &tm) == 0)
                (void)snprintf(buffer, TEXT_TIME_MAX, "-");
        return buffer;
}

static bool is_clean(const char *text, size_t n) {
        unsigned code;

        for (size_t i = 0; i < n; i++)
                if (utf8_unsafe(text + i, n - i, &code) > 0)
                        return false;
        return true;
}

static int clean_string(struct json_object *string) {
        const char *text = json_object_get_string(string);
        size_t n = (size_t)json_object_get_string_len(string), size = 0;
        _cleanup_(freep) char *clean = NULL;
        FILE *file;
        int r;

        if (is_clean(text, n))
                return 0;
        file = open_memstream(&clean, &size);
        if (!file)
                return -ENOMEM;
        for (size_t i = 0; i < n;) {
                unsigned code;
                size_t length = utf8_unsafe(text + i, n - i, &code);

                if (length == 0)
                        fputc(text[i++], file);
                else /* as JSON spells it; libsmartcols would spell "\\x1b" out once more */
                        fprintf(file, "\\u%04x", code);
                i += length;
        }
        r = ferror(file);
        if (fclose(file) != 0 || r != 0)
                return -ENOMEM;
        return json_object_set_string_len(string, clean, (int)size) ? 0 : -ENOMEM;
}

/* Recursion is as deep as the JSON, which the reader bounds. */
int text_clean(struct json_object *value) { /* NOLINT(misc-no-recursion) */
        int r = 0;

        if (json_object_is_type(value, json_type_string))
                return clean_string(value);
        if (json_object_is_type(value, json_type_array))
                for (size_t i = 0; r == 0 && i < json_object_array_length(value); i++)
                        r = text_clean(json_object_array_get_idx(value, i));
        if (json_object_is_type(value, json_type_object)) {
                struct json_object_iterator i = json_object_iter_begin(value),
                                            end = json_object_iter_end(value);

                for (; r == 0 && !json_object_iter_equal(&i, &end); json_object_iter_next(&i))
                        r = text_clean(json_object_iter_peek_value(&i));
        }
        return r;
}

void text_write_quoted(FILE *file, const char *word) {
        static const char plain[] =
                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";

        if (*word && strspn(word, plain) == strlen(word)) {
                fputs(word, file);
                return;
        }
        fputc('\'', file);
        for (; *word; word++)
                if (*word == '\'')
                        fputs("'\\''", file);
                else
                        fputc(*word, file);
        fputc('\'', file);
}
