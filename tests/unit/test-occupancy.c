/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/occupancy.h"
#include "util/cleanup.h"

static CpuSet cpus(const char *text) {
        CpuSet set;

        assert_int_equal(cpuset_parse(text, strlen(text), &set), 0);
        return set;
}

static void assert_conflicts(const Occupancy *occupancy, LeaseMode mode, const char *self,
                             LeaseMode self_mode, const char *expected) {
        CpuSet self_cpus = cpus(self ? self : ""), set, expected_set = cpus(expected);

        occupancy_conflicts(occupancy, mode, self ? &self_cpus : NULL, self_mode, &set);
        assert_true(cpuset_equal(&set, &expected_set));
}

static void test_counts(_unused_ void **state) {
        Occupancy o = {0};
        CpuSet a = cpus("0-3"), b = cpus("2-5,4095");

        occupancy_add(&o, LEASE_MODE_GUEST, &a);
        occupancy_add(&o, LEASE_MODE_GUEST, &b);
        occupancy_add(&o, LEASE_MODE_SHARED, &a);
        assert_int_equal(o.n[LEASE_MODE_GUEST][1], 1);
        assert_int_equal(o.n[LEASE_MODE_GUEST][2], 2);
        assert_int_equal(o.n[LEASE_MODE_GUEST][4095], 1);
        assert_int_equal(o.n[LEASE_MODE_SHARED][2], 1);
        assert_int_equal(o.n[LEASE_MODE_EXCLUSIVE][2], 0);

        /* A CPU is held until the last lease on it has gone. */
        occupancy_remove(&o, LEASE_MODE_GUEST, &a);
        assert_true(cpuset_equal(&o.held[LEASE_MODE_GUEST], &b));
        assert_true(cpuset_equal(&o.held[LEASE_MODE_SHARED], &a));
        occupancy_remove(&o, LEASE_MODE_GUEST, &b);
        occupancy_remove(&o, LEASE_MODE_SHARED, &a);

        assert_memory_equal(&o, &(Occupancy){0}, sizeof(o));
}

static void test_conflicts(_unused_ void **state) {
        Occupancy o = {0};
        CpuSet exclusive = cpus("0"), guest = cpus("1-2"), shared = cpus("2-3");

        assert_conflicts(&o, LEASE_MODE_EXCLUSIVE, NULL, 0, "");
        occupancy_add(&o, LEASE_MODE_EXCLUSIVE, &exclusive);
        occupancy_add(&o, LEASE_MODE_GUEST, &guest);
        occupancy_add(&o, LEASE_MODE_SHARED, &shared);

        assert_conflicts(&o, LEASE_MODE_EXCLUSIVE, NULL, 0, "0-3");
        assert_conflicts(&o, LEASE_MODE_GUEST, NULL, 0, "0");
        assert_conflicts(&o, LEASE_MODE_SHARED, NULL, 0, "0");
}

static void test_self(_unused_ void **state) {
        Occupancy o = {0};
        CpuSet exclusive = cpus("0-1"), guest = cpus("4-5"), other = cpus("5");

        occupancy_add(&o, LEASE_MODE_EXCLUSIVE, &exclusive);
        assert_conflicts(&o, LEASE_MODE_EXCLUSIVE, NULL, 0, "0-1");
        assert_conflicts(&o, LEASE_MODE_EXCLUSIVE, "0-1", LEASE_MODE_EXCLUSIVE, "");

        /* Leaves out itself only: not the other guest on CPU 5, not what it holds in another mode. */
        occupancy_add(&o, LEASE_MODE_GUEST, &guest);
        occupancy_add(&o, LEASE_MODE_GUEST, &other);
        assert_conflicts(&o, LEASE_MODE_EXCLUSIVE, "4-5", LEASE_MODE_GUEST, "0-1,5");
        assert_conflicts(&o, LEASE_MODE_EXCLUSIVE, "4-5", LEASE_MODE_SHARED, "0-1,4-5");
        assert_conflicts(&o, LEASE_MODE_GUEST, "4-5", LEASE_MODE_GUEST, "0-1");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_counts),
                cmocka_unit_test(test_conflicts),
                cmocka_unit_test(test_self),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
