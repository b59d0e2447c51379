/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A directory tree in memory (/dev/shm, else /tmp) for one test: made by tree_setup(), removed whole by
 * tree_teardown(). Missing directories on the way to a file are made.
 */

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/fs.h"

typedef struct Tree {
        char path[32];
        int fd;
} Tree;

_unused_ static int tree_setup(void **state) {
        Tree *tree = calloc(1, sizeof(*tree));

        if (!tree)
                return -1;
        strcpy(tree->path, "/dev/shm/spe-test-XXXXXX");
        if (!mkdtemp(tree->path)) {
                strcpy(tree->path, "/tmp/spe-test-XXXXXX");
                if (!mkdtemp(tree->path))
                        return -1;
        }
        tree->fd = open(tree->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = tree;
        return tree->fd < 0 ? -1 : 0;
}

_unused_ static int tree_remove_one(const char *path, _unused_ const struct stat *st, _unused_ int type,
                                    _unused_ struct FTW *ftw) {
        return remove(path);
}

_unused_ static int tree_teardown(void **state) {
        Tree *tree = *state;
        int r;

        close(tree->fd);
        r = nftw(tree->path, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
        free(tree);
        return r;
}

_unused_ static void tree_mkdir(const Tree *tree, const char *path) {
        assert_int_equal(fs_mkdir_all(tree->fd, path, 0700), 0);
}

_unused_ static void tree_mkdir_parent(const Tree *tree, const char *path) {
        const char *slash = strrchr(path, '/');
        char parent[PATH_MAX];

        if (!slash)
                return;
        (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
        tree_mkdir(tree, parent);
}

_unused_ static void tree_put_n(const Tree *tree, const char *path, const void *data, size_t n) {
        _cleanup_(closep) int fd = -1;

        tree_mkdir_parent(tree, path);
        fd = openat(tree->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, n), n);
}

_unused_ static void tree_put(const Tree *tree, const char *path, const char *text) {
        tree_put_n(tree, path, text, strlen(text));
}

_unused_ static void tree_link(const Tree *tree, const char *path, const char *target) {
        tree_mkdir_parent(tree, path);
        assert_int_equal(symlinkat(target, tree->fd, path), 0);
}

_unused_ static void tree_fifo(const Tree *tree, const char *path) {
        tree_mkdir_parent(tree, path);
        assert_int_equal(mkfifoat(tree->fd, path, 0600), 0);
}

_unused_ static void tree_unlink(const Tree *tree, const char *path) {
        struct stat st;

        assert_int_equal(fstatat(tree->fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(unlinkat(tree->fd, path, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0), 0);
}
