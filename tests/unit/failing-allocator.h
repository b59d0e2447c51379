/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Replaces the allocator of a test program by one that fails when it is told to, for everybody in the
 * process, libraries too. A sanitizer does not allow that: there ALLOCATOR_CAN_FAIL is 0, and tests are
 * skipped.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/cleanup.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ALLOCATOR_CAN_FAIL 0
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ALLOCATOR_CAN_FAIL 0
#endif

#ifndef ALLOCATOR_CAN_FAIL
#define ALLOCATOR_CAN_FAIL 1

/* json-c and libc have to find them too. */
#define _visible_ __attribute__((__visibility__("default")))

extern void *__libc_malloc(size_t n);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void __libc_free(void *p);

/* Allocations that still succeed; negative: all do. */
static long allowed = -1;
/* Only one fails, the others after it succeed again. */
static bool fail_once;
/* Set when one has failed. */
static bool has_failed;
static long n_live;

static bool allow(void) {
        if (allowed < 0)
                return true;
        if (allowed > 0) {
                allowed--;
                return true;
        }

        has_failed = true;
        if (fail_once)
                allowed = -1;
        errno = ENOMEM;
        return false;
}

static void *count(void *p) {
        n_live += p != NULL;
        return p;
}

_visible_ void *malloc(size_t n) {
        return allow() ? count(__libc_malloc(n)) : NULL;
}

_visible_ void *calloc(size_t n, size_t size) {
        return allow() ? count(__libc_calloc(n, size)) : NULL;
}

_visible_ void *realloc(void *p, size_t n) {
        if (!allow())
                return NULL;
        return p ? __libc_realloc(p, n) : count(__libc_malloc(n));
}

/* glibc's own would not come by the one above. */
_visible_ void *reallocarray(void *p, size_t n, size_t size) {
        return realloc(p, n * size);
}

_visible_ void free(void *p) {
        n_live -= p != NULL;
        __libc_free(p);
}
#else
_unused_ static long allowed, n_live;
_unused_ static bool fail_once, has_failed;
#endif
