/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The device tree that the firmware gave to the kernel, as files below sys/firmware/devicetree/base: nodes
 * are directories, properties files, strings in them end with NUL.
 */

#include <stdbool.h>
#include <stddef.h>

#define DEVICE_TREE_PATH "sys/firmware/devicetree/base"

/* Longest path of a node that is told, with its NUL. */
#define DEVICE_TREE_NODE_MAX 256U

typedef struct DeviceTreeNodes {
        size_t n;                         /* compatible nodes found */
        size_t n_disabled;                /* of which status is neither "okay" nor "ok" */
        size_t n_no_interrupt;            /* of the others: those that name no interrupt */
        char first[DEVICE_TREE_NODE_MAX]; /* path below the root node, of the first that counts: an enabled
                                             one, else any */
        bool partly; /* there was more than is looked at, or a directory could not be read */
} DeviceTreeNodes;

/* Looks for nodes that say they are @compatible. Only -ENOMEM and the like fail; no tree has no nodes. */
int device_tree_find(int root_fd, const char *compatible, DeviceTreeNodes *ret_nodes);

/* Whether the tree's root says that it is @compatible; likewise. */
int device_tree_machine_is(int root_fd, const char *compatible, bool *ret_is);
