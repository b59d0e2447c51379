/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/assignment.h"
#include "util/cleanup.h"

#define NEVER UINT64_MAX

static CpuSet cpus(const char *text) {
        CpuSet set;

        assert_int_equal(cpuset_parse(text, strlen(text), &set), 0);
        return set;
}

static void assert_cpus(const CpuSet *set, const char *text) {
        char buffer[CPUSET_TEXT_MAX];

        cpuset_format(set, buffer, sizeof(buffer));
        assert_string_equal(buffer, text);
}

static void assign_until(AssignmentTable *table, const char *text, AssignmentOwner owner, const char *vm,
                         AssignmentOrigin origin, uint64_t until_usec) {
        CpuSet set = cpus(text);

        assert_int_equal(assignment_table_set(table, &set, owner, vm, origin, until_usec), 0);
}

static void assign(AssignmentTable *table, const char *text, AssignmentOwner owner, const char *vm,
                   AssignmentOrigin origin) {
        assign_until(table, text, owner, vm, origin, NEVER);
}

/* "config:0-3=host persistent:4=guest/web ..." */
static void assert_table(const AssignmentTable *table, const char *expected) {
        char text[4096] = "", set[CPUSET_TEXT_MAX];
        size_t n = 0;

        for (size_t i = 0; i < table->n; i++) {
                const Assignment *a = table->entries[i];

                cpuset_format(&a->cpus, set, sizeof(set));
                n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s:%s=%s%s%s", i > 0 ? " " : "",
                                      assignment_origin_to_string(a->origin), set,
                                      assignment_owner_to_string(a->owner), a->vm ? "/" : "",
                                      a->vm ? a->vm : "");
                assert_true(n < sizeof(text));
        }

        assert_string_equal(text, expected);
}

static void assert_restricted(const AssignmentTable *table, const char *vm, VmOrigin origin, const char *from,
                              const char *expected) {
        CpuSet set = cpus(from), allowed;

        assignment_table_restrict(table, vm, origin, &set);
        assert_cpus(&set, expected);

        assignment_table_allowed_cpus(table, vm, origin, &allowed);
        set = cpus(from);
        cpuset_and(&set, &allowed);
        assert_cpus(&set, expected);
}

static void test_carve(_unused_ void **state) {
        AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        CpuSet set;

        assign(&table, "0-7", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);
        assign(&table, "2-3", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_table(&table, "persistent:0-1,4-7=guest persistent:2-3=host");

        /* Other origins are left alone, and the order is by origin, then CPU. */
        assign(&table, "0-3", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "4", ASSIGNMENT_OWNER_ANY, "web", ASSIGNMENT_ORIGIN_RUNTIME);
        assert_table(&table,
                     "config:0-3=none persistent:0-1,4-7=guest persistent:2-3=host runtime:4=any/web");

        /* One that is covered whole is gone. */
        assign(&table, "1-3", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_table(&table, "config:0-3=none persistent:0,4-7=guest persistent:1-3=any runtime:4=any/web");

        set = cpus("0,3-5");
        assert_int_equal(assignment_table_clear(&table, &set, ASSIGNMENT_ORIGIN_PERSISTENT), 0);
        assert_table(&table, "config:0-3=none persistent:1-2=any persistent:6-7=guest runtime:4=any/web");
        assert_int_equal(assignment_table_clear(&table, &set, ASSIGNMENT_ORIGIN_RUNTIME), 0);
        assert_table(&table, "config:0-3=none persistent:1-2=any persistent:6-7=guest");

        assignment_table_deinit(&table);
        assert_int_equal(table.n, 0);
        assert_int_equal(table.default_owner, ASSIGNMENT_OWNER_ANY);
}

static void test_merge(_unused_ void **state) {
        AssignmentTable table = ASSIGNMENT_TABLE_NULL;

        assign(&table, "0-1", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_RUNTIME);
        assign(&table, "4", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_RUNTIME);
        assert_table(&table, "runtime:0-1,4=guest/web");

        /* Every difference counts: VM, no VM, owner, origin, end. */
        assign(&table, "5", ASSIGNMENT_OWNER_GUEST, "db", ASSIGNMENT_ORIGIN_RUNTIME);
        assign(&table, "6", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_RUNTIME);
        assign(&table, "7", ASSIGNMENT_OWNER_ANY, "web", ASSIGNMENT_ORIGIN_RUNTIME);
        assign(&table, "8", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_PERSISTENT);
        assign_until(&table, "9", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_RUNTIME, 5);
        assert_table(&table,
                     "persistent:8=guest/web runtime:0-1,4=guest/web runtime:5=guest/db runtime:6=guest "
                     "runtime:7=any/web runtime:9=guest/web");

        assignment_table_deinit(&table);
}

static void test_precedence(_unused_ void **state) {
        AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        CpuSet all = cpus("0-4095");

        assert_null(assignment_table_lookup(&table, 0));
        assign(&table, "0-3", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "1-2", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_RUNTIME);
        assign(&table, "2-3", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);

        assert_int_equal(assignment_table_lookup(&table, 0)->owner, ASSIGNMENT_OWNER_HOST);
        assert_int_equal(assignment_table_lookup(&table, 1)->owner, ASSIGNMENT_OWNER_NONE);
        assert_int_equal(assignment_table_lookup(&table, 2)->owner, ASSIGNMENT_OWNER_NONE);
        assert_int_equal(assignment_table_lookup(&table, 3)->owner, ASSIGNMENT_OWNER_ANY);
        assert_null(assignment_table_lookup(&table, 4));
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "3-4");

        /* Taking the higher one away brings the lower one back. */
        assignment_table_clear(&table, &all, ASSIGNMENT_ORIGIN_RUNTIME);
        assert_int_equal(assignment_table_lookup(&table, 1)->owner, ASSIGNMENT_OWNER_HOST);
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "2-4");
        assignment_table_clear(&table, &all, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "4");
        assignment_table_clear(&table, &all, ASSIGNMENT_ORIGIN_CONFIG);
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "0-4");

        assignment_table_deinit(&table);
}

static void test_owners(_unused_ void **state) {
        AssignmentTable table = ASSIGNMENT_TABLE_NULL;

        assign(&table, "0", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "1", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "2", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "3", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "1-2,4");

        /* The default owner speaks for the rest. */
        table.default_owner = ASSIGNMENT_OWNER_HOST;
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "1-2");
        table.default_owner = ASSIGNMENT_OWNER_NONE;
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "1-2");
        table.default_owner = ASSIGNMENT_OWNER_GUEST;
        assert_restricted(&table, "web", VM_ORIGIN_UNIT, "0-4", "1-2,4");

        assignment_table_deinit(&table);
}

static void test_vms(_unused_ void **state) {
        static const VmOrigin trusted[] = {VM_ORIGIN_ADMINISTRATOR, VM_ORIGIN_MACHINE, VM_ORIGIN_UNIT};
        AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        CpuSet own;

        assign(&table, "0-1", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "2", ASSIGNMENT_OWNER_ANY, "db", ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "3", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "1", ASSIGNMENT_OWNER_ANY, NULL,
               ASSIGNMENT_ORIGIN_RUNTIME); /* takes one of web's away */
        assign(&table, "8", ASSIGNMENT_OWNER_ANY, "web", ASSIGNMENT_ORIGIN_PERSISTENT);

        for (size_t i = 0; i < ELEMENTS_OF(trusted); i++) {
                assert_restricted(&table, "web", trusted[i], "0-4,8", "0-1,3-4,8");
                assert_restricted(&table, "db", trusted[i], "0-4,8", "1-4");
                assert_restricted(&table, "other", trusted[i], "0-4,8", "1,3-4");

                assignment_table_own_cpus(&table, "web", trusted[i], &own);
                assert_cpus(&own, "0,8");
                assignment_table_own_cpus(&table, "db", trusted[i], &own);
                assert_cpus(&own, "2");
                assignment_table_own_cpus(&table, "other", trusted[i], &own);
                assert_cpus(&own, "");
        }

        /* A name that is just claimed is nobody's. */
        assert_restricted(&table, "web", VM_ORIGIN_CALLER, "0-4,8", "1,3-4");
        assignment_table_own_cpus(&table, "web", VM_ORIGIN_CALLER, &own);
        assert_cpus(&own, "");

        assignment_table_deinit(&table);
}

static void test_alike(_unused_ void **state) {
        AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        AssignmentOwner owner;
        const char *vm;
        CpuSet set, relevant = cpus("0-9");

        assign(&table, "0-1", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "4", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_RUNTIME);
        assign(&table, "2", ASSIGNMENT_OWNER_GUEST, "db", ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "3", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&table, "5", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_CONFIG); /* as the default */
        assign(&table, "1", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);

        assignment_table_alike(&table, 0, &owner, &vm, &set);
        assert_int_equal(owner, ASSIGNMENT_OWNER_GUEST);
        assert_string_equal(vm, "web");
        assert_cpus(&set, "0,4");

        assignment_table_alike(&table, 3, &owner, &vm, &set);
        assert_int_equal(owner, ASSIGNMENT_OWNER_GUEST);
        assert_null(vm);
        assert_cpus(&set, "3");

        assignment_table_alike(&table, 7, &owner, &vm, &set);
        assert_int_equal(owner, ASSIGNMENT_OWNER_ANY);
        assert_null(vm);
        cpuset_and(&set, &relevant);
        assert_cpus(&set, "5-9");

        assignment_table_deinit(&table);
}

static void test_expiry(_unused_ void **state) {
        AssignmentTable table = ASSIGNMENT_TABLE_NULL;

        assert_int_equal(assignment_table_next_expiry(&table), NEVER);
        assert_false(assignment_table_expire(&table, NEVER));

        assign(&table, "0", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_int_equal(assignment_table_next_expiry(&table), NEVER);
        assign_until(&table, "1", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_RUNTIME, 300);
        assign_until(&table, "2", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_RUNTIME, 200);
        assert_int_equal(assignment_table_next_expiry(&table), 200);

        assert_false(assignment_table_expire(&table, 199));
        assert_table(&table, "persistent:0=host runtime:1=host runtime:2=host");
        assert_true(assignment_table_expire(&table, 200));
        assert_table(&table, "persistent:0=host runtime:1=host");
        assert_int_equal(assignment_table_next_expiry(&table), 300);
        assert_true(assignment_table_expire(&table, NEVER));
        assert_table(&table, "persistent:0=host");

        assignment_table_deinit(&table);
}

static void assert_diff(const AssignmentTable *a, const AssignmentTable *b, const char *expected) {
        CpuSet set;

        assignment_table_diff(a, b, &set);
        assert_cpus(&set, expected);
        assignment_table_diff(b, a, &set);
        assert_cpus(&set, expected);
}

static void test_diff(_unused_ void **state) {
        _cleanup_(assignment_table_deinit) AssignmentTable a = ASSIGNMENT_TABLE_NULL;
        _cleanup_(assignment_table_deinit) AssignmentTable b = ASSIGNMENT_TABLE_NULL;

        assert_diff(&a, &b, "");
        assign(&a, "0-3", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_CONFIG);
        assert_diff(&a, &b, "0-3");
        assign(&b, "0-3", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_CONFIG);
        assert_diff(&a, &b, "");

        /* What only one of them has, in front of and behind what both have. */
        assign(&a, "8", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_CONFIG);
        assign(&b, "9", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_RUNTIME);
        assert_diff(&a, &b, "8-9");

        /* The same CPUs, but another owner, VM, origin, end, or more of them. */
        assign(&a, "16", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);
        assign(&b, "16", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_PERSISTENT);
        assign(&a, "17", ASSIGNMENT_OWNER_GUEST, "web", ASSIGNMENT_ORIGIN_PERSISTENT);
        assign(&b, "17", ASSIGNMENT_OWNER_GUEST, "db", ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_diff(&a, &b, "8-9,16-17");
        assign_until(&a, "20", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_RUNTIME, 5);
        assign_until(&b, "20", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_RUNTIME, 6);
        assign(&a, "30-31", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_RUNTIME);
        assign(&b, "30", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_RUNTIME);
        assert_diff(&a, &b, "8-9,16-17,20,30-31");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_carve),      cmocka_unit_test(test_merge),
                cmocka_unit_test(test_precedence), cmocka_unit_test(test_owners),
                cmocka_unit_test(test_vms),        cmocka_unit_test(test_alike),
                cmocka_unit_test(test_expiry),     cmocka_unit_test(test_diff),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
