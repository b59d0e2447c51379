/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A walk of the device tree. Its depth and the number of nodes are bounded, links are not followed, and what
 * is passed over for that is told: a tree that was not seen whole proves nothing absent.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "host/device-tree.h"
#include "util/cleanup.h"
#include "util/fs.h"

#define DEPTH_MAX    8U
#define NODES_MAX    16384U
#define PROPERTY_MAX 1024U

typedef struct Walk {
        const char *compatible;
        size_t n_seen;
        DeviceTreeNodes *nodes;
} Walk;

/* Whether the property, a list of strings, has @word. What cannot be read has none. */
static int property_has(int node_fd, const char *property, const char *word, bool *ret_has) {
        char text[PROPERTY_MAX];
        bool has = false;
        size_t n;
        int r;

        r = fs_read(node_fd, property, text, sizeof(text), &n);
        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && i < n; i += strlen(text + i) + 1)
                has = has || strcmp(text + i, word) == 0;

        *ret_has = has;
        return 0;
}

static int is_disabled(int node_fd, bool *ret_disabled) {
        bool okay = faccessat(node_fd, "status", F_OK, 0) != 0;
        int r = 0;

        if (!okay)
                r = property_has(node_fd, "status", "okay", &okay);
        if (r == 0 && !okay)
                r = property_has(node_fd, "status", "ok", &okay);
        if (r < 0)
                return r;

        *ret_disabled = !okay;
        return 0;
}

static int look_at(Walk *walk, int node_fd, const char *path) {
        DeviceTreeNodes *nodes = walk->nodes;
        bool compatible, disabled;
        int r;

        r = property_has(node_fd, "compatible", walk->compatible, &compatible);
        if (r < 0 || !compatible)
                return r;
        r = is_disabled(node_fd, &disabled);
        if (r < 0)
                return r;

        if (nodes->n == 0 || (!disabled && nodes->n == nodes->n_disabled))
                (void)snprintf(nodes->first, sizeof(nodes->first), "%s", path);
        nodes->n++;
        nodes->n_disabled += disabled;
        if (!disabled && faccessat(node_fd, "interrupts", F_OK, 0) != 0 &&
            faccessat(node_fd, "interrupts-extended", F_OK, 0) != 0)
                nodes->n_no_interrupt++;
        return 0;
}

static bool is_directory(int dir_fd, const struct dirent *entry) {
        struct stat st;

        if (entry->d_name[0] == '.')
                return false;
        if (entry->d_type != DT_UNKNOWN)
                return entry->d_type == DT_DIR;
        return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int walk_node(Walk *walk, int parent_fd, const char *name, const char *path, unsigned depth) {
        _cleanup_(closep) int fd =
                openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        _cleanup_(closedirp) DIR *dir = NULL;
        int r;

        if (fd < 0) {
                if (errno == ENOMEM || errno == EMFILE || errno == ENFILE)
                        return -errno;
                walk->nodes->partly = walk->nodes->partly || errno != ENOENT;
                return 0;
        }
        if (depth == 0 || walk->n_seen++ == NODES_MAX) {
                walk->nodes->partly = true;
                return 0;
        }
        dir = fdopendir(fd);
        if (!dir)
                return -errno;
        (void)steal_fd(&fd);

        r = look_at(walk, dirfd(dir), path);
        if (r < 0)
                return r;
        for (;;) {
                char child[DEVICE_TREE_NODE_MAX];
                struct dirent *entry;
                int n;

                r = fs_readdir(dir, &entry);
                if (r < 0)
                        return r;
                if (!entry)
                        return 0;
                if (walk->nodes->partly && walk->n_seen > NODES_MAX)
                        return 0;
                if (!is_directory(dirfd(dir), entry))
                        continue;
                n = snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
                if (n < 0 || (size_t)n >= sizeof(child)) {
                        walk->nodes->partly = true;
                        continue;
                }
                r = walk_node(walk, dirfd(dir), entry->d_name, child, depth - 1);
                if (r < 0)
                        return r;
        }
}

int device_tree_find(int root_fd, const char *compatible, DeviceTreeNodes *ret_nodes) {
        DeviceTreeNodes nodes = {0};
        Walk walk = {.compatible = compatible, .nodes = &nodes};
        int r;

        r = walk_node(&walk, root_fd, DEVICE_TREE_PATH, "", DEPTH_MAX);
        if (r < 0)
                return r;

        *ret_nodes = nodes;
        return 0;
}

int device_tree_machine_is(int root_fd, const char *compatible, bool *ret_is) {
        _cleanup_(closep) int fd = openat(root_fd, DEVICE_TREE_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                return property_has(fd, "compatible", compatible, ret_is);
        if (errno == ENOMEM || errno == EMFILE || errno == ENFILE)
                return -errno;
        *ret_is = false;
        return 0;
}
