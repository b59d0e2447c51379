/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The answer of CheckHost. One object owns all of it.
 */

#include "libspebroker/checks.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "libspebroker/fields.h"

struct spebroker_check {
        const char *name;
        const char *status;
        const char *reason;
        const char *advice;
};

struct spebroker_checks {
        unsigned n_ref;
        struct json_object *parameters; /* owns every string */
        struct spebroker_check *checks;
        size_t n_checks;
};

typedef struct ChecksMembers {
        struct json_object *checks;
} ChecksMembers;

static const Field parameter_fields[] = {
        FIELD("checks", FIELD_ARRAY, ChecksMembers, checks),
};

static const Field check_fields[] = {
        FIELD("name", FIELD_STRING, struct spebroker_check, name),
        FIELD("status", FIELD_STRING, struct spebroker_check, status),
        FIELD("reason", FIELD_STRING, struct spebroker_check, reason),
        FIELD_OR_NULL("advice", FIELD_STRING, struct spebroker_check, advice),
};

static int checks_read(struct spebroker_checks *checks) {
        ChecksMembers members;
        size_t n;
        int r;

        r = fields_read(checks->parameters, parameter_fields, ELEMENTS_OF(parameter_fields), &members);
        if (r < 0)
                return r;

        n = json_object_array_length(members.checks);
        if (n == 0)
                return 0;

        checks->checks = calloc(n, sizeof(*checks->checks));
        if (!checks->checks)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                r = fields_read(json_object_array_get_idx(members.checks, i), check_fields,
                                ELEMENTS_OF(check_fields), &checks->checks[i]);
                if (r < 0)
                        return r;
        }

        checks->n_checks = n;
        return 0;
}

int checks_new(struct json_object *parameters, struct spebroker_checks **ret_checks) {
        _cleanup_(spebroker_checks_unrefp) struct spebroker_checks *checks = NULL;
        int r;

        checks = calloc(1, sizeof(*checks));
        if (!checks)
                return -ENOMEM;
        checks->n_ref = 1;
        checks->parameters = json_object_get(parameters);

        r = checks_read(checks);
        if (r < 0)
                return r;

        *ret_checks = steal_ptr(checks);
        return 0;
}

struct spebroker_checks *spebroker_checks_ref(struct spebroker_checks *checks) {
        if (checks)
                checks->n_ref++;
        return checks;
}

struct spebroker_checks *spebroker_checks_unref(struct spebroker_checks *checks) {
        if (!checks || --checks->n_ref > 0)
                return NULL;

        free(checks->checks);
        json_object_put(checks->parameters);
        free(checks);
        return NULL;
}

const struct spebroker_check *spebroker_checks_get_check(const struct spebroker_checks *checks,
                                                         size_t index) {
        return index < checks->n_checks ? &checks->checks[index] : NULL;
}

const struct spebroker_check *spebroker_checks_get_first_failed(const struct spebroker_checks *checks) {
        for (size_t i = 0; i < checks->n_checks; i++)
                if (strcmp(checks->checks[i].status, "failed") == 0)
                        return &checks->checks[i];

        return NULL;
}

const char *spebroker_check_get_name(const struct spebroker_check *check) {
        return check->name;
}

const char *spebroker_check_get_status(const struct spebroker_check *check) {
        return check->status;
}

const char *spebroker_check_get_reason(const struct spebroker_check *check) {
        return check->reason;
}

const char *spebroker_check_get_advice(const struct spebroker_check *check) {
        return check->advice;
}
