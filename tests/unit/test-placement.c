/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "tests/unit/policy-host.h"

#include "policy/placement.h"

#define TYPE_ZERO 8U
#define TYPE_ONE  9U

static int set_up_types(void **state) {
        set_up(state);
        host.zero->pmu_type = TYPE_ZERO;
        host.one->pmu_type = TYPE_ONE;
        return 0;
}

static Placement place(Instance *home, uint32_t pmu_type, const char *text) {
        CpuSet set = cpus(text);
        Placement placement;

        memset(&placement, 0xa5, sizeof(placement));
        placement_find(&host.model.instances, home, pmu_type, &set, &placement);
        return placement;
}

static void assert_placed(Placement placement, const Instance *instance, const char *text, bool same) {
        assert_ptr_equal(placement.instance, instance);
        assert_cpus(&placement.cpus, text);
        assert_int_equal(placement.same, same);
}

static void assert_away(Placement placement) {
        assert_null(placement.instance);
        assert_false(placement.same);
}

static void test_at_home(_unused_ void **state) {
        assert_placed(place(host.zero, TYPE_ZERO, "0-3"), host.zero, "0-3", true);
        assert_placed(place(host.one, TYPE_ONE, "5"), host.one, "5", true);
        /* On line or not is none of its business. */
        host.zero->effective = cpus("3");
        assert_placed(place(host.zero, TYPE_ZERO, "0-1"), host.zero, "0-1", true);
}

static void test_other_type(_unused_ void **state) {
        host.zero->pmu_type = 33;
        assert_placed(place(host.zero, TYPE_ZERO, "0-1"), host.zero, "0-1", false);
}

/* Names and types are handed out anew: the SPU is where the CPUs are. */
static void test_swapped(_unused_ void **state) {
        host.zero->cpus = cpus("4-11");
        host.one->cpus = cpus("0-3");
        assert_placed(place(host.zero, TYPE_ZERO, "0-1"), host.one, "0-1", false);
        assert_placed(place(host.one, TYPE_ONE, "4-11"), host.zero, "4-11", false);
        /* The types went along: to KVM nothing has happened. */
        host.zero->pmu_type = TYPE_ONE;
        host.one->pmu_type = TYPE_ZERO;
        assert_placed(place(host.zero, TYPE_ZERO, "0-1"), host.one, "0-1", true);
}

static void test_away(_unused_ void **state) {
        host.zero->state = INSTANCE_STATE_GONE;
        assert_away(place(host.zero, TYPE_ZERO, "0-3"));
        assert_placed(place(host.one, TYPE_ONE, "4-5"), host.one, "4-5", true);
        host.zero->state = INSTANCE_STATE_PARTIAL;
        assert_away(place(host.zero, TYPE_ZERO, "0-3"));
        /* The name is another SPU's. */
        host.zero->state = INSTANCE_STATE_READY;
        host.zero->cpus = cpus("12-15");
        assert_away(place(host.zero, TYPE_ZERO, "0-3"));
        host.zero->cpus = cpus("0-3");
        assert_placed(place(host.zero, TYPE_ZERO, "0-3"), host.zero, "0-3", true);
}

/* Cut differently: the most CPUs, then the old name, then the lower index. */
static void test_cut(_unused_ void **state) {
        host.zero->cpus = cpus("0-2");
        assert_placed(place(host.zero, TYPE_ZERO, "1-3"), host.zero, "1-2", false);
        host.one->cpus = cpus("3-11");
        assert_placed(place(host.zero, TYPE_ZERO, "2-3"), host.zero, "2", false);
        assert_placed(place(host.one, TYPE_ONE, "2-3"), host.one, "3", false);
        assert_placed(place(host.zero, TYPE_ZERO, "2-4"), host.one, "3-4", false);
        assert_placed(place(add_instance(2, "20"), 10, "2-3"), host.zero, "2", false);
        assert_placed(place(host.one, TYPE_ONE, "0-3"), host.zero, "0-2", false);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_at_home, set_up_types, tear_down),
                cmocka_unit_test_setup_teardown(test_other_type, set_up_types, tear_down),
                cmocka_unit_test_setup_teardown(test_swapped, set_up_types, tear_down),
                cmocka_unit_test_setup_teardown(test_away, set_up_types, tear_down),
                cmocka_unit_test_setup_teardown(test_cut, set_up_types, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
