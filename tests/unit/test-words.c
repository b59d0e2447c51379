/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/words.h"
#include "util/cleanup.h"

/* The words are the interface: written here a second time, so that none changes unnoticed. */

static void test_modes(_unused_ void **state) {
        static const char *const words[] = {"exclusive", "guest", "shared"};

        assert_int_equal(ELEMENTS_OF(words), _LEASE_MODE_MAX);
        for (LeaseMode mode = 0; mode < _LEASE_MODE_MAX; mode++) {
                assert_string_equal(lease_mode_to_string(mode), words[mode]);
                assert_int_equal(lease_mode_from_string(words[mode]), mode);
        }

        assert_int_equal(lease_mode_from_string("Guest"), _LEASE_MODE_INVALID);
        assert_int_equal(lease_mode_from_string("guest "), _LEASE_MODE_INVALID);
        assert_int_equal(lease_mode_from_string("gues"), _LEASE_MODE_INVALID);
        assert_int_equal(lease_mode_from_string(""), _LEASE_MODE_INVALID);
}

static void test_owners(_unused_ void **state) {
        static const char *const words[] = {"host", "guest", "any", "none"};

        assert_int_equal(ELEMENTS_OF(words), _ASSIGNMENT_OWNER_MAX);
        for (AssignmentOwner owner = 0; owner < _ASSIGNMENT_OWNER_MAX; owner++) {
                assert_string_equal(assignment_owner_to_string(owner), words[owner]);
                assert_int_equal(assignment_owner_from_string(words[owner]), owner);
        }

        assert_int_equal(assignment_owner_from_string("shared"), _ASSIGNMENT_OWNER_INVALID);
        assert_int_equal(assignment_owner_from_string("hosts"), _ASSIGNMENT_OWNER_INVALID);
}

static void test_origins(_unused_ void **state) {
        static const char *const words[] = {"config", "persistent", "runtime"};

        assert_int_equal(ELEMENTS_OF(words), _ASSIGNMENT_ORIGIN_MAX);
        for (AssignmentOrigin origin = 0; origin < _ASSIGNMENT_ORIGIN_MAX; origin++) {
                assert_string_equal(assignment_origin_to_string(origin), words[origin]);
                assert_int_equal(assignment_origin_from_string(words[origin]), origin);
        }

        assert_int_equal(assignment_origin_from_string("caller"), _ASSIGNMENT_ORIGIN_INVALID);
}

static void test_gate_levels(_unused_ void **state) {
        static const char *const words[] = {"off", "log", "enforce"};

        assert_int_equal(ELEMENTS_OF(words), _GATE_LEVEL_MAX);
        for (GateLevel level = 0; level < _GATE_LEVEL_MAX; level++) {
                assert_string_equal(gate_level_to_string(level), words[level]);
                assert_int_equal(gate_level_from_string(words[level]), level);
        }
        assert_int_equal(gate_level_from_string("auto"), _GATE_LEVEL_INVALID);
}

static void test_levels(_unused_ void **state) {
        static const char *const words[] = {"none", "observe", "reserve", "enforce"};

        assert_int_equal(ELEMENTS_OF(words), _ARBITRATION_LEVEL_MAX);
        for (ArbitrationLevel level = 0; level < _ARBITRATION_LEVEL_MAX; level++) {
                assert_string_equal(arbitration_level_to_string(level), words[level]);
                assert_int_equal(arbitration_level_from_string(words[level]), level);
        }

        assert_int_equal(arbitration_level_from_string("auto"), _ARBITRATION_LEVEL_INVALID);
}

static void test_lease_states(_unused_ void **state) {
        static const char *const words[] = {"queued", "granted", "revoking", "revoked", "ended"};

        assert_int_equal(ELEMENTS_OF(words), _LEASE_STATE_MAX);
        for (LeaseState s = 0; s < _LEASE_STATE_MAX; s++) {
                assert_string_equal(lease_state_to_string(s), words[s]);
                assert_int_equal(lease_state_from_string(words[s]), s);
        }

        assert_int_equal(lease_state_from_string("ready"), _LEASE_STATE_INVALID);
}

static void test_vm_origins(_unused_ void **state) {
        static const char *const words[] = {"administrator", "machine", "unit", "caller"};

        assert_int_equal(ELEMENTS_OF(words), _VM_ORIGIN_MAX);
        for (VmOrigin o = 0; o < _VM_ORIGIN_MAX; o++) {
                assert_string_equal(vm_origin_to_string(o), words[o]);
                assert_int_equal(vm_origin_from_string(words[o]), o);
        }

        assert_int_equal(vm_origin_from_string("runtime"), _VM_ORIGIN_INVALID);
}

static void test_said_only(_unused_ void **state) {
        static const char *const instance_states[] = {"ready", "partial", "gone"};
        static const char *const session_kinds[] = {"cpu", "task", "taskcpu"};
        static const char *const guest_supports[] = {"yes", "no", "unknown"};

        assert_int_equal(ELEMENTS_OF(instance_states), _INSTANCE_STATE_MAX);
        for (InstanceState s = 0; s < _INSTANCE_STATE_MAX; s++)
                assert_string_equal(instance_state_to_string(s), instance_states[s]);

        assert_int_equal(ELEMENTS_OF(session_kinds), _SESSION_KIND_MAX);
        for (SessionKind k = 0; k < _SESSION_KIND_MAX; k++)
                assert_string_equal(session_kind_to_string(k), session_kinds[k]);

        assert_int_equal(ELEMENTS_OF(guest_supports), _GUEST_SUPPORT_MAX);
        for (GuestSupport g = 0; g < _GUEST_SUPPORT_MAX; g++)
                assert_string_equal(guest_support_to_string(g), guest_supports[g]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_modes),       cmocka_unit_test(test_owners),
                cmocka_unit_test(test_origins),     cmocka_unit_test(test_levels),
                cmocka_unit_test(test_gate_levels), cmocka_unit_test(test_lease_states),
                cmocka_unit_test(test_vm_origins),  cmocka_unit_test(test_said_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
