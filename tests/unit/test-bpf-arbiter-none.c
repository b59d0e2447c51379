/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The twin: a build without BPF has no hook, says so, and does nothing else. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bpf/arbiter.h"

static void test_says_why(void **state) {
        _cleanup_(arbiter_freep) Arbiter *arbiter = NULL;
        NamedFd kept = {.name = "arbiter-0-sessions", .fd = 3};

        (void)state;
        assert_int_equal(arbiter_new(ARBITER_HOOK_LSM, &kept, 1, &arbiter), 0);
        assert_int_equal(arbiter_get_hook(arbiter), ARBITER_HOOK_NONE);
        assert_non_null(strstr(arbiter_get_reason(arbiter), "built without BPF"));
        assert_non_null(strstr(arbiter_get_advice(arbiter), "SPE_BPF=ON"));
        assert_int_equal(kept.fd, 3);
        assert_int_equal(arbiter_get_kept(arbiter, NULL, 0), 0);
}

static void test_does_nothing(void **state) {
        _cleanup_(arbiter_freep) Arbiter *arbiter = NULL;
        ArbiterSession *sessions = (void *)state;
        ArbiterCounters counters = {.opened = 1};
        size_t n = 1;

        assert_int_equal(arbiter_new(ARBITER_HOOK_LSM, NULL, 0, &arbiter), 0);
        assert_int_equal(arbiter_get_fd(arbiter), -1);
        assert_int_equal(arbiter_process(arbiter, NULL, NULL), 0);
        assert_int_equal(arbiter_set_pmus(arbiter, NULL, 0), 0);
        arbiter_close(arbiter, &(ArbiterClosed){0});
        assert_int_equal(arbiter_close_owner(arbiter, 1, &CPUSET_NULL), 0);
        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        arbiter_forget(arbiter, 1);
        assert_true(arbiter_get_generation(arbiter) == 0);
        arbiter_get_counters(arbiter, &counters);
        assert_true(counters.opened == 0);
        assert_int_equal(arbiter_read(arbiter, &sessions, &n), 0);
        assert_null(sessions);
        assert_int_equal(n, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_says_why),
                cmocka_unit_test(test_does_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
