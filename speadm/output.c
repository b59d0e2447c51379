/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What goes to stdout. Tables are libsmartcols': on a terminal they fit its width, elsewhere nothing is cut.
 * JSON keeps every value that the broker sent; only its spelling is made safe for terminals.
 */

#include <errno.h>
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "speadm/output.h"
#include "speadm/speadm.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "varlink/utf8.h"

/* Letters that fit beside the indent at least, however narrow the terminal: then it breaks the lines. */
#define WRAP_MIN 20U

size_t terminal_width(void) {
        struct winsize size;

        return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void print_wrapped(const char *text, size_t indent, size_t width) {
        size_t room = width > indent + WRAP_MIN ? width - indent : WRAP_MIN;

        while (width > 0 && strlen(text) > room) {
                size_t n = room;

                while (n > 0 && text[n] != ' ')
                        n--;
                if (n == 0) /* a word that is longer than the line stays in one piece */
                        n = strcspn(text, " ");
                if (text[n] == '\0')
                        break;
                printf("%.*s\n%*s", (int)n, text, (int)indent, "");
                text += n + 1;
        }
        puts(text);
}

struct Table {
        struct libscols_table *scols;
        struct libscols_line *row; /* the last, borrowed */
        int error;
};

Table *table_free(Table *table) {
        if (!table)
                return NULL;
        scols_unref_table(table->scols);
        free(table);
        return NULL;
}

Table *table_new(const TableColumn *columns, size_t n, bool headings) {
        Table *table = calloc(1, sizeof *table);

        if (!table)
                return NULL;
        table->scols = scols_new_table();
        if (!table->scols) {
                table->error = -ENOMEM;
                return table;
        }
        scols_table_enable_noheadings(table->scols, !headings);
        for (size_t i = 0; i < n; i++) {
                int flags = (columns[i].flags & TABLE_RIGHT ? SCOLS_FL_RIGHT : 0) |
                            (columns[i].flags & TABLE_TRUNC ? SCOLS_FL_TRUNC : 0);

                if (!scols_table_new_column(table->scols, columns[i].heading, /* whint= */ 0, flags))
                        table->error = -ENOMEM;
        }
        return table;
}

void table_add_row(Table *table) {
        if (table->error != 0)
                return;
        table->row = scols_table_new_line(table->scols, /* parent= */ NULL);
        if (!table->row)
                table->error = -ENOMEM;
}

void table_set(Table *table, size_t column, const char *text) {
        if (table->error == 0)
                table->error = scols_line_set_data(table->row, column, text && *text ? text : "-");
}

void table_vsetf(Table *table, size_t column, const char *format, va_list arguments) {
        _cleanup_(freep) char *text = NULL;

        if (vasprintf(&text, format, arguments) < 0) {
                text = NULL;
                table->error = -ENOMEM;
        }
        table_set(table, column, text);
}

void table_set_int(Table *table, size_t column, int64_t value) {
        char text[24];

        (void)snprintf(text, sizeof text, "%" PRId64, value);
        table_set(table, column, text);
}

void table_set_size(Table *table, size_t column, uint64_t bytes) {
        char text[TEXT_SIZE_MAX];

        table_set(table, column, text_size(bytes, text));
}

int table_print(Table *table) {
        if (table->error == 0 && scols_table_get_nlines(table->scols) > 0)
                table->error = scols_print_table(table->scols);
        return table->error == 0 ? SPEADM_DONE : complain_memory();
}

/* Backslash, u, four digits, NUL; a compiler does not know that no more digits come. */
#define RESPELLED_MAX 16

/* The bytes at @text that are printed another way, and that way. */
static size_t respell(const char *text, char ret_instead[static RESPELLED_MAX]) {
        unsigned code;
        size_t n;

        /* JSON spells out C0 itself; those are the line breaks between its values. */
        n = utf8_unsafe(text, strnlen(text, UTF8_MAX), &code);
        if (n > 0 && code >= 0x7f) {
                (void)snprintf(ret_instead, RESPELLED_MAX, "\\u%04x", code);
                return n;
        }
        /* json-c breaks the line in empty arrays and objects. A line break cannot be inside a string. */
        if ((text[0] == '[' || text[0] == '{') && text[1] == '\n') {
                n = 2 + strspn(text + 2, " ");
                (void)snprintf(ret_instead, RESPELLED_MAX, text[0] == '[' ? "[]" : "{}");
                return text[n] == ret_instead[1] ? n + 1 : 0;
        }
        return 0;
}

static void print_respelled(const char *text) {
        const char *p = text;
        char instead[RESPELLED_MAX];

        while (*p) {
                size_t n = respell(p, instead);

                if (n == 0) {
                        p++;
                        continue;
                }
                fwrite(text, 1, (size_t)(p - text), stdout);
                fputs(instead, stdout);
                p += n;
                text = p;
        }
        fputs(text, stdout);
}

static int print_json(struct json_object *value, int flags) {
        const char *text = json_object_to_json_string_ext(value, flags | JSON_C_TO_STRING_NOSLASHESCAPE);

        if (!text)
                return complain_memory();
        print_respelled(text);
        putchar('\n');
        return SPEADM_DONE;
}

int json_print(struct json_object *value, const char *empty) {
        if (!value) {
                puts(empty);
                return SPEADM_DONE;
        }
        return print_json(value, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
}

int json_print_line(struct json_object *value) {
        return print_json(value, JSON_C_TO_STRING_PLAIN);
}
