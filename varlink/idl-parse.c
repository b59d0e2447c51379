/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The parser of interface descriptions: recursive descent over the grammar of varlink.org and UAPI.20, one
 * function per rule. Types go on the description's list as soon as they exist, so that a fault anywhere
 * leaves nothing behind; idl-resolve.c then does what needs the whole text.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "varlink/idl-scan.h"
#include "varlink/idl-type.h"

typedef struct Parser {
        Idl *idl;
        IdlScan scan;
        unsigned depth;
} Parser;

static int parse_type(Parser *parser, const IdlType **ret_type);

static int new_type(Parser *parser, IdlKind kind, IdlType **ret_type) {
        IdlType *type = calloc(1, sizeof(*type));

        if (!type)
                return -ENOMEM;

        type->kind = kind;
        type->line = parser->scan.line;
        type->next = parser->idl->types;
        parser->idl->types = type;
        *ret_type = type;
        return 0;
}

/* Appends an element of zeroes to an array that has room for the next power of two. */
static void *append(void *array, size_t *n, size_t size) {
        char *grown = array;

        if ((*n & (*n - 1)) == 0) {
                grown = reallocarray(array, *n > 0 ? 2 * *n : 1, size);
                if (!grown)
                        return NULL;
        }

        memset(grown + *n * size, 0, size);
        (*n)++;
        return grown;
}

/* One field or word behind its name; the first of them decides what @type is. */
static int parse_field(Parser *parser, IdlType *type) {
        IdlField *fields;
        const char *name;
        unsigned line;
        bool is_enum;
        int r;

        r = idl_scan_field_name(&parser->scan, &name);
        if (r != 0)
                return r;
        line = parser->scan.line;

        is_enum = !idl_scan_take(&parser->scan, ":");
        if (type->n_fields == 0)
                type->kind = is_enum ? IDL_ENUM : IDL_STRUCT;
        else if (is_enum != (type->kind == IDL_ENUM))
                return IDL_E_SYNTAX;

        fields = append(type->fields, &type->n_fields, sizeof(*fields));
        if (!fields)
                return -ENOMEM;
        type->fields = fields;

        fields += type->n_fields - 1;
        fields->name = name;
        fields->line = line;
        return is_enum ? 0 : parse_type(parser, &fields->type);
}

/* A struct or an enum: "(a: int, b: string)", "(word, word)", "()". */
static int parse_fields(Parser *parser, IdlType **ret_type) {
        IdlType *type;
        int r;

        if (!idl_scan_take(&parser->scan, "("))
                return IDL_E_SYNTAX;
        r = new_type(parser, IDL_STRUCT, &type);
        if (r < 0)
                return r;

        if (!idl_scan_take(&parser->scan, ")")) {
                do {
                        r = parse_field(parser, type);
                        if (r != 0)
                                return r;
                } while (idl_scan_take(&parser->scan, ","));
                if (!idl_scan_take(&parser->scan, ")"))
                        return IDL_E_SYNTAX;
        }

        *ret_type = type;
        return 0;
}

/* A nullable type, array or map behind its prefix. */
static int parse_element(Parser *parser, IdlKind kind, IdlType **ret_type) {
        IdlType *type;
        int r;

        r = new_type(parser, kind, &type);
        if (r < 0)
                return r;
        r = parse_type(parser, &type->element);
        if (r != 0)
                return r;
        if (kind == IDL_NULLABLE && type->element->kind == IDL_NULLABLE)
                return IDL_E_SYNTAX;

        *ret_type = type;
        return 0;
}

static int parse_container(Parser *parser, IdlType **ret_type) {
        if (idl_scan_take(&parser->scan, "]"))
                return parse_element(parser, IDL_ARRAY, ret_type);
        if (idl_scan_take_word(&parser->scan, "string") && idl_scan_take(&parser->scan, "]"))
                return parse_element(parser, IDL_MAP, ret_type);
        return IDL_E_SYNTAX;
}

/* A builtin's word, or the name of one of the interface's types. */
static int parse_simple(Parser *parser, IdlType **ret_type) {
        static const struct {
                const char *word;
                IdlKind kind;
        } builtins[] = {
                {"bool", IDL_BOOL},     {"int", IDL_INT},       {"float", IDL_FLOAT},
                {"string", IDL_STRING}, {"object", IDL_OBJECT}, {"any", IDL_ANY},
        };
        int r;

        for (size_t i = 0; i < ELEMENTS_OF(builtins); i++)
                if (idl_scan_take_word(&parser->scan, builtins[i].word))
                        return new_type(parser, builtins[i].kind, ret_type);

        r = new_type(parser, IDL_NAMED, ret_type);
        if (r < 0)
                return r;
        return idl_scan_member_name(&parser->scan, &(*ret_type)->name);
}

/* The recursion ends at IDL_DEPTH_MAX. */
static int parse_type(Parser *parser, const IdlType **ret_type) {
        IdlType *type;
        int r;

        if (parser->depth >= IDL_DEPTH_MAX)
                return IDL_E_SYNTAX;

        parser->depth++;
        idl_scan_skip_space(&parser->scan);
        if (*parser->scan.next == '(')
                r = parse_fields(parser, &type);
        else if (idl_scan_take(&parser->scan, "?"))
                r = parse_element(parser, IDL_NULLABLE, &type);
        else if (idl_scan_take(&parser->scan, "["))
                r = parse_container(parser, &type);
        else
                r = parse_simple(parser, &type);
        parser->depth--;
        if (r != 0)
                return r;

        *ret_type = type;
        return 0;
}

/* Parameters: a struct, never an enum. */
static int parse_struct(Parser *parser, const IdlType **ret_type) {
        IdlType *type;
        int r;

        r = parse_fields(parser, &type);
        if (r != 0)
                return r;
        if (type->kind != IDL_STRUCT)
                return IDL_E_SYNTAX;

        *ret_type = type;
        return 0;
}

/* What stands behind a member's name. */
static int parse_definition(Parser *parser, IdlMember *member) {
        IdlType *type;
        int r;

        if (member->kind == IDL_MEMBER_TYPE) {
                r = parse_fields(parser, &type);
                if (r == 0)
                        member->input = type;
                return r;
        }

        r = parse_struct(parser, &member->input);
        if (r != 0 || member->kind == IDL_MEMBER_ERROR)
                return r;

        if (!idl_scan_take(&parser->scan, "->"))
                return IDL_E_SYNTAX;
        return parse_struct(parser, &member->output);
}

static int parse_member(Parser *parser) {
        Idl *idl = parser->idl;
        IdlMember member = {0}, *members;
        int r;

        if (idl_scan_take_word(&parser->scan, "type"))
                member.kind = IDL_MEMBER_TYPE;
        else if (idl_scan_take_word(&parser->scan, "method"))
                member.kind = IDL_MEMBER_METHOD;
        else if (idl_scan_take_word(&parser->scan, "error"))
                member.kind = IDL_MEMBER_ERROR;
        else
                return IDL_E_SYNTAX;

        r = idl_scan_member_name(&parser->scan, &member.name);
        if (r != 0)
                return r;
        r = parse_definition(parser, &member);
        if (r != 0)
                return r;

        members = append(idl->members, &idl->n_members, sizeof(*members));
        if (!members)
                return -ENOMEM;

        idl->members = members;
        members[idl->n_members - 1] = member;
        return 0;
}

/* The interface's name and all members, each on lines of its own. */
static int parse_interface(Parser *parser) {
        int r;

        if (!idl_scan_take_word(&parser->scan, "interface"))
                return IDL_E_SYNTAX;
        r = idl_scan_interface_name(&parser->scan, &parser->idl->name);
        if (r != 0)
                return r;

        for (;;) {
                unsigned line = parser->scan.line;

                idl_scan_skip_space(&parser->scan);
                if (*parser->scan.next == '\0')
                        return 0;
                if (parser->scan.line == line)
                        return IDL_E_SYNTAX;

                r = parse_member(parser);
                if (r != 0)
                        return r;
        }
}

int idl_parse(const char *text, size_t n, Idl **ret_idl, unsigned *ret_line) {
        _cleanup_(idl_freep) Idl *idl = NULL;
        Parser parser;
        int r;

        idl = calloc(1, sizeof(*idl));
        if (!idl)
                return -ENOMEM;
        idl->text = strndup(text, n);
        idl->names = malloc(n + 1);
        if (!idl->text || !idl->names)
                return -ENOMEM;

        parser = (Parser){.idl = idl, .scan = {.next = idl->text, .line = 1, .names_end = idl->names}};
        r = parse_interface(&parser);
        if (r == 0 && parser.scan.next != idl->text + n)
                r = IDL_E_SYNTAX; /* a NUL inside */
        if (r == 0)
                r = idl_resolve(idl, &parser.scan.line);
        if (r > 0 && ret_line)
                *ret_line = parser.scan.line;
        if (r != 0)
                return r;

        *ret_idl = steal_ptr(idl);
        return 0;
}
