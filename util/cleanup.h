/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Cleanup attributes: a variable owns what it holds, and gives it up with steal_ptr() or steal_fd().
 * Every x_free() takes NULL and returns NULL, so DEFINE_CLEANUP works for all of them.
 */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((__cleanup__(fn)))
#define _unused_      __attribute__((__unused__))

#define ELEMENTS_OF(array) (sizeof(array) / sizeof((array)[0]))

#define steal_ptr(ptr)                        \
        ({                                    \
                __typeof__(ptr) *_p = &(ptr); \
                __typeof__(ptr) _v = *_p;     \
                *_p = NULL;                   \
                _v;                           \
        })

static inline int steal_fd(int *fd) {
        int v = *fd;

        *fd = -1;
        return v;
}

#define DEFINE_CLEANUP(type, fn)                     \
        _unused_ static inline void fn##p(type *p) { \
                if (*p)                              \
                        fn(*p);                      \
        }

_unused_ static inline void freep(void *p) {
        free(*(void **)p);
}

_unused_ static inline void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

DEFINE_CLEANUP(FILE *, fclose)
DEFINE_CLEANUP(DIR *, closedir)
