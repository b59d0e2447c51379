/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A file descriptor with a name, as systemd's store of file descriptors has it: what a module wants kept over
 * a restart of the daemon, and what it is handed back.
 */

typedef struct NamedFd {
        const char *name; /* borrowed */
        int fd;           /* -1: taken over by the module that knew the name */
} NamedFd;
