/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a parsed description looks like inside; for the idl*.c files alone.
 */

#include <stddef.h>

#include "varlink/idl.h"

/* Type expressions may nest this deep. */
#define IDL_DEPTH_MAX 64U

typedef enum IdlKind {
        IDL_BOOL,
        IDL_INT,
        IDL_FLOAT,
        IDL_STRING,
        IDL_OBJECT,
        IDL_ANY,
        IDL_STRUCT,
        IDL_ENUM,
        IDL_NAMED,
        IDL_NULLABLE,
        IDL_ARRAY,
        IDL_MAP,
} IdlKind;

/* A struct's field, or one of an enum's words, which has no type. */
typedef struct IdlField {
        const char *name;
        const IdlType *type;
        unsigned line;
} IdlField;

struct IdlType {
        IdlKind kind;
        unsigned line;
        IdlType *next;          /* in Idl.types */
        const char *name;       /* named */
        const IdlType *element; /* nullable, array, map; named: what the name stands for */
        IdlField *fields;       /* struct, enum; sorted by name once parsed */
        size_t n_fields;
        size_t n_required; /* fields that are not nullable */
};

/* An entry of the index by name: one name space for all kinds of members. */
typedef struct IdlEntry {
        const char *name;
        const IdlMember *member;
} IdlEntry;

struct Idl {
        char *text;
        char *names; /* the bytes of all names, each with its NUL */
        const char *name;
        IdlType *types; /* every type expression, to be freed */
        IdlMember *members;
        size_t n_members;
        IdlEntry *index; /* as many as there are members, sorted by name */
};

/* The field or word of that name, or NULL. */
const IdlField *idl_type_find_field(const IdlType *type, const char *name);

/* Sorts and resolves what has been parsed. For IDL_E_SYNTAX (a duplicate, an unknown name) *@ret_line is set.
 */
int idl_resolve(Idl *idl, unsigned *ret_line);
