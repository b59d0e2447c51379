/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A file of saved assignments: refused whole with a reason, or a table in which no CPU stands twice. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/assignment-store.h"
#include "util/cleanup.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const AssignmentOrigin origins[] = {ASSIGNMENT_ORIGIN_PERSISTENT, ASSIGNMENT_ORIGIN_RUNTIME};

        for (size_t i = 0; i < ELEMENTS_OF(origins); i++) {
                AssignmentTable table = ASSIGNMENT_TABLE_NULL;
                const char *reason = NULL;
                int r;

                r = assignment_store_parse((const char *)data, size, origins[i], BOOT, &table, &reason);
                require(r == 0 || r == ASSIGNMENT_STORE_E_SET_ASIDE);
                require(r == 0 ? !reason : reason && table.n == 0);
                check(&table, origins[i]);
                assignment_table_deinit(&table);
        }
        return 0;
}
