/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * <spebroker/kvm.h> with a broker that plays a script, against the model of KVM: what is asked of the broker,
 * how often, and what becomes of each answer; and whose VM and whose connection it is.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/kvm-fixture.h"
#include "tests/unit/scripted-client.h"

/* All of what the lease's buffer needs but 64 KiB. */
#define LIMIT   65536U
#define MISSING "4128768"

#define CALL(method, parameters) \
        "{\"method\":\"io.spebroker.Broker." method "\",\"parameters\":{" parameters "}}"
#define UPDATE(missing) CALL("Update", "\"leaseId\":\"" LEASE_A "\",\"memlockMissing\":" missing)
#define LIST            CALL("ListLeases", "\"vm\":\"a\"")
#define DESCRIBE        CALL("Describe", "")
#define CHECK_HOST      CALL("CheckHost", "")

#define LEASE_AS(id, type, cpus, memlock, state)                                                            \
        "{\"leaseId\":\"" id                                                                                \
        "\",\"vm\":\"a\",\"vmOrigin\":\"caller\",\"instance\":\"arm_spe_0\",\"pmuType\":" type              \
        ",\"cpus\":\"" cpus                                                                                 \
        "\",\"vcpus\":2,\"bufferSize\":4194304,\"requestedBufferSize\":4194304,\"limitedBy\":null,"         \
        "\"charge\":9437184,\"memlock\":{\"bytes\":9437184,\"state\":\"" memlock                            \
        "\"},\"interrupt\":21,\"mode\":\"guest\",\"state\":\"" state                                        \
        "\",\"reason\":null,\"contended\":false,\"restartRequired\":false,\"owner\":{\"pid\":1,\"uid\":0}," \
        "\"sinceUSec\":1,\"remainingUSec\":null}"
#define UPDATED(memlock) "{\"parameters\":{\"lease\":" LEASE_AS(LEASE_A, "8", "0-3", memlock, "granted") "}}"
#define LISTED(leases)   "{\"parameters\":{\"leases\":[" leases "]}}"
#define HOST(members)    "{\"parameters\":{\"host\":{" members "}}}"
#define TOO_MUCH                                                                                         \
        "{\"error\":\"io.spebroker.Broker.LimitExceeded\",\"parameters\":{\"limit\":\"MaxMemoryPerVM\"," \
        "\"requested\":4128768,\"available\":4096}}"
#define NONE_SUCH \
        "{\"error\":\"io.spebroker.Broker.NoSuchLease\",\"parameters\":{\"leaseId\":\"" LEASE_A "\"}}"
#define CHECKS                                                                                        \
        "{\"parameters\":{\"checks\":[{\"name\":\"cpu\",\"status\":\"ok\",\"reason\":\"Yes.\"},"      \
        "{\"name\":\"kvm-mode\",\"status\":\"failed\",\"reason\":\"KVM runs\\u001b[m without VHE.\"," \
        "\"advice\":\"Take kvm-arm.mode=nvhe away.\"}]}}"
#define ALL_WELL "{\"parameters\":{\"checks\":[{\"name\":\"cpu\",\"status\":\"ok\",\"reason\":\"Yes.\"}]}}"

/* So that KVM's ENOMEM can be the limit's. */
static struct rlimit limit_was;

static int setup(void **state) {
        struct rlimit low = {.rlim_cur = LIMIT};

        if (getrlimit(RLIMIT_MEMLOCK, &limit_was) < 0)
                return -1;
        low.rlim_max = limit_was.rlim_max;
        return setrlimit(RLIMIT_MEMLOCK, &low) < 0 ? -1 : tree_setup(state);
}

static int teardown(void **state) {
        return tree_teardown(state) < 0 ? -1 : setrlimit(RLIMIT_MEMLOCK, &limit_was);
}

/* One VCPU, with this KVM and this script; what comes of it is as expected. */
static void expect(const Tree *tree, const char *text, const Step *steps, int outcome,
                   enum spebroker_kvm_step step, int error, const char *message, const char *advice) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(tree, text, LACKING_NOTHING);
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_kvm_enable(vm.kvm, context, lease, vm.vcpu_fds[0]), outcome);
        assert_said(vm.kvm, step, error, message, advice);
        assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 0), outcome == 0 ? vm.vcpu_fds[0] : -1);
        spebroker_unref(context);
        script_finish(&script);
        destroy_vm(&vm);
}

static void test_update(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, UPDATE(MISSING)}, {SAY, UPDATED("applied")}, {HEAR_NONE});

        expect(*state, ABLE "once-set-max 12\n", steps, 0, SPEBROKER_KVM_STEP_NONE, 0, NULL, NULL);
}

/* Once more, and no more: the broker is not asked in a loop. */
static void test_update_in_vain(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, UPDATE(MISSING)}, {SAY, UPDATED("no_capability")}, {HEAR_NONE});

        expect(*state, ABLE "fail-set-max 12\n", steps, SPEBROKER_KVM_MEMLOCK,
               SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE, ENOMEM,
               "asked for " MISSING " bytes more; it says of the limit: no_capability.", "Raise it by");
}

static void test_update_refused(void **state) {
        SCRIPT(too_much, {ACCEPT}, {HEAR, UPDATE(MISSING)}, {SAY, TOO_MUCH}, {HEAR_NONE});
        SCRIPT(none_such, {ACCEPT}, {HEAR, UPDATE(MISSING)}, {SAY, NONE_SUCH}, {HEAR_NONE});
        SCRIPT(closed, {ACCEPT}, {HEAR, UPDATE(MISSING)}, {CLOSE});
        SCRIPT(broken, {ACCEPT}, {HEAR, UPDATE(MISSING)}, {SAY, "{\"parameters\":{\"lease\":7}}"},
               {HEAR_NONE});

        expect(*state, ABLE "fail-set-max 12\n", too_much, SPEBROKER_KVM_MEMLOCK, SPEBROKER_KVM_STEP_UPDATE,
               0, "gives no more memory to lock: ", NULL);
        expect(*state, ABLE "fail-set-max 12\n", none_such, SPEBROKER_KVM_LEASE_OVER,
               SPEBROKER_KVM_STEP_UPDATE, 0, LEASE_A, "a new lease");
        expect(*state, ABLE "fail-set-max 12\n", closed, SPEBROKER_KVM_NO_ANSWER, SPEBROKER_KVM_STEP_UPDATE,
               0, "in vain: the connection went before it answered", "when a broker is running");
        expect(*state, ABLE "fail-set-max 12\n", broken, SPEBROKER_KVM_NO_ANSWER, SPEBROKER_KVM_STEP_UPDATE,
               0, "in vain: Protocol error", "when a broker is running");
}

/* Nobody is asked for memory where it is not the limit. */
static void test_no_update(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR_NONE});
        struct rlimit high = limit_was;

        expect(*state, ABLE "fail-set-max 16\n", steps, SPEBROKER_KVM_TOO_LATE,
               SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE, EBUSY, "has run", "before the first");
        high.rlim_cur = high.rlim_max;
        if (high.rlim_cur < (rlim_t)SIZE) {
                print_message("the hard limit is too low for the rest\n");
                return;
        }
        assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &high), 0);
        expect(*state, ABLE "fail-set-max 12\n", steps, SPEBROKER_KVM_NO_MEMORY,
               SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE, ENOMEM, "RLIMIT_MEMLOCK is not in the way", NULL);
}

/* While a stream runs there are no calls: that is the caller's mistake, and nothing is lost by it. */
static void test_stream(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {HEAR_NONE});
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE "once-set-max 12\n", LACKING_NOTHING);
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_follow(context, ID), 0);
        assert_int_equal(spebroker_kvm_enable(vm.kvm, context, lease, vm.vcpu_fds[0]), -EBUSY);
        assert_int_equal(spebroker_kvm_enable(vm.kvm, context, lease, vm.vcpu_fds[0]), 0);
        spebroker_unref(context);
        script_finish(&script);
        destroy_vm(&vm);
}

/* What the kernel cannot tell apart, the broker has looked at. */
static void test_checks(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, CHECK_HOST}, {SAY, CHECKS}, {HEAR, CHECK_HOST}, {SAY, ALL_WELL},
               {HEAR, CHECK_HOST}, {CLOSE});
        Vm vm = make_vm(*state, "capability 300 0\nfeature 9\ngroup 3\n", LACKING_FEATURE);
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_kvm_check(vm.kvm, context), SPEBROKER_KVM_UNSUPPORTED);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_CHECK_EXTENSION, 0,
                    "(KVM_CHECK_EXTENSION of SPE). The broker's check kvm-mode: KVM runs?[m without VHE.",
                    "Take kvm-arm.mode=nvhe away.");
        assert_string_equal(spebroker_kvm_get_check(vm.kvm), "kvm-mode");
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(spebroker_kvm_check(vm.kvm, context), SPEBROKER_KVM_UNSUPPORTED);
                assert_said(vm.kvm, SPEBROKER_KVM_STEP_CHECK_EXTENSION, 0, "(KVM_CHECK_EXTENSION of SPE).",
                            "VHE mode");
                assert_null(spebroker_kvm_get_check(vm.kvm));
        }
        spebroker_unref(context);
        script_finish(&script);
        destroy_vm(&vm);
}

static void test_check_of_no_spu(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, CHECK_HOST}, {SAY, CHECKS}, {HEAR_NONE});

        expect(*state, ABLE "fail-set-spu 6\n", steps, SPEBROKER_KVM_NO_SPU, SPEBROKER_KVM_STEP_SPU, ENXIO,
               "The broker's check kvm-mode:", "nvhe");
}

#define NUMBER(name, value) "{\"name\":\"" name "\",\"value\":" value ",\"origin\":\"config\"}"

static void test_numbers(void **state) {
        static const struct {
                const char *host;
                int result;
                int64_t capability, group;
        } answers[] = {
                {HOST("\"kvmNumbers\":[" NUMBER("Capability", "400") "," NUMBER("New", "1") "]"), 0, 400, 3},
                {HOST("\"kvmNumbers\":[]"), 0, 300, 3},
                {HOST("\"version\":\"an older one\""), 0, 300, 3},
                {HOST("\"kvmNumbers\":[" NUMBER("Group", "5") "," NUMBER("Capability", "70000") "]"), -EPROTO,
                 300, 3},
                {HOST("\"kvmNumbers\":[" NUMBER("Group", "-1") "]"), -EPROTO, 300, 3},
                {HOST("\"kvmNumbers\":[7]"), -EPROTO, 300, 3},
                {HOST("\"kvmNumbers\":7"), -EPROTO, 300, 3},
                {"{\"parameters\":{}}", -EPROTO, 300, 3},
        };

        for (size_t i = 0; i < ELEMENTS_OF(answers); i++) {
                const Step steps[] = {{ACCEPT, NULL},
                                      {HEAR, DESCRIBE},
                                      {SAY, answers[i].host},
                                      {HEAR_NONE, NULL},
                                      {END, NULL}};
                Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);
                struct spebroker *context;
                Script script;

                script_start(&script, steps);
                context = connect_to(&script);
                assert_int_equal(spebroker_kvm_ask_numbers(vm.kvm, context), answers[i].result);
                assert_int_equal(spebroker_kvm_get_number(vm.kvm, SPEBROKER_KVM_NUMBER_CAPABILITY),
                                 answers[i].capability);
                assert_int_equal(spebroker_kvm_get_number(vm.kvm, SPEBROKER_KVM_NUMBER_GROUP),
                                 answers[i].group);
                spebroker_unref(context);
                script_finish(&script);
                destroy_vm(&vm);
        }
}

static void test_rlimit(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, UPDATE("8192")}, {SAY, UPDATED("applied")}, {HEAR, UPDATE("4096")},
               {SAY, UPDATED("already_enough")}, {HEAR, UPDATE("4096")}, {SAY, UPDATED("unmanaged")},
               {HEAR, UPDATE("4096")}, {SAY, TOO_MUCH}, {HEAR, UPDATE("4096")}, {SAY, NONE_SUCH},
               {HEAR_NONE});
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease(), *now = NULL;
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, 4096, &now), SPEBROKER_KVM_NOT_SPE);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_RUN, 0, "No VCPU of the VM has SPE.", NULL);

        assert_int_equal(spebroker_kvm_enable(vm.kvm, context, lease, vm.vcpu_fds[0]), 0);
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, 0, &now), -EINVAL);
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, UINT64_MAX, &now), -EINVAL);
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, NULL, 4096, &now), -EINVAL);
        assert_null(now);

        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, 8192, &now), 0);
        assert_string_equal(spebroker_lease_get_memlock_state(now), "applied");
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, 4096, NULL), 0);
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, 4096, NULL), SPEBROKER_KVM_MEMLOCK);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_UPDATE, 0, "needs 4096 bytes more than RLIMIT_MEMLOCK allows",
                    "call KVM_RUN again");
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, 4096, NULL), SPEBROKER_KVM_MEMLOCK);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_UPDATE, 0, "gives no more memory to lock: ", NULL);
        assert_int_equal(spebroker_kvm_handle_rlimit(vm.kvm, context, 4096, NULL), SPEBROKER_KVM_LEASE_OVER);
        spebroker_unref(context);
        script_finish(&script);
        destroy_vm(&vm);
}

#define OTHER LEASE_AS(LEASE_B, "8", "8-9", "applied", "granted")

static void test_fail_entry(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, LIST},
               {SAY, LISTED(OTHER "," LEASE_AS(LEASE_A, "8", "2-3", "applied", "granted"))}, {HEAR, LIST},
               {SAY, LISTED(LEASE_AS(LEASE_A, "8", "0-3", "applied", "granted"))}, {HEAR, LIST},
               {SAY, LISTED(LEASE_AS(LEASE_A, "8", "0-3", "applied", "revoking"))}, {HEAR, LIST},
               {SAY, LISTED(LEASE_AS(LEASE_A, "null", "0-3", "applied", "granted"))}, {HEAR, LIST},
               {SAY, LISTED(LEASE_AS(LEASE_A, "33", "0-3", "applied", "granted"))}, {HEAR, LIST},
               {SAY, LISTED(OTHER)}, {HEAR, LIST}, {SAY, DENIED}, {HEAR, LIST}, {CLOSE});
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease(), *now = NULL;
        static const struct {
                int outcome;
                const char *message;
        } then[] = {
                {SPEBROKER_KVM_CPU_REFUSED, "on CPU 1, which is one of the lease's (0-3)"},
                {SPEBROKER_KVM_LEASE_OVER, "is revoking"},
                {SPEBROKER_KVM_LEASE_WITHOUT_SPU, "no SPU now"},
                {SPEBROKER_KVM_OTHER_LEASE, "PMU type 33 now, and the VM was given 8"},
                {SPEBROKER_KVM_LEASE_OVER, "no lease " LEASE_A " any more"},
                {SPEBROKER_KVM_NO_ANSWER, "does not tell the lease: "},
                {SPEBROKER_KVM_NO_ANSWER, "in vain: the connection is gone"},
        };
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_kvm_handle_fail_entry(vm.kvm, context, 1, 1, &now), SPEBROKER_KVM_NOT_SPE);
        assert_int_equal(spebroker_kvm_enable(vm.kvm, context, lease, vm.vcpu_fds[0]), 0);
        assert_int_equal(spebroker_kvm_handle_fail_entry(vm.kvm, context, 1, 1, NULL), -EINVAL);
        assert_int_equal(spebroker_kvm_handle_fail_entry(vm.kvm, NULL, 1, 1, &now), -EINVAL);
        assert_int_equal(spebroker_kvm_handle_fail_entry(vm.kvm, context, 0, 0, &now), SPEBROKER_KVM_NOT_SPE);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_RUN, 0, "does not say that the CPU is the reason", NULL);
        assert_null(now);

        assert_int_equal(spebroker_kvm_handle_fail_entry(vm.kvm, context, 1, 1, &now), 0);
        assert_string_equal(spebroker_lease_get_id(now), LEASE_A);
        assert_string_equal(spebroker_lease_get_cpus(now), "2-3");
        for (size_t i = 0; i < ELEMENTS_OF(then); i++) {
                assert_int_equal(spebroker_kvm_handle_fail_entry(vm.kvm, context, 1, 1, &now),
                                 then[i].outcome);
                assert_int_equal(spebroker_kvm_get_step(vm.kvm), SPEBROKER_KVM_STEP_RUN);
                assert_has(spebroker_kvm_get_message(vm.kvm), then[i].message);
        }
        spebroker_unref(context);
        script_finish(&script);
        destroy_vm(&vm);
}

/* A VMM that forks: neither the VM nor the connection, and the lease with it, is the child's. */
static void test_fork(void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR_NONE});
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);
        struct spebroker *context;
        Script script;
        int status;
        pid_t pid;

        script_start(&script, steps);
        context = connect_to(&script);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int r = spebroker_kvm_enable(vm.kvm, context, lease, vm.vcpu_fds[0]);

                if (r != SPEBROKER_KVM_OTHER_PROCESS || spebroker_kvm_get_errno(vm.kvm) != 0 ||
                    !strstr(spebroker_kvm_get_message(vm.kvm), "was forked from the one that connected"))
                        _exit(1);
                r = spebroker_kvm_enable(vm.kvm, NULL, lease, vm.vcpu_fds[0]);
                if (r != SPEBROKER_KVM_OTHER_PROCESS || spebroker_kvm_get_errno(vm.kvm) != EIO ||
                    !strstr(spebroker_kvm_get_message(vm.kvm), "belongs to another process"))
                        _exit(2);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(spebroker_kvm_enable(vm.kvm, context, lease, vm.vcpu_fds[0]), 0);
        spebroker_unref(context);
        script_finish(&script);
        destroy_vm(&vm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_update),          TEST(test_update_in_vain), TEST(test_update_refused),
                TEST(test_no_update),       TEST(test_stream),         TEST(test_checks),
                TEST(test_check_of_no_spu), TEST(test_numbers),        TEST(test_rlimit),
                TEST(test_fail_entry),      TEST(test_fork),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
