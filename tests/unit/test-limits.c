/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/limits.h"
#include "util/cleanup.h"

static LimitOverride overrides[] = {
        {.vm = (char *)"web", .max_buffer_size = 11, .max_memory = 12},
        {.vm = (char *)"half", .max_memory = 13},
        {.uid = 1000, .max_buffer_size = 21, .max_memory = 22},
        {.uid = 2000, .max_buffer_size = 23},
        {.vm = (char *)"nothing"},
        {.uid = 0, .max_memory = 24},
};

static const Limits limits = {
        .max_buffer_size = 1,
        .max_memory_per_vm = 2,
        .max_memory_per_user = 3,
        .max_memory = 4,
        .overrides = overrides,
        .n_overrides = ELEMENTS_OF(overrides),
};

static void assert_view(uid_t uid, const char *vm, VmOrigin origin, uint64_t buffer, uint64_t per_vm,
                        uint64_t per_user) {
        LimitsView view;

        limits_view(&limits, uid, vm, origin, &view);
        assert_int_equal(view.max_buffer_size, buffer);
        assert_int_equal(view.max_memory_per_vm, per_vm);
        assert_int_equal(view.max_memory_per_user, per_user);
}

static void test_view(_unused_ void **state) {
        assert_view(7, "other", VM_ORIGIN_UNIT, 1, 2, 3);
        assert_view(7, "nothing", VM_ORIGIN_UNIT, 1, 2, 3);
        assert_view(7, "web", VM_ORIGIN_UNIT, 11, 12, 3);
        assert_view(7, "half", VM_ORIGIN_UNIT, 1, 13, 3);
        assert_view(1000, "other", VM_ORIGIN_UNIT, 21, 2, 22);
        assert_view(2000, "other", VM_ORIGIN_UNIT, 23, 2, 3);
        assert_view(0, "other", VM_ORIGIN_UNIT, 1, 2, 24); /* a VM's section has no user, not user 0 */

        /* The VM's section beats the user's, key by key. */
        assert_view(1000, "web", VM_ORIGIN_UNIT, 11, 12, 22);
        assert_view(1000, "half", VM_ORIGIN_UNIT, 21, 13, 22);
}

static void test_claimed_names(_unused_ void **state) {
        assert_view(7, "web", VM_ORIGIN_ADMINISTRATOR, 11, 12, 3);
        assert_view(7, "web", VM_ORIGIN_MACHINE, 11, 12, 3);
        assert_view(7, "web", VM_ORIGIN_CALLER, 1, 2, 3);
        assert_view(1000, "web", VM_ORIGIN_CALLER, 21, 2, 22); /* the user is no claim */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_view),
                cmocka_unit_test(test_claimed_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
