/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "host/readiness.h"
#include "tests/unit/tree.h"

#define DEVICES "sys/bus/event_source/devices/"

/* The documented names, in their documented order. */
static const char *const names[] = {"cpu",           "firmware",     "kpti",      "driver-built",
                                    "driver-loaded", "driver-probe", "instances", "mem-sampling",
                                    "perf-paranoid", "kvm",          "kvm-mode",  "guest",
                                    "memlock",       "btf",          "bpf-lsm",   "trampolines"};

typedef struct Answers {
        Topology *topology;
        ReadinessInput input;
        Check *checks;
        size_t n;
} Answers;

static Answers *ask(const Tree *tree, Answers *answers) {
        *answers = (Answers){0};
        assert_int_equal(topology_scan(tree->fd, &answers->topology), 0);
        answers->input = (ReadinessInput){
                .root_fd = tree->fd,
                .foreign = true,
                .topology = answers->topology,
                .guest = CHECK_UNKNOWN,
                .guest_reason = "Not asked.",
                .trampolines = CHECK_UNKNOWN,
                .trampolines_reason = "Not tried.",
        };
        assert_int_equal(readiness_check(&answers->input, &answers->checks, &answers->n), 0);
        return answers;
}

static void answers_done(Answers *answers) {
        readiness_free(answers->checks, answers->n);
        topology_free(answers->topology);
}

static void assert_check(const Answers *answers, const char *name, CheckStatus status, const char *reason,
                         const char *advice) {
        for (size_t i = 0; i < answers->n; i++) {
                const Check *check = &answers->checks[i];

                if (strcmp(check->name, name) != 0)
                        continue;
                assert_string_equal(check->reason, reason);
                assert_int_equal(check->status, status);
                if (advice) {
                        assert_non_null(check->advice);
                        assert_string_equal(check->advice, advice);
                } else
                        assert_null(check->advice);
                return;
        }
        fail();
}

static void put_spu(const Tree *tree) {
        tree_put(tree, "sys/devices/system/cpu/possible", "0-7\n");
        tree_put(tree, "sys/devices/system/cpu/online", "0-7\n");
        tree_put(tree, DEVICES "arm_spe_0/type", "8\n");
        tree_put(tree, DEVICES "arm_spe_0/cpumask", "0-7\n");
        tree_put(tree, DEVICES "arm_spe_0/format/ts_enable", "config:0\n");
}

/* Of nothing, nothing is said to be ok or to have failed but what the caller says. */
static void test_empty(void **state) {
        Answers answers;

        ask(*state, &answers);
        assert_int_equal(answers.n, sizeof(names) / sizeof(names[0]));
        for (size_t i = 0; i < answers.n; i++) {
                const Check *check = &answers.checks[i];

                assert_string_equal(check->name, names[i]);
                assert_non_null(check->reason);
                assert_int_equal(check->reason[strlen(check->reason) - 1], '.');
                assert_int_equal(check->status,
                                 strcmp(check->name, "memlock") == 0 ? CHECK_WARNING : CHECK_UNKNOWN);
        }
        answers_done(&answers);
}

static void test_registered(void **state) {
        static const char *const proven[] = {"cpu",           "firmware",     "kpti",     "driver-built",
                                             "driver-loaded", "driver-probe", "instances"};
        Answers answers;

        put_spu(*state);
        ask(*state, &answers);
        for (size_t i = 0; i < ELEMENTS_OF(proven); i++) {
                assert_string_equal(answers.checks[i].name, proven[i]);
                assert_int_equal(answers.checks[i].status, CHECK_OK);
                assert_non_null(strstr(answers.checks[i].reason, "arm_spe_0"));
        }
        assert_check(&answers, "instances", CHECK_OK, "arm_spe_0 is ready, on CPUs 0-7.", NULL);
        assert_check(&answers, "guest", CHECK_UNKNOWN, "Not asked.", NULL);
        answers_done(&answers);
}

static void test_statuses(_unused_ void **state) {
        assert_string_equal(check_status_to_string(CHECK_OK), "ok");
        assert_string_equal(check_status_to_string(CHECK_WARNING), "warning");
        assert_string_equal(check_status_to_string(CHECK_FAILED), "failed");
        assert_string_equal(check_status_to_string(CHECK_UNKNOWN), "unknown");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_empty, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_registered, tree_setup, tree_teardown),
                cmocka_unit_test(test_statuses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
