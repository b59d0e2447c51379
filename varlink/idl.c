/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A parsed interface description as its users see it. It is immutable: names are found by binary search in
 * what the parser has sorted, and everything lives until idl_free().
 */

#include "varlink/idl.h"

#include <stdlib.h>
#include <string.h>

#include "varlink/idl-type.h"

Idl *idl_free(Idl *idl) {
        if (!idl)
                return NULL;

        while (idl->types) {
                IdlType *type = idl->types;

                idl->types = type->next;
                free(type->fields);
                free(type);
        }
        free(idl->index);
        free(idl->members);
        free(idl->names);
        free(idl->text);
        free(idl);
        return NULL;
}

const char *idl_get_name(const Idl *idl) {
        return idl->name;
}

const char *idl_get_text(const Idl *idl) {
        return idl->text;
}

static int compare_entry(const void *key, const void *element) {
        const IdlEntry *entry = element;

        return strcmp(key, entry->name);
}

const IdlMember *idl_find(const Idl *idl, IdlMemberKind kind, const char *name) {
        const IdlEntry *found;

        if (idl->n_members == 0)
                return NULL;

        found = bsearch(name, idl->index, idl->n_members, sizeof(*idl->index), compare_entry);
        return found && found->member->kind == kind ? found->member : NULL;
}

size_t idl_get_n_members(const Idl *idl) {
        return idl->n_members;
}

const IdlMember *idl_get_member(const Idl *idl, size_t i) {
        return &idl->members[i];
}

static int compare_field(const void *key, const void *element) {
        const IdlField *field = element;

        return strcmp(key, field->name);
}

const IdlField *idl_type_find_field(const IdlType *type, const char *name) {
        if (type->n_fields == 0)
                return NULL;

        return bsearch(name, type->fields, type->n_fields, sizeof(*type->fields), compare_field);
}
