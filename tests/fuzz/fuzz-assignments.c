/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A file of saved assignments: refused whole with a reason, or a table in which no CPU stands twice, and
 * which is written as a text that says the same. Hardly any input has the sum that it needs, so each that has
 * one is also tried without.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/assignment-record.h"
#include "util/cleanup.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

#define BOOT "0123456789abcdef0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void check(const AssignmentTable *table, AssignmentOrigin origin) {
        CpuSet all = CPUSET_NULL;

        for (size_t i = 0; i < table->n; i++) {
                const Assignment *a = table->entries[i];

                require(a->origin == origin && !cpuset_is_empty(&a->cpus));
                require(!cpuset_intersects(&a->cpus, &all));
                require(a->owner >= 0 && a->owner < _ASSIGNMENT_OWNER_MAX);
                require(!a->vm || a->owner == ASSIGNMENT_OWNER_GUEST || a->owner == ASSIGNMENT_OWNER_ANY);
                require(!a->vm || (*a->vm && strlen(a->vm) <= 255));
                require(a->until_usec <= INT64_MAX || a->until_usec == UINT64_MAX);
                cpuset_or(&all, &a->cpus);
        }
}

static void check_again(const AssignmentRecord *record, AssignmentOrigin origin) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(ASSIGNMENT_RECORD_MAX);
        _cleanup_(assignment_record_freep) AssignmentRecord *again = NULL;
        const char *reason;
        CpuSet diff;

        require(assignment_record_write(&record->head, &record->table, origin, BOOT, record, &buffer) == 0);
        require(assignment_record_parse(buffer.data + buffer.start, buffer_pending(&buffer), origin, BOOT,
                                        &again, &reason) == 0);
        assignment_table_diff(&record->table, &again->table, &diff);
        require(record->table.n == again->table.n && cpuset_is_empty(&diff));
        require(strcmp(record->head.id, again->head.id) == 0);
        require(strcmp(record->head.unassigned_id, again->head.unassigned_id) == 0);
        require(cpuset_equal(&record->head.unassigned, &again->head.unassigned));
}

static void try(const char *text, size_t n) {
        static const AssignmentOrigin origins[] = {ASSIGNMENT_ORIGIN_PERSISTENT, ASSIGNMENT_ORIGIN_RUNTIME};

        for (size_t i = 0; i < ELEMENTS_OF(origins); i++) {
                _cleanup_(assignment_record_freep) AssignmentRecord *record = NULL;
                const char *reason = NULL;
                int r;

                r = assignment_record_parse(text, n, origins[i], BOOT, &record, &reason);
                require(r == 0 || r == ASSIGNMENT_RECORD_E_BAD);
                require(r == 0 ? record && !reason : !record && reason);
                if (r > 0)
                        continue;
                check(&record->table, origins[i]);
                require(!*record->head.id || origins[i] == ASSIGNMENT_ORIGIN_RUNTIME);
                require(!*record->head.unassigned_id == cpuset_is_empty(&record->head.unassigned));
                check_again(record, origins[i]);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_object_putp) struct json_object *root = NULL;

        try((const char *)data, size);
        if (json_read((const char *)data, size, &root, NULL) == 0 &&
            json_object_object_get_ex(root, "sum", NULL)) {
                _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(ASSIGNMENT_RECORD_MAX);
                JsonWriter w;

                json_object_object_del(root, "sum");
                json_writer_init(&w, &buffer);
                json_write_json(&w, NULL, root);
                if (json_writer_finish(&w) == 0)
                        try(buffer.data + buffer.start, buffer_pending(&buffer));
        }
        return 0;
}
