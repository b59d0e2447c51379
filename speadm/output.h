/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What goes to stdout: JSON, and tables as lsblk and lsmem print them. */

#include <json-c/json.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "speadm/tell.h"
#include "util/cleanup.h"

/* Columns of the terminal that stdout is; 0 where it is none. */
size_t terminal_width(void);
/* @text from column @indent on, its further lines indented so far, none longer than @width; 0: on one line.
 */
void print_wrapped(const char *text, size_t indent, size_t width);

/* As the broker sent it, over many lines or on one. NULL is printed as @empty. Returns an exit status. */
int json_print(struct json_object *value, const char *empty);
int json_print_line(struct json_object *value);

enum {
        TABLE_LEFT = 0,
        TABLE_RIGHT = 1 << 0, /* numbers */
        TABLE_TRUNC = 1 << 1, /* free text: cut where the terminal is too narrow */
};

typedef struct TableColumn {
        const char *heading;
        unsigned flags;
} TableColumn;

typedef struct Table Table;

/* NULL if out of memory. Later failures stick, and table_print() tells. */
Table *table_new(const TableColumn *columns, size_t n, bool headings);
Table *table_free(Table *table);
DEFINE_CLEANUP(Table *, table_free)
void table_add_row(Table *table);
/* A cell of the last row; a text that is NULL or empty is a "-", which keeps the columns countable. */
void table_set(Table *table, size_t column, const char *text);
_printf_(3, 0) void table_vsetf(Table *table, size_t column, const char *format, va_list arguments);
void table_set_int(Table *table, size_t column, int64_t value);
void table_set_size(Table *table, size_t column, uint64_t bytes);
/* Returns an exit status. A table without rows prints nothing. */
int table_print(Table *table);
