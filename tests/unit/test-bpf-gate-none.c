/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A build without BPF: no gate, with a reason. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bpf/gate.h"

static bool stays(OwnerKey owner, uint64_t pmu_type, void *userdata) {
        (void)owner;
        (void)pmu_type;
        (void)userdata;
        fail_msg("nobody is allowed anything");
        return false;
}

static void refused(const GateRefusal *refusal, void *userdata) {
        (void)refusal;
        (void)userdata;
        fail_msg("nobody is refused");
}

static void test_none(void **state) {
        _cleanup_(gate_freep) Gate *gate = NULL;
        GateRule rule = {.action = GATE_ACTION_REFUSE};
        GateGrant grant = {.owner = 1};
        GateCounters counters;
        NamedFd kept;

        (void)state;
        assert_int_equal(gate_new(NULL, 0, &gate), 0);
        assert_false(gate_is_attached(gate));
        assert_non_null(strstr(gate_get_reason(gate), "without BPF"));
        assert_non_null(gate_get_advice(gate));
        gate_set_rule(gate, &rule);
        assert_int_equal(gate_allow(gate, &grant), 0);
        assert_int_equal(gate_disallow(gate, 1, GATE_SPU_ANY), 0);
        assert_int_equal(gate_disallow_others(gate, stays, NULL), 0);
        assert_int_equal(gate_get_fd(gate), -1);
        assert_int_equal(gate_process(gate, refused, NULL), 0);
        assert_int_equal(gate_get_kept(gate, &kept, 1), 0);
        gate_get_counters(gate, &counters);
        assert_int_equal(counters.refused + counters.reported + counters.lost, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
