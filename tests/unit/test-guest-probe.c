/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The probe, against the model of KVM in tests/daemon/kvm-model.c, which this program links: what it answers
 * to each thing that KVM can say, and that it leaves nothing open.
 */

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "host/guest-probe.h"
#include "host/kvm-abi.h"
#include "tests/unit/tree.h"

#define GUESS INT64_C(-1)

/* A kernel that can. */
#define ABLE "ipa 48\ncapability 300 1\nfeature 9\ngroup 3\nirq 0\nspu 2\nmax 3\ninit 1\ntypes 8 9\n"

static const int64_t right[_KVM_NUMBER_MAX] = {300, 9, 3, 0, 2, 3, 1};
static const int64_t unset[_KVM_NUMBER_MAX] = {GUESS, GUESS, GUESS, GUESS, GUESS, GUESS, GUESS};

static unsigned count_fds(void) {
        _cleanup_(closedirp) DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        return n;
}

/* Asks for @type (0: for none); whatever comes of it, nothing stays open. */
static GuestVerdict ask(const Tree *tree, const int64_t *configured, bool foreign, uint32_t type) {
        KvmNumbers numbers = kvm_numbers(configured);
        GuestVerdict verdict = GUEST_VERDICT_NULL;
        unsigned n = count_fds();

        assert_int_equal(guest_probe(tree->fd, foreign, &numbers, type ? &type : NULL, &verdict), 0);
        assert_int_equal(count_fds(), n);
        assert_non_null(verdict.reason);
        return verdict;
}

static void expect(GuestVerdict verdict, GuestAnswer answer, GuestStep step, int error, const char *reason,
                   const char *advice) {
        if (!strstr(verdict.reason, reason))
                fail_msg("'%s' has no '%s'", verdict.reason, reason);
        assert_int_equal(verdict.answer, answer);
        assert_int_equal(verdict.step, step);
        assert_int_equal(verdict.error, error);
        if (advice) {
                assert_non_null(verdict.advice);
                if (!strstr(verdict.advice, advice))
                        fail_msg("'%s' has no '%s'", verdict.advice, advice);
        } else
                assert_null(verdict.advice);
        guest_verdict_deinit(&verdict);
}

static unsigned vms_made(const Tree *tree) {
        struct stat st;

        return fstatat(tree->fd, "dev/kvm.vms", &st, 0) < 0 ? 0 : (unsigned)st.st_size;
}

static void test_yes(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "dev/kvm", ABLE);
        expect(ask(tree, right, true, 8), GUEST_ANSWER_YES, GUEST_STEP_SPU, 0, "KVM takes it for a guest",
               NULL);
        expect(ask(tree, right, false, 9), GUEST_ANSWER_YES, GUEST_STEP_SPU, 0, "KVM takes it for a guest",
               NULL);
        assert_int_equal(vms_made(tree), 2); /* once set, an SPU cannot be changed */
}

/* A small IPA space, and a GICv2: what this machine can is taken. */
static void test_other_machines(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "dev/kvm", ABLE "vgic 2\n");
        expect(ask(tree, right, true, 8), GUEST_ANSWER_YES, GUEST_STEP_SPU, 0, "takes it", NULL);
        tree_put(tree, "dev/kvm",
                 "ipa 36\ncapability 300 1\nfeature 70\ngroup 3\nirq 0\nspu 2\nmax 3\ninit 1\ntypes 8\n");
        expect(ask(tree, (int64_t[]){300, 70, 3, 0, 2, 3, 1}, true, 8), GUEST_ANSWER_YES, GUEST_STEP_SPU, 0,
               "takes it", NULL);
}

/* Its absence is told, and refuses nothing; nor is it asked for where its number is a guess. */
static void test_no_maximum(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "dev/kvm",
                 "capability 300 1\nfeature 9\ngroup 3\nirq 0\nspu 2\nmax -1\ninit 1\ntypes 8\n");
        expect(ask(tree, right, true, 8), GUEST_ANSWER_YES, GUEST_STEP_SPU, 0, "knows no maximum buffer size",
               NULL);
        expect(ask(tree, (int64_t[]){300, 9, 3, 0, 2, GUESS, 1}, true, 8), GUEST_ANSWER_YES, GUEST_STEP_SPU,
               0, "knows no maximum buffer size", NULL);
}

/* Without an SPU to ask for, KVM as a whole is asked. */
static void test_no_type(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "dev/kvm", ABLE);
        expect(ask(tree, right, true, 0), GUEST_ANSWER_UNKNOWN, GUEST_STEP_IRQ, 0, "no SPU to ask for", NULL);
        tree_put(tree, "dev/kvm", ABLE "fail-vm 19\n");
        expect(ask(tree, right, true, 0), GUEST_ANSWER_NO, GUEST_STEP_VM, ENODEV, "makes no VMs",
               "CONFIG_KVM");
}

static void test_no_device(void **state) {
        const Tree *tree = *state;

        expect(ask(tree, right, true, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_OPEN, ENOENT,
               "the host looked at is not this machine", NULL);
        expect(ask(tree, right, false, 8), GUEST_ANSWER_NO, GUEST_STEP_OPEN, ENOENT,
               "this machine has no KVM (/dev/kvm: No such file", "CONFIG_KVM");
        expect(ask(tree, unset, false, 8), GUEST_ANSWER_NO, GUEST_STEP_OPEN, ENOENT,
               "this machine has no KVM", "CONFIG_KVM"); /* needs no number */

        tree_put(tree, "dev", "no directory");
        expect(ask(tree, right, true, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_OPEN, ENOTDIR, "not this machine",
               NULL);
        expect(ask(tree, right, false, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_OPEN, ENOTDIR, "Not a directory",
               NULL);
}

/* A socket cannot be opened at all: ENXIO, as for a node without a driver. */
static void test_no_driver(void **state) {
        const Tree *tree = *state;

        tree_mkdir(tree, "dev");
        assert_int_equal(mknodat(tree->fd, "dev/kvm", S_IFSOCK | 0600, 0), 0);
        expect(ask(tree, right, false, 8), GUEST_ANSWER_NO, GUEST_STEP_OPEN, ENXIO, "no KVM", "CONFIG_KVM");
        expect(ask(tree, right, true, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_OPEN, ENXIO, "not this machine",
               NULL);
}

/* ENOTTY, or what a user emulator says of the ioctls that it does not hand on. */
static int errno_of_no_kvm(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC), error;

        assert_true(fd >= 0);
        assert_true(ioctl(fd, KVM_GET_API_VERSION, 0) < 0);
        error = errno;
        assert_true(error == ENOTTY || error == ENOSYS);
        close(fd);
        return error;
}

/* What is there but is no KVM: answers nothing, and is not waited for. */
static void test_no_kvm(void **state) {
        int error = errno_of_no_kvm();
        const Tree *tree = *state;

        tree_mkdir(tree, "dev");
        assert_int_equal(mkfifoat(tree->fd, "dev/kvm", 0600), 0);
        expect(ask(tree, right, true, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_VERSION, error,
               error == ENOTTY ? "KVM_GET_API_VERSION: Inappropriate ioctl" : "KVM_GET_API_VERSION: ", NULL);
        assert_int_equal(unlinkat(tree->fd, "dev/kvm", 0), 0);
        assert_int_equal(symlinkat("/dev/null", tree->fd, "dev/kvm"), 0);
        expect(ask(tree, right, true, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_VERSION, error, "KVM_GET_API",
               NULL);
}

/* Access is a matter of this process, not of KVM. */
static void test_no_access(void **state) {
        const Tree *tree = *state;
        int status;
        pid_t pid;

        tree_put(tree, "dev/kvm", ABLE);
        assert_int_equal(fchmodat(tree->fd, "dev/kvm", 0, 0), 0);
        if (geteuid() != 0) {
                expect(ask(tree, right, false, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_OPEN, EACCES,
                       "/dev/kvm: Permission denied", "chgrp kvm /dev/kvm");
                return;
        }

        assert_int_equal(chmod(tree->path, 0755), 0);
        assert_int_equal(fchmodat(tree->fd, "dev", 0755, 0), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (setresuid(65534, 65534, 65534) < 0)
                        _exit(2);
                expect(ask(tree, right, false, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_OPEN, EACCES,
                       "/dev/kvm: Permission denied", "chgrp kvm /dev/kvm");
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void test_not_arm64(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "dev/kvm", "psci 0\n");
        expect(ask(tree, right, false, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_ARCHITECTURE, 0,
               "only KVM on arm64 can be asked", NULL);
        tree_put(tree, "dev/kvm", ABLE "version 13\n");
        expect(ask(tree, right, false, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_VERSION, 0, "another version",
               NULL);
        assert_int_equal(vms_made(tree), 0);
}

static void test_no_capability(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "dev/kvm", ABLE);
        expect(ask(tree, (int64_t[]){299, 9, 3, 0, 2, 3, 1}, true, 8), GUEST_ANSWER_NO, GUEST_STEP_CAPABILITY,
               0, "KVM has no SPE for guests", "VHE");
        tree_put(tree, "dev/kvm", "capability 300 0\nfeature 9\n");
        expect(ask(tree, right, true, 8), GUEST_ANSWER_NO, GUEST_STEP_CAPABILITY, 0,
               "KVM has no SPE for guests", "VHE");
        assert_int_equal(vms_made(tree), 0);
}

/* With each step's refusal: no. With an errno that may pass, or that nobody documents: unknown. */
static void test_steps(void **state) {
        static const struct {
                const char *call;
                GuestStep step;
                int refusal; /* 0: none is for good */
                bool by_number;
                const char *name;
        } cases[] = {
                {"version", GUEST_STEP_VERSION, 0, false, "KVM_GET_API_VERSION"},
                {"extension", GUEST_STEP_ARCHITECTURE, 0, false, "KVM_CHECK_EXTENSION"},
                {"vm", GUEST_STEP_VM, ENODEV, false, "KVM_CREATE_VM"},
                {"device", GUEST_STEP_VGIC, ENODEV, false, "KVM_CREATE_DEVICE of a vGIC"},
                {"vcpu", GUEST_STEP_VCPU, 0, false, "KVM_CREATE_VCPU"},
                {"target", GUEST_STEP_TARGET, 0, false, "KVM_ARM_PREFERRED_TARGET"},
                {"feature", GUEST_STEP_FEATURE, EINVAL, true, "KVM_ARM_VCPU_INIT with SPE"},
                {"feature", GUEST_STEP_FEATURE, ENOENT, true, "KVM_ARM_VCPU_INIT with SPE"},
                {"has-irq", GUEST_STEP_HAS_IRQ, ENXIO, true, "KVM_HAS_DEVICE_ATTR of IRQ"},
                {"has-spu", GUEST_STEP_HAS_SPU, ENXIO, true, "KVM_HAS_DEVICE_ATTR of SPU"},
                {"has-max", GUEST_STEP_HAS_MAX_BUFFER_SIZE, 0, true,
                 "KVM_HAS_DEVICE_ATTR of MAX_BUFFER_SIZE"},
                {"has-init", GUEST_STEP_HAS_INIT, ENXIO, true, "KVM_HAS_DEVICE_ATTR of INIT"},
                {"set-irq", GUEST_STEP_IRQ, ENXIO, true, "KVM_SET_DEVICE_ATTR of IRQ"},
                {"set-irq", GUEST_STEP_IRQ, ENODEV, true, "KVM_SET_DEVICE_ATTR of IRQ"},
                {"set-spu", GUEST_STEP_SPU, ENXIO, true, "KVM_SET_DEVICE_ATTR of SPU"},
                {"set-spu", GUEST_STEP_SPU, ENODEV, true, "KVM_SET_DEVICE_ATTR of SPU"},
        };
        const Tree *tree = *state;

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                static const int passing[] = {EBUSY, ENOMEM, EPERM, EIO};
                char text[512], name[128];

                for (size_t k = 0; k < ELEMENTS_OF(passing); k++) {
                        (void)snprintf(text, sizeof(text), ABLE "fail-%s %d\n", cases[i].call, passing[k]);
                        tree_put(tree, "dev/kvm", text);
                        (void)snprintf(name, sizeof(name), "%s: %s", cases[i].name, strerror(passing[k]));
                        if (cases[i].step == GUEST_STEP_ARCHITECTURE)
                                strcpy(name, "KVM_CHECK_EXTENSION of PSCI: ");
                        expect(ask(tree, right, false, 8), GUEST_ANSWER_UNKNOWN, cases[i].step, passing[k],
                               name, NULL);
                }
                if (cases[i].refusal == 0)
                        continue;

                (void)snprintf(text, sizeof(text), ABLE "fail-%s %d\n", cases[i].call, cases[i].refusal);
                tree_put(tree, "dev/kvm", text);
                (void)snprintf(name, sizeof(name), " (%s: %s)", cases[i].name, strerror(cases[i].refusal));
                {
                        GuestVerdict verdict = ask(tree, right, false, 8);
                        /* What can be done differs; what matters is that it is a fact. */
                        const char *advice = verdict.advice;

                        expect(verdict, GUEST_ANSWER_NO, cases[i].step, cases[i].refusal, name, advice);
                }
                if (cases[i].by_number)
                        expect(ask(tree, unset, false, 8), GUEST_ANSWER_UNKNOWN, cases[i].step,
                               cases[i].refusal, "with guesses", "section [KVM]");
                else
                        expect(ask(tree, unset, false, 8), GUEST_ANSWER_NO, cases[i].step, cases[i].refusal,
                               name, cases[i].step == GUEST_STEP_VM ? "CONFIG_KVM" : NULL);
        }
}

/* Not even a yes counts if it was had with a guess; and every number but one must be known. */
static void test_guesses(void **state) {
        const Tree *tree = *state;

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++) {
                int64_t configured[_KVM_NUMBER_MAX];
                char text[256];
                KvmNumbers n;

                memcpy(configured, right, sizeof(configured));
                configured[i] = GUESS;
                n = kvm_numbers(configured);
                if (n.of[i].origin != KVM_ORIGIN_GUESS)
                        continue; /* this machine's header has it */
                /* A kernel of which the guess is right: it is no answer for all that. */
                (void)snprintf(text, sizeof(text),
                               "capability 300 1\nfeature %u\ngroup %u\nirq %u\nspu %u\nmax %u\ninit %u\n"
                               "types 8\n",
                               n.of[1].value, n.of[2].value, n.of[3].value, n.of[4].value, n.of[5].value,
                               n.of[6].value);
                tree_put(tree, "dev/kvm", text);
                if (i == KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE)
                        expect(ask(tree, configured, false, 8), GUEST_ANSWER_YES, GUEST_STEP_SPU, 0,
                               "knows no maximum", NULL);
                else
                        expect(ask(tree, configured, false, 8), GUEST_ANSWER_UNKNOWN, GUEST_STEP_SPU, 0,
                               "with guesses: KVM takes it", "section [KVM]");
        }
}

static void test_unknown_spu(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "dev/kvm", ABLE);
        expect(ask(tree, right, false, 10), GUEST_ANSWER_NO, GUEST_STEP_SPU, ENXIO,
               "KVM knows no SPU of this PMU type (KVM_SET_DEVICE_ATTR of SPU: No such device or address)",
               "modprobe");
        /* The SPU is asked for as a VMM would: interrupt and vGIC first. */
        tree_put(tree, "dev/kvm", ABLE "vgic 0\n");
        expect(ask(tree, right, false, 8), GUEST_ANSWER_NO, GUEST_STEP_VGIC, ENODEV, "no vGIC", NULL);
}

static void test_copy(void **state) {
        GuestVerdict verdict, copy;

        tree_put(*state, "dev/kvm", ABLE);
        verdict = ask(*state, right, false, 10);
        assert_int_equal(guest_verdict_copy(&verdict, &copy), 0);
        assert_ptr_not_equal(copy.reason, verdict.reason);
        assert_string_equal(copy.reason, verdict.reason);
        assert_int_equal(copy.answer, verdict.answer);
        guest_verdict_deinit(&verdict);
        guest_verdict_deinit(&copy);
        verdict = GUEST_VERDICT_NULL;
        assert_int_equal(guest_verdict_copy(&verdict, &copy), 0);
        assert_null(copy.reason);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_yes),           TEST(test_other_machines), TEST(test_no_maximum),
                TEST(test_no_type),       TEST(test_no_device),      TEST(test_no_driver),
                TEST(test_no_kvm),        TEST(test_no_access),      TEST(test_not_arm64),
                TEST(test_no_capability), TEST(test_steps),          TEST(test_guesses),
                TEST(test_unknown_spu),   TEST(test_copy),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
