/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The tokens of interface descriptions. A word is taken whole or not at all, so that "typeA" is no "type",
 * and every token may have white space and comments in front of it.
 */

#include "varlink/idl-scan.h"

#include <string.h>

#include "varlink/idl.h"

static bool is_letter(char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_alphanumeric(char c) {
        return is_letter(c) || (c >= '0' && c <= '9');
}

void idl_scan_skip_space(IdlScan *scan) {
        for (;; scan->next++) {
                if (*scan->next == '#')
                        scan->next += strcspn(scan->next, "\n");

                if (*scan->next == '\n')
                        scan->line++;
                else if (*scan->next != ' ' && *scan->next != '\t')
                        return;
        }
}

bool idl_scan_take(IdlScan *scan, const char *token) {
        size_t n = strlen(token);

        idl_scan_skip_space(scan);
        if (strncmp(scan->next, token, n) != 0)
                return false;

        scan->next += n;
        return true;
}

/* The length of the word that is next; 0 if there is none. */
static size_t peek_word(IdlScan *scan) {
        size_t n = 0;

        idl_scan_skip_space(scan);
        while (is_alphanumeric(scan->next[n]) || scan->next[n] == '_')
                n++;
        return n;
}

bool idl_scan_take_word(IdlScan *scan, const char *word) {
        size_t n = peek_word(scan);

        if (n != strlen(word) || strncmp(scan->next, word, n) != 0)
                return false;

        scan->next += n;
        return true;
}

/*
 * Takes a name of @n bytes. All names together fit in as many bytes as the text has, with its NUL, since
 * between two of them there is at least one other byte.
 */
static const char *take_name(IdlScan *scan, size_t n) {
        char *name = scan->names_end;

        memcpy(name, scan->next, n);
        name[n] = '\0';
        scan->names_end += n + 1;
        scan->next += n;
        return name;
}

int idl_scan_member_name(IdlScan *scan, const char **ret_name) {
        size_t n = peek_word(scan);

        if (n == 0 || scan->next[0] < 'A' || scan->next[0] > 'Z' || memchr(scan->next, '_', n))
                return IDL_E_SYNTAX;

        *ret_name = take_name(scan, n);
        return 0;
}

int idl_scan_field_name(IdlScan *scan, const char **ret_name) {
        size_t n = peek_word(scan);

        if (n == 0 || !is_letter(scan->next[0]) || scan->next[n - 1] == '_')
                return IDL_E_SYNTAX;
        for (size_t i = 1; i < n; i++)
                if (scan->next[i] == '_' && scan->next[i - 1] == '_')
                        return IDL_E_SYNTAX;

        *ret_name = take_name(scan, n);
        return 0;
}

/* The length of one component of an interface's name, [A-Za-z0-9](-*[A-Za-z0-9])*; 0 if it is none. */
static size_t component_length(const char *text) {
        size_t n = 0;

        if (!is_alphanumeric(text[0]))
                return 0;
        while (is_alphanumeric(text[n]) || text[n] == '-')
                n++;
        return text[n - 1] == '-' ? 0 : n;
}

int idl_scan_interface_name(IdlScan *scan, const char **ret_name) {
        size_t n, n_components = 0, length = 0;

        idl_scan_skip_space(scan);
        if (!is_letter(scan->next[0]))
                return IDL_E_SYNTAX;

        do {
                n = component_length(scan->next + length);
                if (n == 0)
                        return IDL_E_SYNTAX;
                length += n + 1; /* with the dot, or with what ends the name */
                n_components++;
        } while (scan->next[length - 1] == '.');
        if (n_components < 2)
                return IDL_E_SYNTAX;

        *ret_name = take_name(scan, length - 1);
        return 0;
}
