/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The twin: a build without BPF says that it is one, and claims nothing about the kernel. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bpf/probe.h"

static void test_says_why(void **state) {
        BpfProbe probe = {.result = BPF_PROBE_ATTACHES, .advice = "nonsense"};

        (void)state;
        bpf_silence();
        bpf_probe(&probe);
        assert_int_equal(probe.result, BPF_PROBE_UNKNOWN);
        assert_non_null(strstr(probe.reason, "built without BPF"));
        assert_null(probe.advice);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_says_why),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
