/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A file's bytes through libini-config. The library is made for files that mean well, so one look at the
 * lines comes first and refuses what it does not survive or tells nothing of: NUL bytes (it cuts the line),
 * more sections than its quadratic merging can bear, names with characters that it refuses without a line. It
 * also looks names up without regard to case: two sections that differ only in case would silently become
 * one, so they are refused here. The same look remembers where each section begins, which the library does
 * not.
 *
 * Nor does it survive that there is no memory for it: what it will need is asked for first. In a process of
 * one thread, what was there a moment ago is there for it.
 *
 * Only its first and last value of a key are asked for: the walk from one value to the next never ends where
 * keys differ in case.
 */

#include <errno.h>
#include <ini_configobj.h>
#include <ini_valueobj.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#include "broker/config-file.h"
#include "util/error.h"

#define COLLISIONS  (INI_MV1S_ALLOW | INI_MV2S_ALLOW | INI_MS_MERGE)
#define PARSE_FLAGS (INI_PARSE_NOWRAP | INI_PARSE_NO_C_COMMENTS)

#define UTF8_BOM "\xef\xbb\xbf"

/* Memory that the library takes at most, as measured: for each line, be it empty, for each byte, and at all.
 */
#define NEEDED_PER_LINE 1024U
#define NEEDED_PER_BYTE 8U
#define NEEDED          (2U << 20)

/* "[name]" as it stands in the file's bytes. */
typedef struct Heading {
        const char *name;
        size_t n;
        unsigned line;
} Heading;

typedef struct Headings {
        Heading *entries;
        size_t n;
        size_t n_entries;
        unsigned orphan_line; /* of a key before the first section, or 0 */
        unsigned n_lines;
} Headings;

typedef struct Parser {
        const char *file;
        const ConfigFileSink *sink;
        ConfigFault *fault;
        struct ini_cfgobj *ini;
        Headings headings;
} Parser;

int config_fault_set(ConfigFault *fault, const char *file, unsigned line, const char *format, ...) {
        ConfigFault fresh = {.line = line};
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&fresh.message, format, ap);
        va_end(ap);
        if (n < 0)
                return -ENOMEM;
        fresh.file = strdup(file);
        if (!fresh.file) {
                free(fresh.message);
                return -ENOMEM;
        }

        config_fault_deinit(fault);
        *fault = fresh;
        return CONFIG_E_INVALID;
}

void config_fault_deinit(ConfigFault *fault) {
        free(fault->file);
        free(fault->message);
        *fault = CONFIG_FAULT_NULL;
}

static void warn(const Parser *parser, unsigned line, const char *message) {
        if (parser->sink->warn)
                parser->sink->warn(parser->file, line, message, parser->sink->warn_userdata);
}

/* libini-config's names: printable ASCII without '!'. It trims blanks around them. */
static bool name_is_valid(const char *name, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (name[i] < ' ' || name[i] > '~' || name[i] == '!')
                        return false;
        return true;
}

static void trim(const char **text, size_t *n) {
        while (*n > 0 && ((*text)[0] == ' ' || (*text)[0] == '\t'))
                (*text)++, (*n)--;
        while (*n > 0 && ((*text)[*n - 1] == ' ' || (*text)[*n - 1] == '\t'))
                (*n)--;
}

/* As the library compares: without regard to case. */
static bool heading_is_like(const Heading *heading, const char *name, size_t n) {
        return n > 0 && heading->n == n && strncasecmp(heading->name, name, n) == 0;
}

static int count_entry(Parser *parser, unsigned line) {
        if (++parser->headings.n_entries > CONFIG_ENTRIES_MAX)
                return config_fault_set(parser->fault, parser->file, line, "more than %u keys",
                                        CONFIG_ENTRIES_MAX);
        return 0;
}

static int add_heading(Parser *parser, const char *text, size_t n, unsigned line) {
        Headings *headings = &parser->headings;
        const char *close = memrchr(text, ']', n);
        Heading heading = {.name = text + 1, .line = line};

        if (!close)
                return 0; /* the library says so */
        heading.n = (size_t)(close - text - 1);
        trim(&heading.name, &heading.n);
        if (!name_is_valid(heading.name, heading.n))
                return config_fault_set(parser->fault, parser->file, line,
                                        "a section's name is printable ASCII without '!'");

        for (size_t i = 0; i < headings->n; i++) {
                const Heading *other = &headings->entries[i];

                if (!heading_is_like(other, heading.name, heading.n))
                        continue;
                if (memcmp(other->name, heading.name, heading.n) == 0)
                        return count_entry(parser, line);
                return config_fault_set(parser->fault, parser->file, line,
                                        "this section's name and that on line %u differ only in case: "
                                        "use one spelling, or two files",
                                        other->line);
        }
        if (headings->n == CONFIG_SECTIONS_MAX)
                return config_fault_set(parser->fault, parser->file, line, "more than %u sections",
                                        CONFIG_SECTIONS_MAX);
        headings->entries[headings->n++] = heading;
        return 0;
}

static int add_key(Parser *parser, const char *text, size_t n, unsigned line) {
        const char *equal = memchr(text, '=', n);
        size_t n_name = equal ? (size_t)(equal - text) : 0;

        trim(&text, &n_name);
        if (!name_is_valid(text, n_name))
                return config_fault_set(parser->fault, parser->file, line,
                                        "a key's name is printable ASCII without '!'");
        if (parser->headings.n == 0 && parser->headings.orphan_line == 0)
                parser->headings.orphan_line = line;
        return count_entry(parser, line);
}

/* The look at the lines that comes before the library. */
static int scan_lines(Parser *parser, const char *data, size_t n) {
        const char *end = data + n;
        unsigned line = 0;

        parser->headings.entries = calloc(CONFIG_SECTIONS_MAX, sizeof(*parser->headings.entries));
        if (!parser->headings.entries)
                return -ENOMEM;

        if (n >= strlen(UTF8_BOM) && memcmp(data, UTF8_BOM, strlen(UTF8_BOM)) == 0)
                data += strlen(UTF8_BOM);
        for (const char *text = data; text < end;) {
                const char *newline = memchr(text, '\n', (size_t)(end - text));
                size_t length = (size_t)((newline ?: end) - text);
                int r = 0;

                line++;
                if (memchr(text, '\0', length))
                        return config_fault_set(parser->fault, parser->file, line, "a NUL byte");
                if (length > 0 && text[length - 1] == '\r')
                        length--;
                if (length > 0 && text[0] == '[')
                        r = add_heading(parser, text, length, line);
                else if (length > 0 && text[0] != '#' && text[0] != ';')
                        r = add_key(parser, text, length, line);
                if (r)
                        return r;
                text = newline ? newline + 1 : end;
        }

        parser->headings.n_lines = line;
        return 0;
}

/* Whether the library can have what it needs. Not by malloc(), which gives what later is not there. */
static int try_memory(const Parser *parser, size_t n) {
        size_t needed = NEEDED + NEEDED_PER_LINE * (size_t)parser->headings.n_lines + NEEDED_PER_BYTE * n;
        void *memory;

        memory = mmap(NULL, needed, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return -ENOMEM;

        (void)munmap(memory, needed);
        return 0;
}

static unsigned heading_line(const Parser *parser, const char *section) {
        size_t n = strlen(section);

        for (size_t i = 0; i < parser->headings.n; i++) {
                const Heading *heading = &parser->headings.entries[i];

                if (heading_is_like(heading, section, n))
                        return heading->line;
        }
        return 0;
}

/* The library's "Error (5) on line 2: Equal sign is missing." for its first error. */
static int fault_of_error(Parser *parser, int error) {
        char **errors = NULL;
        unsigned line = 0;
        const char *text;
        size_t n;
        int r;

        if (error == ENOMEM)
                return -ENOMEM;
        if (ini_config_error_count(parser->ini) == 0 || ini_config_get_errors(parser->ini, &errors) != 0)
                return config_fault_set(parser->fault, parser->file, 0, "not a configuration file");

        /* NOLINTNEXTLINE(cert-err34-c): the library's own text; a line of 0 is 'the file as a whole'. */
        if (!errors[0] || sscanf(errors[0], "%*[^(](%*d) on line %u", &line) != 1)
                line = 0;
        text = errors[0] ? strstr(errors[0], ": ") : NULL;
        text = text ? text + strlen(": ") : "not a configuration file";
        n = strlen(text);
        if (n > 0 && text[n - 1] == '.')
                n--; /* ours go on after it */
        r = config_fault_set(parser->fault, parser->file, line, "%.*s", (int)n, text);
        ini_config_free_errors(errors);
        return r;
}

/* A search goes on where the one before ended, if it was for the same key; each of ours begins anew. */
static int get_value(Parser *parser, const char *section, const char *key, int mode,
                     struct value_obj **ret_value) {
        int r;

        ini_config_clean_state(parser->ini);
        r = ini_get_config_valueobj(section, key, parser->ini, mode, ret_value);
        if (r == ENOMEM)
                return -ENOMEM;
        return r || !*ret_value ? -ENOTRECOVERABLE : 0;
}

static int parse_entry(Parser *parser, const char *section, const char *key) {
        struct value_obj *first = NULL, *last = NULL;
        unsigned first_line = 0, last_line = 0;
        ConfigEntry entry = {.file = parser->file, .section = section, .key = key};
        int error = 0, r;

        r = get_value(parser, section, key, INI_GET_FIRST_VALUE, &first);
        if (r == 0)
                r = get_value(parser, section, key, INI_GET_LAST_VALUE, &last);
        if (r < 0)
                return r;
        if (value_get_line(first, &first_line) != 0 || value_get_line(last, &last_line) != 0)
                return -ENOTRECOVERABLE;

        entry.line = last_line;
        entry.value = ini_get_const_string_config_value(last, &error);
        if (!entry.value || error != 0)
                return -ENOTRECOVERABLE;
        if (first_line != last_line)
                warn(parser, last_line, "this key stands in its section before: this last one counts");
        return parser->sink->entry(&entry, parser->sink->userdata, parser->fault);
}

static bool is_repeated(char *const *keys, int i) {
        for (int k = 0; k < i; k++)
                if (strcasecmp(keys[k], keys[i]) == 0)
                        return true;
        return false;
}

static int parse_section(Parser *parser, const char *section) {
        ConfigEntry entry = {.file = parser->file, .line = heading_line(parser, section), .section = section};
        int n = 0, error = 0, r;
        char **keys;

        if (entry.line == 0 && strcmp(section, INI_DEFAULT_SECTION) == 0)
                return 0; /* where the library keeps orphans; they have been warned of */
        r = parser->sink->entry(&entry, parser->sink->userdata, parser->fault);
        if (r)
                return r;

        keys = ini_get_attribute_list(parser->ini, section, &n, &error);
        if (!keys)
                return error == ENOMEM ? -ENOMEM : 0;
        for (int i = 0; i < n && r == 0; i++)
                if (!is_repeated(keys, i))
                        r = parse_entry(parser, section, keys[i]);
        ini_free_attribute_list(keys);
        return r;
}

static int parse_sections(Parser *parser) {
        int n = 0, error = 0, r = 0;
        char **sections;

        sections = ini_get_section_list(parser->ini, &n, &error);
        if (!sections)
                return error == ENOMEM ? -ENOMEM : 0;
        for (int i = 0; i < n && r == 0; i++)
                r = parse_section(parser, sections[i]);
        ini_free_section_list(sections);
        return r;
}

static int parse_bytes(Parser *parser, char *data, size_t n) {
        struct ini_cfgfile *file = NULL;
        int r;

        r = ini_config_file_from_mem(data, (uint32_t)n, &file);
        if (r == ENOMEM)
                return -ENOMEM;
        if (r)
                return config_fault_set(parser->fault, parser->file, 0, "not UTF-8 text");
        r = ini_config_parse(file, INI_STOP_ON_ANY, COLLISIONS, PARSE_FLAGS, parser->ini);
        ini_config_file_destroy(file);
        if (r)
                return fault_of_error(parser, r);
        return parse_sections(parser);
}

int config_file_parse(const char *file, char *data, size_t n, const ConfigFileSink *sink,
                      ConfigFault *ret_fault) {
        Parser parser = {.file = file, .sink = sink, .fault = ret_fault};
        int r;

        if (ini_config_create(&parser.ini) != 0)
                return -ENOMEM;
        r = scan_lines(&parser, data, n);
        if (r == 0 && parser.headings.orphan_line > 0)
                warn(&parser, parser.headings.orphan_line, "keys before the first section are ignored");
        if (r == 0)
                r = try_memory(&parser, n);
        if (r == 0)
                r = parse_bytes(&parser, data, n);
        ini_config_destroy(parser.ini);
        free(parser.headings.entries);
        return r;
}
