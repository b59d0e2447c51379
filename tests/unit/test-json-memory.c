/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Out of memory at every single allocation of the codec, json-c's included: each attempt answers -ENOMEM and
 * leaves nothing behind, until one has all it needs. The allocator is replaced for that, which a sanitizer
 * does not allow: there the test is skipped.
 */

#include <errno.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "varlink/idl.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

#ifndef SANITIZED
#define SANITIZED 0

/* json-c and libc have to find them too. */
#define _visible_ __attribute__((__visibility__("default")))

extern void *__libc_malloc(size_t n);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void __libc_free(void *p);

/* Allocations that still succeed; negative: all do. */
static long allowed = -1;
static long n_live;

static bool allow(void) {
        if (allowed < 0)
                return true;
        if (allowed > 0) {
                allowed--;
                return true;
        }

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
static long allowed, n_live;
#endif

/* No object has so many members that json-c's table must grow: if it cannot, json-c 0.16 loses the name. */
static int attempt_read(void) {
        static const char text[] =
                "{\"a\":[1,-2.5,\"x\",true,null,[],{\"b\":1},6,7,8,9],\"escaped\":\"\\u00e9\\n\","
                "\"a name that is too long for the stack to keep it\":{},"
                "\"number\":0.00000000000000000000000000000000000000000000000000000000000000000001,"
                "\"1\":1,\"2\":2,\"3\":3}";
        struct json_object *value = NULL;
        int r;

        r = json_read(text, strlen(text), &value, NULL);
        json_object_put(value);
        return r;
}

static int attempt_write(void) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1 << 20);
        JsonWriter writer;
        int r;

        json_writer_init(&writer, &buffer);
        json_write_array_begin(&writer, NULL);
        for (int i = 0; i < 1000; i++) {
                json_write_string(&writer, NULL, "text\n");
                json_write_double(&writer, NULL, 0.1);
        }
        json_write_array_end(&writer);
        r = json_writer_finish(&writer);
        if (r < 0)
                assert_int_equal(buffer_pending(&buffer), 0);
        return r;
}

static int attempt_parse(void) {
        static const char text[] =
                "interface a.b\ntype A (a: []?int, b: [string]B, c: (x, y, z))\ntype B ()\n"
                "method M(a: A) -> (b: B)\nerror E (a: int)";
        Idl *idl = NULL;
        int r;

        r = idl_parse(text, strlen(text), &idl, NULL);
        idl_free(idl);
        return r;
}

static void fail_everywhere(int (*attempt)(void), long n_min) {
        long n = 0, n_before;
        int r;

        assert_int_equal(attempt(), 0);
        do {
                n_before = n_live;
                allowed = n++;
                r = attempt();
                allowed = -1;
                assert_true(r == 0 || r == -ENOMEM);
                assert_int_equal(n_live, n_before);
        } while (r != 0);
        assert_true(n > n_min);
}

static void test_read(_unused_ void **state) {
        fail_everywhere(attempt_read, 30);
}

static void test_write(_unused_ void **state) {
        fail_everywhere(attempt_write, 4);
}

static void test_parse(_unused_ void **state) {
        fail_everywhere(attempt_parse, 20);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read),
                cmocka_unit_test(test_write),
                cmocka_unit_test(test_parse),
        };

        if (SANITIZED) {
                puts("the sanitizer has its own allocator");
                return 77;
        }

        return cmocka_run_group_tests(tests, NULL, NULL);
}
