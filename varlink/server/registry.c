/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a call's method name leads to. A description and its handlers are matched once, when an interface is
 * added, so that a call costs one binary search over full names and nothing is taken apart.
 *
 * Invariant: every method of every description has exactly one entry, and the table is sorted.
 */

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "varlink/server/registry.h"

static int method_compare(const void *a, const void *b) {
        const RegistryMethod *x = a, *y = b;

        return strcmp(x->name, y->name);
}

static void methods_free(RegistryMethod *methods, size_t n) {
        for (size_t i = 0; methods && i < n; i++)
                free(methods[i].name);
        free(methods);
}

void registry_deinit(Registry *registry) {
        for (size_t i = 0; i < registry->n_interfaces; i++)
                idl_free(registry->interfaces[i].idl);
        free(registry->interfaces);
        methods_free(registry->methods, registry->n_methods);
        *registry = (Registry){0};
}

static size_t idl_count_methods(const Idl *idl) {
        size_t n = 0;

        for (size_t i = 0; i < idl_get_n_members(idl); i++)
                n += idl_get_member(idl, i)->kind == IDL_MEMBER_METHOD;
        return n;
}

/* Fills @entries, one per handler. On any failure those filled so far are the caller's to free. */
static int methods_match(RegistryMethod *entries, const Idl *idl, const VarlinkMethod *methods, size_t n,
                         void *userdata) {
        for (size_t i = 0; i < n; i++) {
                const IdlMember *member = idl_find(idl, IDL_MEMBER_METHOD, methods[i].name);

                if (!member)
                        return VARLINK_SERVER_E_MISMATCH;
                if (asprintf(&entries[i].name, "%s.%s", idl_get_name(idl), methods[i].name) < 0) {
                        entries[i].name = NULL; /* undefined after a failure */
                        return -ENOMEM;
                }
                entries[i].method = &methods[i];
                entries[i].idl = idl;
                entries[i].input = member->input;
                entries[i].userdata = userdata;
        }

        qsort(entries, n, sizeof(*entries), method_compare);
        for (size_t i = 1; i < n; i++)
                if (method_compare(&entries[i - 1], &entries[i]) == 0)
                        return VARLINK_SERVER_E_MISMATCH; /* two handlers for one method, so one has none */
        return 0;
}

/* Takes over @idl and the names in @entries on success. */
static int registry_append(Registry *registry, Idl *idl, const RegistryMethod *entries, size_t n) {
        RegistryMethod *methods;
        RegistryInterface *interfaces;

        interfaces = reallocarray(registry->interfaces, registry->n_interfaces + 1, sizeof(*interfaces));
        if (!interfaces)
                return -ENOMEM;
        registry->interfaces = interfaces;

        methods = reallocarray(registry->methods, registry->n_methods + n + 1, sizeof(*methods));
        if (!methods)
                return -ENOMEM;
        registry->methods = methods;

        interfaces[registry->n_interfaces++] = (RegistryInterface){
                .name = idl_get_name(idl),
                .n_name = strlen(idl_get_name(idl)),
                .idl = idl,
        };
        memcpy(methods + registry->n_methods, entries, n * sizeof(*entries));
        registry->n_methods += n;
        qsort(methods, registry->n_methods, sizeof(*methods), method_compare);
        return 0;
}

int registry_add(Registry *registry, const char *idl_text, const VarlinkMethod *methods, size_t n_methods,
                 void *userdata) {
        _cleanup_(idl_freep) Idl *idl = NULL;
        RegistryMethod *entries;
        int r;

        r = idl_parse(idl_text, strlen(idl_text), &idl, NULL);
        if (r != 0)
                return r < 0 ? r : VARLINK_SERVER_E_IDL;
        if (registry_find_interface(registry, idl_get_name(idl), strlen(idl_get_name(idl))))
                return -EEXIST;
        if (idl_count_methods(idl) != n_methods)
                return VARLINK_SERVER_E_MISMATCH;

        entries = calloc(n_methods + 1, sizeof(*entries));
        if (!entries)
                return -ENOMEM;

        r = methods_match(entries, idl, methods, n_methods, userdata);
        if (r == 0)
                r = registry_append(registry, idl, entries, n_methods);
        if (r != 0) {
                methods_free(entries, n_methods);
                return r;
        }

        steal_ptr(idl);
        free(entries);
        return 0;
}

static int method_compare_name(const void *key, const void *entry) {
        return strcmp(key, ((const RegistryMethod *)entry)->name);
}

const RegistryMethod *registry_find_method(const Registry *registry, const char *full_name) {
        return bsearch(full_name, registry->methods, registry->n_methods, sizeof(*registry->methods),
                       method_compare_name);
}

const Idl *registry_find_interface(const Registry *registry, const char *name, size_t n) {
        for (size_t i = 0; i < registry->n_interfaces; i++) {
                const RegistryInterface *interface = &registry->interfaces[i];

                if (interface->n_name == n && memcmp(interface->name, name, n) == 0)
                        return interface->idl;
        }

        return NULL;
}
