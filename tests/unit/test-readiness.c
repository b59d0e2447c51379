/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "host/readiness.h"
#include "tests/unit/tree.h"

#define DEVICES "sys/bus/event_source/devices/"

/* The documented names, in their documented order. */
static const char *const names[] = {
        "cpu",       "firmware",     "kpti",          "driver-built", "driver-loaded", "driver-probe",
        "instances", "mem-sampling", "perf-paranoid", "kvm",          "kvm-mode",      "guest",
        "memlock",   "btf",          "bpf-lsm",       "trampolines",  "level"};

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
                .level = CHECK_UNKNOWN,
                .level_reason = "Not told.",
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

/* Nothing is a file that should be one: it is as if it were not there, and nobody waits for it. */
static void test_fifos(void **state) {
        static const char *const paths[] = {
                "proc/sys/kernel/arch",
                "proc/sys/kernel/osrelease",
                "proc/sys/kernel/perf_event_paranoid",
                "proc/sys/kernel/mem_sampling_enable",
                "proc/cmdline",
                "proc/cpuinfo",
                "etc/os-release",
                "var/log/kmsg",
                "sys/kernel/security/lsm",
                "sys/class/dmi/id/sys_vendor",
                "sys/hypervisor/type",
                "sys/devices/system/cpu/vulnerabilities/meltdown",
                "sys/firmware/devicetree/base/compatible",
        };
        Answers answers;

        for (size_t i = 0; i < ELEMENTS_OF(paths); i++)
                tree_fifo(*state, paths[i]);
        ask(*state, &answers);
        assert_check(&answers, "perf-paranoid", CHECK_UNKNOWN,
                     "kernel.perf_event_paranoid cannot be read here.", NULL);
        assert_check(&answers, "bpf-lsm", CHECK_UNKNOWN,
                     "The list of security modules (/sys/kernel/security/lsm) cannot be read here.", NULL);
        assert_check(&answers, "kvm-mode", CHECK_UNKNOWN,
                     "KVM's mode stands in the kernel log only: the kernel log cannot be read.", NULL);
        answers_done(&answers);
}

/* What goes into a sentence is made printable, what would go into a command must be what it seems. */
static void test_hostile_text(void **state) {
        Answers answers;

        tree_put(*state, "sys/kernel/security/lsm", "yama';reboot;'");
        tree_put(*state, "proc/sys/kernel/arch", "\033[31mred\xff\n");
        tree_put(*state, "proc/sys/kernel/perf_event_paranoid", "99999999999999999999\n");
        tree_put(*state, "proc/sys/kernel/mem_sampling_enable", "-0x1\n");
        ask(*state, &answers);
        assert_check(&answers, "cpu", CHECK_FAILED,
                     "SPE is a part of Arm's 64-bit CPUs, and this machine is ?[31mred?.", NULL);
        assert_check(&answers, "bpf-lsm", CHECK_UNKNOWN,
                     "The list of security modules (/sys/kernel/security/lsm) cannot be read here.", NULL);
        assert_int_equal(answers.checks[7].status, CHECK_UNKNOWN);
        assert_int_equal(answers.checks[8].status, CHECK_UNKNOWN);
        answers_done(&answers);
}

/* A directory's name is text from outside, too. */
static void test_hostile_node(void **state) {
        Answers answers;

        tree_put(*state, "proc/sys/kernel/arch", "aarch64\n");
        tree_put_n(*state, "sys/firmware/devicetree/base/s\n\033\xff/compatible",
                   "arm,statistical-profiling-extension-v1",
                   sizeof("arm,statistical-profiling-extension-v1"));
        tree_put_n(*state, "sys/firmware/devicetree/base/s\n\033\xff/status", "disabled", sizeof("disabled"));
        ask(*state, &answers);
        assert_check(&answers, "firmware", CHECK_FAILED, "The device tree has /s???, disabled.",
                     "Set status = \"okay\" in node /s??? of the device tree, or update the firmware.");
        answers_done(&answers);
}

/* There is always one. */
static void test_empty_lsm_list(void **state) {
        Answers answers;

        tree_put(*state, "sys/kernel/security/lsm", "\n");
        ask(*state, &answers);
        assert_check(&answers, "bpf-lsm", CHECK_UNKNOWN,
                     "The list of security modules (/sys/kernel/security/lsm) cannot be read here.", NULL);
        answers_done(&answers);
}

/* As long as it can be: each name with its comma. */
static void test_long_lsm_list(void **state) {
        char list[512], expected[1024];
        Answers answers;

        for (size_t i = 0; i < sizeof(list); i += 2)
                memcpy(list + i, "a,", 2);
        list[sizeof(list) - 1] = '\0'; /* in place of the last comma */
        (void)snprintf(expected, sizeof(expected), "Add lsm=%s,bpf to the kernel's command line and reboot.",
                       list);
        tree_put(*state, "sys/kernel/security/lsm", list);
        ask(*state, &answers);
        assert_string_equal(answers.checks[14].name, "bpf-lsm");
        assert_int_equal(answers.checks[14].status, CHECK_WARNING);
        assert_string_equal(answers.checks[14].advice, expected);
        answers_done(&answers);

        /* bpf is a whole name, and capability is only left out as one. */
        tree_put(*state, "sys/kernel/security/lsm", "capability,cap,bpfx,,xbpf");
        ask(*state, &answers);
        assert_string_equal(answers.checks[14].advice,
                            "Add lsm=cap,bpfx,xbpf,bpf to the kernel's command line and reboot.");
        answers_done(&answers);
        tree_put(*state, "sys/kernel/security/lsm", "capability,bpf");
        ask(*state, &answers);
        assert_check(&answers, "bpf-lsm", CHECK_OK, "The security modules of this kernel are capability,bpf.",
                     NULL);
        answers_done(&answers);
}

/* On the running machine the log is the device, and who may not read it is told how. */
static void test_running(void **state) {
        const Tree *tree = *state;
        uid_t user = geteuid();
        Answers answers, foreign;

        tree_put(tree, "var/log/kmsg", "kvm [1]: VHE mode initialized successfully\n");
        tree_put(tree, "dev/kmsg", "");
        assert_int_equal(topology_scan(tree->fd, &answers.topology), 0);
        answers.input = (ReadinessInput){
                .root_fd = tree->fd,
                .topology = answers.topology,
                .guest = CHECK_UNKNOWN,
                .trampolines = CHECK_UNKNOWN,
                .level = CHECK_UNKNOWN,
        };
        assert_int_equal(fchmod(tree->fd, 0755), 0);
        assert_int_equal(fchmodat(tree->fd, "dev", 0755, 0), 0);
        assert_int_equal(fchmodat(tree->fd, "dev/kmsg", 0, 0), 0);
        assert_int_equal(fchmodat(tree->fd, "var", 0755, 0), 0);
        assert_int_equal(fchmodat(tree->fd, "var/log", 0755, 0), 0);
        assert_int_equal(fchmodat(tree->fd, "var/log/kmsg", 0, 0), 0);
        if (user == 0)
                assert_int_equal(seteuid(65534), 0);
        assert_int_equal(readiness_check(&answers.input, &answers.checks, &answers.n), 0);
        answers.input.foreign = true;
        assert_int_equal(readiness_check(&answers.input, &foreign.checks, &foreign.n), 0);
        assert_int_equal(seteuid(user), 0);
        assert_check(&foreign, "kvm-mode", CHECK_UNKNOWN,
                     "KVM's mode stands in the kernel log only: the kernel log may not be read.", NULL);
        readiness_free(foreign.checks, foreign.n);
        assert_check(&answers, "kvm-mode", CHECK_UNKNOWN,
                     "KVM's mode stands in the kernel log only: the kernel log may not be read.",
                     "sysctl kernel.dmesg_restrict=0");
        assert_check(&answers, "guest", CHECK_UNKNOWN, "No reason is known.", NULL);
        answers_done(&answers);
}

/* What was probed and tried is handed on; that KVM gives an SPU to a guest proves what comes before. */
static void test_given(void **state) {
        Answers answers;
        Check *checks;
        size_t n;

        put_spu(*state);
        ask(*state, &answers);
        answers.input.guest = CHECK_OK;
        answers.input.guest_reason = "Yes.";
        answers.input.trampolines = CHECK_FAILED;
        answers.input.trampolines_reason = "No.";
        answers.input.trampolines_advice = "try again";
        answers.input.level = CHECK_FAILED;
        answers.input.level_reason = "Too low.";
        answers.input.level_advice = "raise it";
        answers.input.memlock_managed = answers.input.memlock_able = true;
        checks = answers.checks;
        n = answers.n;
        assert_int_equal(readiness_check(&answers.input, &answers.checks, &answers.n), 0);
        readiness_free(checks, n);
        assert_check(&answers, "kvm", CHECK_OK, "KVM is there: it was asked for a guest.", NULL);
        assert_check(&answers, "kvm-mode", CHECK_OK, "KVM gives SPE to guests in this mode.", NULL);
        assert_check(&answers, "guest", CHECK_OK, "Yes.", NULL);
        assert_check(&answers, "memlock", CHECK_OK,
                     "The broker raises RLIMIT_MEMLOCK for the leases that it grants.", NULL);
        assert_check(&answers, "trampolines", CHECK_WARNING, "No.", "try again");
        assert_check(&answers, "level", CHECK_FAILED, "Too low.", "raise it");
        answers.input.memlock_able = false;
        readiness_free(answers.checks, answers.n);
        assert_int_equal(readiness_check(&answers.input, &answers.checks, &answers.n), 0);
        assert_check(&answers, "memlock", CHECK_WARNING,
                     "The broker lacks CAP_SYS_RESOURCE, so it cannot raise RLIMIT_MEMLOCK: KVM refuses a "
                     "guest's buffer that is above the limit of its VMM.",
                     "Give spe-broker CAP_SYS_RESOURCE, as its unit does.");
        answers_done(&answers);
}

/* Some SPUs are given and others not: that takes KVM too. */
static void test_given_some(void **state) {
        Answers answers;
        Check *checks;

        put_spu(*state);
        ask(*state, &answers);
        checks = answers.checks;
        answers.input.guest = CHECK_WARNING;
        answers.input.guest_reason = "One of two.";
        assert_int_equal(readiness_check(&answers.input, &answers.checks, &answers.n), 0);
        readiness_free(checks, answers.n);
        assert_check(&answers, "kvm-mode", CHECK_OK, "KVM gives SPE to guests in this mode.", NULL);
        assert_check(&answers, "guest", CHECK_WARNING, "One of two.", NULL);
        answers_done(&answers);
}

/* Kernels before 6.1 do not name their architecture; /proc/cpuinfo of many CPUs is long. */
static void test_architecture(void **state) {
        static char cpuinfo[1 << 20];
        Answers answers;

        for (size_t i = 0; i + 128 < sizeof(cpuinfo); i += strlen(cpuinfo + i))
                (void)snprintf(cpuinfo + i, 128, "processor\t: 0\nvendor_id\t: GenuineIntel\n\n");
        tree_put(*state, "proc/cpuinfo", cpuinfo);
        ask(*state, &answers);
        assert_check(&answers, "cpu", CHECK_FAILED,
                     "SPE is a part of Arm's 64-bit CPUs, and this machine is x86.", NULL);
        answers_done(&answers);

        tree_put(*state, "proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\n");
        ask(*state, &answers);
        assert_check(&answers, "cpu", CHECK_UNKNOWN,
                     "Only the driver can tell whether these CPUs have SPE, and it has not.", NULL);
        answers_done(&answers);

        tree_put(*state, "sys/hypervisor/type", "xen\n");
        ask(*state, &answers);
        assert_check(&answers, "cpu", CHECK_UNKNOWN,
                     "This is a virtual machine (Xen), and only the driver can tell whether it has SPE.",
                     NULL);
        answers_done(&answers);
}

/* A release becomes part of paths, and stays below them. */
static void test_release(void **state) {
        Answers answers;

        tree_put(*state, "proc/sys/kernel/arch", "aarch64\n");
        tree_put(*state, "elsewhere/modules.builtin", "kernel/drivers/perf/arm_spe_pmu.ko\n");
        tree_mkdir(*state, "lib/modules");
        tree_put(*state, "proc/sys/kernel/osrelease", "../../elsewhere\n");
        ask(*state, &answers);
        assert_check(&answers, "driver-built", CHECK_UNKNOWN,
                     "Neither the lists of modules nor the configuration of this kernel can be read.", NULL);
        answers_done(&answers);
        tree_put(*state, "lib/modules/x/modules.builtin", "kernel/drivers/perf/arm_spe_pmu.ko\n");
        tree_put(*state, "proc/sys/kernel/osrelease", "x/../x\n");
        ask(*state, &answers);
        assert_int_equal(answers.checks[3].status, CHECK_UNKNOWN);
        answers_done(&answers);
        tree_put(*state, "proc/sys/kernel/osrelease", "x\n");
        ask(*state, &answers);
        assert_check(&answers, "driver-built", CHECK_OK, "The driver is built into the kernel.", NULL);
        answers_done(&answers);
}

/* What is installed for this kernel may differ from what runs; an SPU that is there proves its driver. */
static void test_proven_driver(void **state) {
        Answers answers;

        tree_put(*state, "proc/sys/kernel/osrelease", "x\n");
        tree_put(*state, "boot/config-x", "# CONFIG_ARM_SPE_PMU is not set\n");
        ask(*state, &answers);
        assert_check(&answers, "driver-built", CHECK_FAILED,
                     "The driver arm_spe_pmu is neither built into kernel x nor among its modules.",
                     "Boot a kernel that is built with CONFIG_ARM_SPE_PMU=m.");
        answers_done(&answers);
        put_spu(*state);
        ask(*state, &answers);
        assert_check(&answers, "driver-built", CHECK_OK,
                     "The kernel has the driver: arm_spe_0 is registered.", NULL);
        answers_done(&answers);
}

static void test_paranoid(void **state) {
        static const struct {
                const char *text;
                CheckStatus status;
        } levels[] = {
                {"-1\n", CHECK_WARNING}, {"0\n", CHECK_WARNING}, {"1\n", CHECK_OK},
                {"4\n", CHECK_OK},       {"x\n", CHECK_UNKNOWN}, {"\n", CHECK_UNKNOWN},
        };

        for (size_t i = 0; i < ELEMENTS_OF(levels); i++) {
                Answers answers;

                tree_put(*state, "proc/sys/kernel/perf_event_paranoid", levels[i].text);
                ask(*state, &answers);
                assert_string_equal(answers.checks[8].name, "perf-paranoid");
                assert_int_equal(answers.checks[8].status, levels[i].status);
                answers_done(&answers);
        }
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
                cmocka_unit_test_setup_teardown(test_fifos, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_hostile_text, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_hostile_node, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_empty_lsm_list, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_long_lsm_list, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_running, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_given, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_given_some, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_architecture, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_release, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_proven_driver, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_paranoid, tree_setup, tree_teardown),
                cmocka_unit_test(test_statuses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
