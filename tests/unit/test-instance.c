/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/instance.h"
#include "util/cleanup.h"

static Instance *add(InstanceTable *table, const char *name, unsigned index) {
        Instance *instance = NULL;

        assert_int_equal(instance_new(name, index, &instance), 0);
        assert_int_equal(instance_table_add(table, instance), 0);
        return instance;
}

static void assert_names(const InstanceTable *table, const char *const *names, size_t n) {
        assert_int_equal(table->n, n);
        for (size_t i = 0; i < n; i++)
                assert_string_equal(table->entries[i]->name, names[i]);
}

static void test_new(_unused_ void **state) {
        static const char longest[] = "arm_spe_00000000000000000000001";
        _cleanup_(instance_freep) Instance *instance = NULL;
        Instance *untouched = NULL;

        assert_int_equal(instance_new("arm_spe_00000000000000000000000x", 0, &untouched), -ENAMETOOLONG);
        assert_null(untouched);

        assert_int_equal(sizeof(longest) - 1, INSTANCE_NAME_MAX);
        assert_int_equal(instance_new(longest, 7, &instance), 0);
        assert_string_equal(instance->name, longest);
        assert_int_equal(instance->index, 7);
        assert_int_equal(instance->state, INSTANCE_STATE_PARTIAL);
        assert_int_equal(instance->guest, GUEST_SUPPORT_UNKNOWN);
        assert_true(cpuset_is_empty(&instance->cpus));
        assert_int_equal(instance->n_leases, 0);

        assert_null(instance_free(NULL));
}

static void test_order(_unused_ void **state) {
        static const char *const sorted[] = {"arm_spe_0", "arm_spe_2", "arm_spe_10"};
        static const char *const without[] = {"arm_spe_0", "arm_spe_10"};
        InstanceTable table = INSTANCE_TABLE_NULL;
        Instance *two;

        add(&table, "arm_spe_10", 10);
        two = add(&table, "arm_spe_2", 2);
        add(&table, "arm_spe_0", 0);
        assert_names(&table, sorted, ELEMENTS_OF(sorted));

        instance_table_remove(&table, two);
        assert_names(&table, without, ELEMENTS_OF(without));
        instance_table_deinit(&table);
        assert_int_equal(table.n, 0);
        assert_null(table.entries);
}

static void test_equal_index(_unused_ void **state) {
        static const char *const sorted[] = {"arm_spe_00", "arm_spe_000", "arm_spe_01"};
        InstanceTable table = INSTANCE_TABLE_NULL;

        add(&table, "arm_spe_01", 1);
        add(&table, "arm_spe_000", 0);
        add(&table, "arm_spe_00", 0);
        assert_names(&table, sorted, ELEMENTS_OF(sorted));
        instance_table_deinit(&table);
}

static void test_find(_unused_ void **state) {
        InstanceTable table = INSTANCE_TABLE_NULL;
        _cleanup_(instance_freep) Instance *again = NULL;
        Instance *one;

        assert_null(instance_table_find(&table, "arm_spe_1"));
        add(&table, "arm_spe_0", 0);
        one = add(&table, "arm_spe_1", 1);

        assert_ptr_equal(instance_table_find(&table, "arm_spe_1"), one);
        assert_null(instance_table_find(&table, "arm_spe_"));
        assert_null(instance_table_find(&table, "arm_spe_11"));

        assert_int_equal(instance_new("arm_spe_1", 1, &again), 0);
        assert_int_equal(instance_table_add(&table, again), -EEXIST);
        assert_int_equal(table.n, 2);
        assert_ptr_equal(instance_table_find(&table, "arm_spe_1"), one);

        instance_table_deinit(&table);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_new),
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_equal_index),
                cmocka_unit_test(test_find),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
