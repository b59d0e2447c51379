/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The scanner below idl-parse: punctuation, words and names of interface descriptions. A token is what is
 * next behind white space and comments; line is then the line it begins on.
 */

#include <stdbool.h>

typedef struct IdlScan {
        const char *next; /* what is to be read; ends with a NUL */
        unsigned line;    /* of next */
        char *names_end;  /* where the next name is stored; there are as many bytes as there is text */
} IdlScan;

/* White space and comments, which may stand between any two tokens. */
void idl_scan_skip_space(IdlScan *scan);
bool idl_scan_take(IdlScan *scan, const char *punctuation);
bool idl_scan_take_word(IdlScan *scan, const char *word);

/* Names are stored behind each other, each with a NUL. IDL_E_SYNTAX where none is next. */

/* [A-Z][A-Za-z0-9]* */
int idl_scan_member_name(IdlScan *scan, const char **ret_name);
/* [A-Za-z](_?[A-Za-z0-9])* */
int idl_scan_field_name(IdlScan *scan, const char **ret_name);
/* Two components [A-Za-z0-9](-*[A-Za-z0-9])* or more, with dots between; the first begins with a letter. */
int idl_scan_interface_name(IdlScan *scan, const char **ret_name);
