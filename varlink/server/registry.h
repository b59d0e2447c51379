/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The interfaces that a server answers for, and one sorted table of all their methods by full name.
 */

#include <stddef.h>

#include "varlink/idl.h"
#include "varlink/server/server.h"

typedef struct RegistryMethod {
        char *name; /* "io.spebroker.Broker.Acquire" */
        const VarlinkMethod *method;
        const Idl *idl;
        const IdlType *input;
        void *userdata;
} RegistryMethod;

typedef struct RegistryInterface {
        const char *name; /* the description's */
        size_t n_name;
        Idl *idl;
} RegistryInterface;

typedef struct Registry {
        RegistryInterface *interfaces; /* in the order they were added */
        size_t n_interfaces;
        RegistryMethod *methods; /* sorted by name */
        size_t n_methods;
} Registry;

void registry_deinit(Registry *registry);

/* VARLINK_SERVER_E_IDL, VARLINK_SERVER_E_MISMATCH, -EEXIST for an interface that is there, or -ENOMEM. */
int registry_add(Registry *registry, const char *idl_text, const VarlinkMethod *methods, size_t n_methods,
                 void *userdata);

/* NULL if there is none. */
const RegistryMethod *registry_find_method(const Registry *registry, const char *full_name);
const Idl *registry_find_interface(const Registry *registry, const char *name, size_t n);
