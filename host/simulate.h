/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Built-in hosts for machines without SPE: a tree of files that topology_scan() reads like any other, so that
 * the simulated broker is the real one.
 */

#include <stddef.h>

enum {
        _SIMULATE_E_SUCCESS,
        SIMULATE_E_UNKNOWN, /* no built-in host of that name */
};

/* The names, NULL-terminated, for help and errors. */
const char *const *simulate_names(void);
/* Writes the tree of @name (sys/..., proc/...) below @dir_fd, replacing what a former run left there. */
int simulate_write(int dir_fd, const char *name);
