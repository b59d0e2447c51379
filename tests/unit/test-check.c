/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the broker tells the checks of a host, and how often it makes them. The checks themselves, the probe
 * of BPF and the clock are scripted.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/check.h"
#include "broker/manager.h"
#include "util/clock.h"

static struct Script {
        int error;          /* of the next readiness_check() */
        uint64_t cost_usec; /* that it takes */
        uint64_t clock_offset_usec;
        BpfProbe bpf;
        ArbitrationLevel level;
        const char *level_reason;
        bool has_arbiter; /* and it has advice */

        unsigned n_made, n_probed;
        ReadinessInput input; /* of the last */
        char guest_reason[128], trampolines_reason[BPF_PROBE_REASON_MAX], level_reason_told[256];
} script;

/* The clock goes on, and by the script's leaps. */
int clock_gettime(clockid_t clock, struct timespec *ret_now) {
        uint64_t usec;

        if (syscall(SYS_clock_gettime, clock, ret_now) < 0)
                return -1;
        if (clock == CLOCK_MONOTONIC) {
                usec = (uint64_t)ret_now->tv_sec * USEC_PER_SEC + (uint64_t)ret_now->tv_nsec / NSEC_PER_USEC +
                       script.clock_offset_usec;
                *ret_now = clock_timespec(usec);
        }
        return 0;
}

void bpf_probe(BpfProbe *ret_probe) {
        script.n_probed++;
        *ret_probe = script.bpf;
}

ArbitrationLevel arbitration_get_level(_unused_ const Arbitration *arbitration) {
        return script.level;
}

const char *arbitration_get_reason(_unused_ const Arbitration *arbitration) {
        return script.level_reason;
}

Arbiter *arbitration_get_arbiter(_unused_ const Arbitration *arbitration) {
        return script.has_arbiter ? (Arbiter *)&script : NULL;
}

const char *arbiter_get_advice(const Arbiter *arbiter) {
        assert_ptr_equal(arbiter, &script);
        return "Boot another kernel.";
}

int readiness_check(const ReadinessInput *input, Check **ret_checks, size_t *ret_n) {
        Check *checks;

        script.n_made++;
        script.input = *input;
        (void)snprintf(script.guest_reason, sizeof(script.guest_reason), "%s", input->guest_reason);
        (void)snprintf(script.trampolines_reason, sizeof(script.trampolines_reason), "%s",
                       input->trampolines_reason);
        (void)snprintf(script.level_reason_told, sizeof(script.level_reason_told), "%s", input->level_reason);
        script.clock_offset_usec += script.cost_usec;
        if (script.error)
                return script.error;

        checks = calloc(1, sizeof(*checks));
        assert_non_null(checks);
        *checks = (Check){.name = "cpu", .reason = strdup("It is one.")};
        *ret_checks = checks;
        *ret_n = 1;
        return 0;
}

void readiness_free(Check *checks, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(checks[i].reason);
                free(checks[i].advice);
        }
        free(checks);
}

const char *check_status_to_string(_unused_ CheckStatus status) {
        return "";
}

static const Config config = {.level = CONFIG_LEVEL_AUTO};

static int setup(void **state) {
        Manager *manager = calloc(1, sizeof(*manager));

        assert_non_null(manager);
        script = (struct Script){.bpf = {.reason = "They do.", .advice = "None."}};
        manager->facts_fd = 42;
        manager->config = (Config *)&config;
        *state = manager;
        return 0;
}

static int teardown(void **state) {
        Manager *manager = *state;

        host_check_deinit(&manager->check);
        assert_int_equal(manager->check.n, 0);
        instance_table_deinit(&manager->model.instances);
        free(manager);
        return 0;
}

static void add_instance(Manager *manager, const char *name, GuestSupport guest, const char *reason) {
        size_t n = manager->model.instances.n;
        Instance *instance;

        assert_int_equal(instance_new(name, (unsigned)n, &instance), 0);
        instance->state = INSTANCE_STATE_READY;
        instance->guest = guest;
        instance->guest_reason = reason ? strdup(reason) : NULL;
        assert_int_equal(instance_table_add(&manager->model.instances, instance), 0);
}

static const HostCheck *make(Manager *manager) {
        const HostCheck *check;

        assert_int_equal(host_check(manager, &check), 0);
        assert_ptr_equal(check, &manager->check);
        return check;
}

static void test_input(void **state) {
        Manager *manager = *state;
        Topology topology = {0};
        const HostCheck *check;

        manager->topology = &topology;
        check = make(manager);
        assert_int_equal(check->n, 1);
        assert_string_equal(check->checks[0].reason, "It is one.");
        assert_int_equal(script.input.root_fd, 42);
        assert_false(script.input.foreign);
        assert_ptr_equal(script.input.topology, &topology);
        assert_false(script.input.memlock_managed);
}

/* What is said of two instances together. */
static void assert_guest(GuestSupport first, GuestSupport second, CheckStatus status, const char *reason) {
        Spu spus[] = {
                {.name = "arm_spe_0", .guest = {.advice = "first's"}},
                {.name = "arm_spe_1", .guest = {.advice = "second's"}},
        };
        Topology topology = {.spus = spus, .n_spus = ELEMENTS_OF(spus)};
        Manager manager = {
                .topology = &topology, .guest.kvm.advice = "nobody's", .config = (Config *)&config};

        add_instance(&manager, "arm_spe_0", first, "because");
        add_instance(&manager, "arm_spe_1", second, "so");
        make(&manager);
        assert_int_equal(script.input.guest, status);
        assert_string_equal(script.guest_reason, reason);
        assert_string_equal(script.input.guest_advice, strstr(reason, "arm_spe_0") ? "first's" : "second's");
        host_check_deinit(&manager.check);
        instance_table_deinit(&manager.model.instances);
}

static void test_guest(void **state) {
        const GuestSupport yes = GUEST_SUPPORT_YES, no = GUEST_SUPPORT_NO, unknown = GUEST_SUPPORT_UNKNOWN;

        (void)state;
        assert_guest(yes, yes, CHECK_OK, "arm_spe_0: because.");
        assert_guest(yes, no, CHECK_WARNING, "arm_spe_1: so.");
        assert_guest(no, yes, CHECK_WARNING, "arm_spe_0: because.");
        assert_guest(unknown, yes, CHECK_WARNING, "arm_spe_0: because.");
        assert_guest(no, no, CHECK_FAILED, "arm_spe_0: because.");
        assert_guest(no, unknown, CHECK_UNKNOWN, "arm_spe_1: so.");
        assert_guest(unknown, unknown, CHECK_UNKNOWN, "arm_spe_0: because.");
}

/* An instance that is not ready is no instance to ask KVM for. */
static void test_guest_of_none(void **state) {
        char reason[] = "it is not there";
        Manager *manager = *state;

        add_instance(manager, "arm_spe_0", GUEST_SUPPORT_NO, "It is not there yet.");
        manager->model.instances.entries[0]->state = INSTANCE_STATE_PARTIAL;
        make(manager);
        assert_int_equal(script.input.guest, CHECK_UNKNOWN);
        assert_string_equal(script.guest_reason, "There is no SPU that KVM could be asked for.");
        assert_null(script.input.guest_advice);

        /* But what KVM refuses altogether it would refuse to any. */
        manager->guest.kvm.answer = GUEST_ANSWER_NO;
        manager->guest.kvm.reason = reason;
        manager->guest.kvm.advice = "Mend it.";
        host_check_forget(&manager->check);
        make(manager);
        assert_int_equal(script.input.guest, CHECK_FAILED);
        assert_string_equal(script.guest_reason, "No SPU is ready, and of KVM itself: it is not there.");
        assert_string_equal(script.input.guest_advice, "Mend it.");

        /* Nor is there advice without what it is for. */
        manager->guest.kvm.answer = GUEST_ANSWER_UNKNOWN;
        host_check_forget(&manager->check);
        make(manager);
        assert_int_equal(script.input.guest, CHECK_UNKNOWN);
        assert_string_equal(script.guest_reason, "No SPU is ready, and of KVM itself: it is not there.");
        assert_string_equal(script.input.guest_advice, "Mend it.");
}

static void test_trampolines(void **state) {
        static const struct {
                BpfProbeResult result;
                CheckStatus status;
        } cases[] = {
                {BPF_PROBE_ATTACHES, CHECK_OK},
                {BPF_PROBE_REFUSED, CHECK_WARNING},
                {BPF_PROBE_UNKNOWN, CHECK_UNKNOWN},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                Manager manager = {.config = (Config *)&config};

                script.bpf.result = cases[i].result;
                make(&manager);
                assert_int_equal(script.input.trampolines, cases[i].status);
                assert_string_equal(script.trampolines_reason, "They do.");
                assert_string_equal(script.input.trampolines_advice, "None.");
                host_check_deinit(&manager.check);
        }
}

static void test_trampolines_once(void **state) {
        Manager *manager = *state;

        for (unsigned i = 1; i <= 3; i++) {
                host_check_forget(&manager->check);
                make(manager);
                assert_int_equal(script.n_made, i);
                assert_int_equal(script.n_probed, 1);
                assert_string_equal(script.trampolines_reason, "They do.");
        }
}

/* The level, with the words that Describe has, and what can be done about it. */
static void test_level(void **state) {
        static const struct {
                ArbitrationLevel level, configured;
                const char *unprotected;
                bool foreign, has_arbiter;
                CheckStatus status;
                const char *reason, *advice; /* the broker's */
                const char *told;
        } cases[] = {
                {ARBITRATION_LEVEL_ENFORCE, CONFIG_LEVEL_AUTO, NULL, false, true, CHECK_OK, NULL, NULL,
                 "Host sessions that stand against leases are refused (level enforce)."},
                {ARBITRATION_LEVEL_RESERVE, CONFIG_LEVEL_AUTO, NULL, false, true, CHECK_WARNING, "no LSM",
                 "Boot another kernel.",
                 "Host sessions are kept off leases, and more of them than need be (level reserve): no LSM."},
                {ARBITRATION_LEVEL_RESERVE, CONFIG_LEVEL_AUTO, NULL, false, false, CHECK_WARNING, "no BPF",
                 NULL,
                 "Host sessions are kept off leases, and more of them than need be (level reserve): no BPF."},
                {ARBITRATION_LEVEL_OBSERVE, CONFIG_LEVEL_AUTO, NULL, false, true, CHECK_WARNING, "no lock",
                 "Boot another kernel.",
                 "Host sessions are seen, and not kept off (level observe): no lock."},
                /* The operator wants it so. */
                {ARBITRATION_LEVEL_OBSERVE, ARBITRATION_LEVEL_OBSERVE, NULL, false, true, CHECK_OK, "so",
                 NULL, "Host sessions are seen, and not kept off (level observe): so."},
                {ARBITRATION_LEVEL_NONE, ARBITRATION_LEVEL_NONE, NULL, false, false, CHECK_OK, "so", NULL,
                 "Host sessions are neither seen nor kept off (level none): so."},
                /* The operator wants more than there is. */
                {ARBITRATION_LEVEL_OBSERVE, ARBITRATION_LEVEL_ENFORCE, "no LSM", false, true, CHECK_FAILED,
                 "no LSM",
                 "Say Level=auto in section [Arbitration] of spe-broker.conf, or nothing, then: speadm "
                 "reload",
                 "Host sessions are seen, and not kept off (level observe), so leases that may not share "
                 "are refused: no LSM."},
                {ARBITRATION_LEVEL_NONE, CONFIG_LEVEL_AUTO, NULL, true, false, CHECK_UNKNOWN, "elsewhere",
                 NULL, "Host sessions are neither seen nor kept off (level none): elsewhere."},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                Config configured = {.level = cases[i].configured};
                Manager manager = {
                        .config = &configured,
                        .foreign = cases[i].foreign,
                        .model.unprotected_reason = cases[i].unprotected,
                };

                script.level = cases[i].level;
                script.level_reason = cases[i].reason;
                script.has_arbiter = cases[i].has_arbiter;
                make(&manager);
                assert_int_equal(script.input.level, cases[i].status);
                assert_string_equal(script.level_reason_told, cases[i].told);
                if (cases[i].advice)
                        assert_string_equal(script.input.level_advice, cases[i].advice);
                else
                        assert_null(script.input.level_advice);
                host_check_deinit(&manager.check);
        }
}

/* The running kernel says nothing about another machine, and is left alone. */
static void test_foreign(void **state) {
        Manager *manager = *state;

        manager->foreign = true;
        make(manager);
        assert_true(script.input.foreign);
        assert_int_equal(script.n_probed, 0);
        assert_int_equal(script.input.trampolines, CHECK_UNKNOWN);
        assert_non_null(strstr(script.trampolines_reason, "not that of the host"));
        assert_null(script.input.trampolines_advice);
}

/* However often it is asked for, a tenth of the time goes into it. */
static void test_share(void **state) {
        const uint64_t hour = USEC_PER_HOUR;
        Manager *manager = *state;

        script.cost_usec = hour;
        make(manager);
        make(manager);
        assert_int_equal(script.n_made, 1);

        script.clock_offset_usec += 9 * hour - USEC_PER_MIN;
        make(manager);
        assert_int_equal(script.n_made, 1);

        script.clock_offset_usec += 2 * USEC_PER_MIN;
        make(manager);
        assert_int_equal(script.n_made, 2);

        host_check_forget(&manager->check);
        make(manager);
        assert_int_equal(script.n_made, 3);
}

static void test_error(void **state) {
        Manager *manager = *state;
        const HostCheck *check = NULL;

        script.error = -ENOMEM;
        script.cost_usec = USEC_PER_HOUR;
        assert_int_equal(host_check(manager, &check), -ENOMEM);
        assert_null(check);

        /* The next call tries again. */
        script.error = 0;
        assert_int_equal(make(manager)->n, 1);

        /* What there was stays until there is something better. */
        host_check_forget(&manager->check);
        script.error = -ENOMEM;
        assert_int_equal(host_check(manager, &check), -ENOMEM);
        assert_int_equal(manager->check.n, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_input, setup, teardown),
                cmocka_unit_test_setup_teardown(test_guest, setup, teardown),
                cmocka_unit_test_setup_teardown(test_guest_of_none, setup, teardown),
                cmocka_unit_test_setup_teardown(test_trampolines, setup, teardown),
                cmocka_unit_test_setup_teardown(test_trampolines_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_level, setup, teardown),
                cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
                cmocka_unit_test_setup_teardown(test_share, setup, teardown),
                cmocka_unit_test_setup_teardown(test_error, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
