/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Varlink interface descriptions: parsed once at start from the text that is also served, and then used to
 * check every call before its handler runs (and every reply in the tests). After idl_check() a handler may
 * read any field with json-c's getters without looking at its type again.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/cleanup.h"

enum {
        _IDL_E_SUCCESS,
        IDL_E_SYNTAX, /* the text is not an interface description (or names a type it does not declare) */
        IDL_E_UNKNOWN_FIELD, /* an object has a member that its type does not */
        IDL_E_MISSING_FIELD, /* an object lacks a member that is not nullable, or has null there */
        IDL_E_TYPE,          /* a member has another type, or is not one of the enum's words */
};

typedef struct Idl Idl;
/* A type expression: a struct's fields, an enum's words, a builtin, an array, a map, a name. */
typedef struct IdlType IdlType;

typedef enum IdlMemberKind {
        IDL_MEMBER_TYPE,
        IDL_MEMBER_METHOD,
        IDL_MEMBER_ERROR,
} IdlMemberKind;

typedef struct IdlMember {
        IdlMemberKind kind;
        const char *name;
        const IdlType *input;  /* a method's parameters, an error's parameters, a type's definition */
        const IdlType *output; /* a method's reply; else NULL */
} IdlMember;

/* Parses @n bytes of text. For IDL_E_SYNTAX *@ret_line (if given) is set to the line, from 1. */
int idl_parse(const char *text, size_t n, Idl **ret_idl, unsigned *ret_line);
Idl *idl_free(Idl *idl);
DEFINE_CLEANUP(Idl *, idl_free)

const char *idl_get_name(const Idl *idl); /* "io.spebroker.Broker" */
const char *idl_get_text(const Idl *idl); /* the text as parsed, NUL-terminated */

/* NULL if there is none of that kind and name (the last component, "Acquire"). Takes logarithmic time or
 * less. */
const IdlMember *idl_find(const Idl *idl, IdlMemberKind kind, const char *name);
size_t idl_get_n_members(const Idl *idl);
const IdlMember *idl_get_member(const Idl *idl, size_t i); /* in the text's order */

/*
 * Checks @object (NULL counts as {}) against a struct type. On a positive outcome *@ret_field is the bare
 * name of the innermost field at fault ("cgroup" for {"request": {"cgroup": ...}}); an array's or map's
 * element is told by the field that it stands in, and "" is @object itself. It lives as long as @object and
 * @idl. Absent and null are the same, and any type but a nullable one misses its value then; a float may be
 * written as an integer, an int not as a double. Allocates nothing.
 */
int idl_check(const Idl *idl, const IdlType *type, struct json_object *object, const char **ret_field);
