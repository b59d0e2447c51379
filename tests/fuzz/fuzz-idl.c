/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The parser and the checker of interface descriptions. Up to the first NUL the input is a description; if it
 * is one, what follows is JSON, checked against every member.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "varlink/idl.h"
#include "varlink/json-read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void check_type(const Idl *idl, const IdlType *type, struct json_object *object) {
        const char *field = NULL;
        int r;

        if (!type)
                return;

        r = idl_check(idl, type, object, &field);
        require(r >= 0 && (r > 0) == (field != NULL));
}

static void check_members(const Idl *idl, struct json_object *object) {
        for (size_t i = 0; i < idl_get_n_members(idl); i++) {
                const IdlMember *member = idl_get_member(idl, i);

                require(idl_find(idl, member->kind, member->name) == member);
                check_type(idl, member->input, object);
                check_type(idl, member->output, object);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_object_putp) struct json_object *object = NULL;
        _cleanup_(idl_freep) Idl *idl = NULL;
        const char *text = (const char *)data;
        size_t n = strnlen(text, size);
        unsigned line = 0;
        int r;

        r = idl_parse(text, n, &idl, &line);
        require(r >= 0 && (r > 0) == (line > 0));
        if (r > 0)
                return 0;

        require(strlen(idl_get_text(idl)) == n);
        check_members(idl, NULL);
        if (n < size && json_read(text + n + 1, size - n - 1, &object, NULL) == 0)
                check_members(idl, object);
        return 0;
}
