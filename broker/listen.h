/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The listening socket where systemd did not hand one over: made in the runtime directory, with its links in
 * the varlink registry, and removed again when the daemon stops.
 */

#include <stdbool.h>

#include "util/cleanup.h"

#define SOCKET_NAME       "io.spebroker.Broker"
#define RUNTIME_DIRECTORY "run/spe-broker" /* below the root */
#define REGISTRY_PATH     "run/varlink/registry"

enum {
        _LISTENER_E_SUCCESS,
        LISTENER_E_IN_USE, /* somebody listens there: another spe-broker */
};

typedef struct Listener {
        int root_fd; /* borrowed */
        int fd;      /* -1 once it was handed on */
        char *path;  /* of the socket */
        bool registered;
} Listener;

#define LISTENER_NULL(root) ((Listener){.root_fd = (root), .fd = -1})

/* At @path, or if it is NULL at the usual place below @root (NULL: "/"), which is then registered too. */
int listener_open(Listener *listener, const char *root, const char *path);
/* Removes what open made. */
void listener_deinit(Listener *listener);
