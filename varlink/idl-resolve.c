/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What can only be said of a whole description: its fields and members are sorted, which shows duplicates,
 * and its names are resolved. Afterwards there is no name left that stands for nothing.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "varlink/idl-type.h"

static int compare_fields(const void *a, const void *b) {
        const IdlField *x = a, *y = b;
        int r = strcmp(x->name, y->name);

        return r != 0 ? r : (x->line > y->line) - (x->line < y->line);
}

/* Sorts the fields of every struct and the words of every enum. */
static int sort_fields(Idl *idl, unsigned *ret_line) {
        for (IdlType *type = idl->types; type; type = type->next) {
                if (type->n_fields == 0)
                        continue;

                qsort(type->fields, type->n_fields, sizeof(*type->fields), compare_fields);
                for (size_t i = 0; i < type->n_fields; i++) {
                        const IdlField *field = &type->fields[i];

                        if (i > 0 && strcmp(field[-1].name, field->name) == 0) {
                                *ret_line = field->line;
                                return IDL_E_SYNTAX;
                        }
                        if (field->type && field->type->kind != IDL_NULLABLE)
                                type->n_required++;
                }
        }

        return 0;
}

static int compare_entries(const void *a, const void *b) {
        const IdlEntry *x = a, *y = b;
        int r = strcmp(x->name, y->name);

        return r != 0 ? r : (x->member > y->member) - (x->member < y->member);
}

static int index_members(Idl *idl, unsigned *ret_line) {
        if (idl->n_members == 0)
                return 0;

        idl->index = calloc(idl->n_members, sizeof(*idl->index));
        if (!idl->index)
                return -ENOMEM;

        for (size_t i = 0; i < idl->n_members; i++)
                idl->index[i] = (IdlEntry){idl->members[i].name, &idl->members[i]};
        qsort(idl->index, idl->n_members, sizeof(*idl->index), compare_entries);

        for (size_t i = 1; i < idl->n_members; i++)
                if (strcmp(idl->index[i - 1].name, idl->index[i].name) == 0) {
                        *ret_line = idl->index[i].member->input->line;
                        return IDL_E_SYNTAX;
                }

        return 0;
}

/* Each name stands for the struct or enum of a 'type' member: no chain of names has to be followed. */
static int resolve_names(Idl *idl, unsigned *ret_line) {
        for (IdlType *type = idl->types; type; type = type->next) {
                const IdlMember *member;

                if (type->kind != IDL_NAMED)
                        continue;

                member = idl_find(idl, IDL_MEMBER_TYPE, type->name);
                if (!member) {
                        *ret_line = type->line;
                        return IDL_E_SYNTAX;
                }
                type->element = member->input;
        }

        return 0;
}

int idl_resolve(Idl *idl, unsigned *ret_line) {
        int r;

        r = sort_fields(idl, ret_line);
        if (r != 0)
                return r;
        r = index_members(idl, ret_line);
        if (r != 0)
                return r;
        return resolve_names(idl, ret_line);
}
