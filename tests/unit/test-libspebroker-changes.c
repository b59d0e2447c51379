/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Two states of a lease, and in which words they differ: each row changes some members of one lease.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "libspebroker/changes.h"
#include "libspebroker/lease.h"
#include "tests/unit/broker-messages.h"
#include "util/cleanup.h"
#include "varlink/json-read.h"

/* Members that replace those of a granted lease; NULL: as they are. */
typedef struct View {
        const char *state; /* NULL: granted */
        const char *id;
        const char *pmu_type;
        const char *instance;
        const char *cpus;
        const char *reason;
        const char *contended;
        const char *misplaced; /* NULL: the broker does not say */
        const char *restart;
        const char *remaining;
        const char *buffer_size;
} View;

static const char * or (const char *text, const char *otherwise) {
        return text ? text : otherwise;
}

static struct spebroker_lease *lease_of(const View *view, const char *change) {
        _cleanup_(json_object_putp) struct json_object *object = NULL;
        struct spebroker_lease *lease;
        char text[2048];
        int n;

        n = snprintf(
                text, sizeof(text),
                "{\"change\":%s,\"lease\":{\"leaseId\":\"%s\",\"vm\":\"a\",\"vmOrigin\":\"caller\","
                "\"instance\":"
                "\"%s\",\"pmuType\":%s,\"cpus\":\"%s\",\"vcpus\":2,\"bufferSize\":%s,"
                "\"requestedBufferSize\":8192,\"limitedBy\":null,\"charge\":9437184,\"memlock\":" MEMLOCK
                ",\"interrupt\":21,\"mode\":\"guest\",\"state\":\"%s\",\"reason\":%s,\"contended\":%s,%s%s"
                "\"restartRequired\":%s,\"owner\":{\"pid\":1,\"uid\":0},\"sinceUSec\":1,"
                "\"remainingUSec\":%s}}",
                or (change, "null"), or (view->id, "1"), or (view->instance, "arm_spe_0"),
                or (view->pmu_type, "8"), or (view->cpus, "0-3"), or (view->buffer_size, "4096"),
                or (view->state, "granted"), or (view->reason, "null"), or (view->contended, "false"),
                view->misplaced ? "\"misplaced\":" : "", or (view->misplaced, ""),
                or (view->restart, "false"), or (view->remaining, "null"));
        assert_true(n > 0 && (size_t)n < sizeof(text));
        assert_int_equal(json_read(text, (size_t)n, &object, NULL), 0);
        assert_int_equal(lease_new(object, &lease), 0);
        return lease;
}

static const struct {
        View before;
        View after;
        const char *changes;
} rows[] = {
        {{0}, {0}, ""},
        {{.state = "revoking", .remaining = "9"}, {.state = "revoking", .remaining = "5"}, ""},
        {{0}, {.state = "ended"}, "ended "},
        {{0}, {.state = "ended", .cpus = "0", .contended = "true"}, "ended "},
        {{.state = "revoked"}, {.state = "ended"}, "ended "},

        {{0}, {.cpus = "0-2"}, "cpus "},
        {{0}, {.cpus = "0-2", .reason = "\"CPU 3 is off line\""}, "cpus "},
        {{0}, {.contended = "true"}, "contended "},
        {{.contended = "true"}, {0}, "uncontended "},
        {{0}, {.misplaced = "true,"}, "misplaced "},
        {{.misplaced = "false,"}, {.misplaced = "true,", .reason = "\"x\""}, "misplaced "},
        {{.misplaced = "true,"}, {.misplaced = "false,"}, "placed "},
        {{.misplaced = "true,"}, {0}, "placed "},
        {{0}, {.misplaced = "false,"}, ""},
        {{0}, {.state = "revoking", .remaining = "5"}, "revoking "},
        {{0}, {.state = "revoked"}, "revoked "},
        {{.state = "revoking", .remaining = "5"}, {.state = "revoked"}, "revoked "},
        {{0},
         {.state = "revoking", .cpus = "0", .contended = "true", .misplaced = "true,"},
         "cpus contended misplaced revoking "},

        /* The SPU is gone, back, back under another name, another one; the assignment is taken back. */
        {{0}, {.pmu_type = "null"}, "updated "},
        {{.pmu_type = "null"}, {0}, "restored "},
        {{0}, {.pmu_type = "9"}, "restored "},
        {{0}, {.pmu_type = "9", .instance = "arm_spe_1"}, "restored "},
        {{.pmu_type = "null"}, {.cpus = "0"}, "restored cpus "},
        {{0}, {.pmu_type = "9", .restart = "true"}, "updated "},
        {{0}, {.restart = "true"}, "updated "},
        {{.restart = "true"}, {0}, "restored "},
        {{.state = "revoking", .remaining = "5"}, {0}, "restored "},
        {{.state = "revoking", .remaining = "5"}, {.pmu_type = "null"}, "updated "},

        {{0}, {.reason = "\"x\""}, "updated "},
        {{.reason = "\"x\""}, {.reason = "\"y\""}, "updated "},
        {{0}, {.buffer_size = "2048"}, "updated "},
        {{0}, {.state = "dreaming"}, "updated "},

        {{.state = "queued"}, {.state = "queued"}, ""},
        {{.state = "queued", .remaining = "9"}, {.state = "queued", .remaining = "5", .cpus = "1"}, ""},
        {{.state = "queued"}, {.state = "queued", .id = "2"}, "queued "},
        {{.state = "queued"}, {.id = "2"}, "granted "},
        {{.state = "queued"}, {.state = "revoking", .remaining = "5"}, "granted revoking "},
        {{.state = "queued"}, {.state = "revoked"}, "granted revoked "},
        {{.state = "queued"}, {.state = "ended"}, "ended "},
};

static void test_rows(_unused_ void **state) {
        for (size_t i = 0; i < ELEMENTS_OF(rows); i++) {
                struct spebroker_lease *before = lease_of(&rows[i].before, "\"was\"");
                struct spebroker_lease *after = lease_of(&rows[i].after, "\"is\"");
                char text[256] = "";
                const char *changes[CHANGES_MAX];
                size_t n, length = 0;

                n = changes_between(before, after, changes);
                assert_true(n <= CHANGES_MAX);
                for (size_t k = 0; k < n; k++)
                        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s ", changes[k]);
                if (strcmp(text, rows[i].changes) != 0)
                        fail_msg("row %zu: %sinstead of %s", i, text, rows[i].changes);
                spebroker_lease_unref(before);
                spebroker_lease_unref(after);
        }
}

/* Of a lease that is heard of for the first time, what the broker says. */
static void test_first(_unused_ void **state) {
        static const View view = {.contended = "true"};
        struct spebroker_lease *silent = lease_of(&view, NULL), *told = lease_of(&view, "\"queued\"");
        const char *changes[CHANGES_MAX];

        assert_int_equal(changes_between(NULL, silent, changes), 1);
        assert_null(changes[0]);
        assert_int_equal(changes_between(NULL, told, changes), 1);
        assert_string_equal(changes[0], "queued");
        spebroker_lease_unref(silent);
        spebroker_lease_unref(told);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows),
                cmocka_unit_test(test_first),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
