/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The checks without memory: whatever allocation fails, they fail as a whole and keep nothing, or, where libc
 * can do without it, say the same.
 */

#include "tests/unit/failing-allocator.h"
#include "tests/unit/tree.h"

#include "host/readiness.h"

#define RELEASE "6.12.48+deb13-arm64"

static const Tree *tree;
static const Topology *topology;

/* What is said if nothing fails. */
static Check *expected;
static size_t n_expected;

static int attempt(void) {
        ReadinessInput input = {
                .root_fd = tree->fd,
                .foreign = true,
                .topology = topology,
                .guest = CHECK_FAILED,
                .guest_reason = "Reason.",
                .guest_advice = "advice",
                .trampolines = CHECK_FAILED,
                .trampolines_reason = "Reason.",
                .trampolines_advice = "advice",
        };
        Check *checks = NULL;
        size_t n = 0;
        int r;

        r = readiness_check(&input, &checks, &n);
        if (r < 0) {
                assert_null(checks);
                return r;
        }
        if (!expected) {
                expected = checks;
                n_expected = n;
                return 0;
        }
        assert_int_equal(n, n_expected);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(checks[i].status, expected[i].status);
                assert_string_equal(checks[i].reason, expected[i].reason);
                assert_int_equal(!checks[i].advice, !expected[i].advice);
        }
        readiness_free(checks, n);
        return 0;
}

/* Any one allocation, with those after it good or not. */
static void fail_everywhere(bool once) {
        long n = 0, n_failed = 0, n_before;

        do {
                int r;

                n_before = n_live;
                fail_once = once;
                has_failed = false;
                allowed = n++;
                r = attempt();
                allowed = -1;
                fail_once = false;
                assert_true(r == 0 || (has_failed && r == -ENOMEM));
                assert_int_equal(n_live, n_before);
                n_failed += r < 0;
        } while (has_failed);
        assert_true(n_failed > 20);
}

static void test_memory(void **state) {
        Topology *scanned = NULL;

        if (!ALLOCATOR_CAN_FAIL)
                skip();
        tree = *state;
        tree_put(tree, "proc/sys/kernel/arch", "aarch64\n");
        tree_put(tree, "proc/sys/kernel/osrelease", RELEASE "\n");
        tree_put(tree, "boot/config-" RELEASE, "CONFIG_ARM_SPE_PMU=m\n");
        tree_put(tree, "lib/modules/" RELEASE "/modules.dep", "kernel/drivers/perf/arm_spe_pmu.ko:\n");
        tree_put(tree, "sys/firmware/devicetree/base/compatible", "vendor,board");
        tree_put(tree, "sys/firmware/devicetree/base/spe/compatible",
                 "arm,statistical-profiling-extension-v1");
        tree_put(tree, "sys/kernel/security/lsm", "capability,yama");
        tree_put(tree, "sys/module/arm_spe_pmu/initstate", "live\n");
        tree_mkdir(tree, "sys/bus/platform/drivers/arm_spe_pmu");
        tree_mkdir(tree, "sys/bus/event_source/devices");
        tree_put(tree, "var/log/kmsg", "kvm [1]: Hyp nVHE mode initialized successfully\n");
        assert_int_equal(topology_scan(tree->fd, &scanned), 0);
        topology = scanned;

        assert_int_equal(attempt(), 0);
        fail_everywhere(false);
        fail_everywhere(true);
        readiness_free(expected, n_expected);
        topology_free(scanned);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_memory, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
