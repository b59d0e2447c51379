/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What libbpf is asked for, step by step, and what each failure becomes. The functions of libbpf that the
 * probe calls are replaced by scripted ones, since no one kernel fails in every way; a last test lets this
 * machine's answer.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <linux/capability.h>

#include <cmocka.h>

#include "bpf/probe.h"
#include "util/cleanup.h"

#define TYPES      2 /* programs that are tried */
#define BTF_FENTRY 11
#define BTF_LSM    22

static struct Script {
        bool real; /* ask the library instead */
        int parse_error;
        int find_error[TYPES], load_error[TYPES], attach_error[TYPES];

        /* What was asked. */
        int n_parsed, n_freed, n_loaded, n_attached;
        int fds[2 * TYPES], n_fds;
} script;

/* The library's own function of that name, which the one below hides. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int type_of(enum bpf_prog_type type) {
        return type == BPF_PROG_TYPE_LSM;
}

static int hand_out_fd(void) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        script.fds[script.n_fds++] = fd;
        return fd;
}

struct btf *btf__parse(const char *path, struct btf_ext **ext) {
        static char types[1];

        if (script.real)
                return REAL(btf__parse)(path, ext);
        assert_string_equal(path, "/sys/kernel/btf/vmlinux");
        script.n_parsed++;
        errno = script.parse_error;
        return script.parse_error ? NULL : (struct btf *)types;
}

void btf__free(struct btf *types) {
        if (script.real)
                REAL(btf__free)(types);
        else
                script.n_freed++;
}

__s32 btf__find_by_name_kind(const struct btf *types, const char *name, __u32 kind) {
        bool lsm;

        if (script.real)
                return REAL(btf__find_by_name_kind)(types, name, kind);
        assert_int_equal(kind, BTF_KIND_FUNC);
        lsm = strcmp(name, "bpf_lsm_perf_event_alloc") == 0;
        if (!lsm)
                assert_string_equal(name, "security_perf_event_free");
        return script.find_error[lsm] ? -script.find_error[lsm] : lsm ? BTF_LSM : BTF_FENTRY;
}

int bpf_prog_load(enum bpf_prog_type type, const char *name, const char *license,
                  const struct bpf_insn *instructions, size_t n, const struct bpf_prog_load_opts *options) {
        bool lsm = type_of(type);

        if (script.real)
                return REAL(bpf_prog_load)(type, name, license, instructions, n, options);
        script.n_loaded++;
        assert_int_equal(type, lsm ? BPF_PROG_TYPE_LSM : BPF_PROG_TYPE_TRACING);
        assert_int_equal(options->expected_attach_type, lsm ? BPF_LSM_MAC : BPF_TRACE_FENTRY);
        assert_int_equal(options->attach_btf_id, lsm ? BTF_LSM : BTF_FENTRY);
        assert_string_equal(license, "GPL");
        assert_int_equal(n, 2);
        /* mov r0, 0; exit: whatever it is attached to, it allows. */
        assert_memory_equal(instructions, "\xb7\0\0\0\0\0\0\0\x95\0\0\0\0\0\0\0", 16);
        return script.load_error[lsm] ? -script.load_error[lsm] : hand_out_fd();
}

int bpf_link_create(int program, int target, enum bpf_attach_type type,
                    const struct bpf_link_create_opts *options) {
        bool lsm = type == BPF_LSM_MAC;

        if (script.real)
                return REAL(bpf_link_create)(program, target, type, options);
        script.n_attached++;
        assert_int_equal(type, lsm ? BPF_LSM_MAC : BPF_TRACE_FENTRY);
        assert_int_equal(program, script.fds[script.n_fds - 1]);
        return script.attach_error[lsm] ? -script.attach_error[lsm] : hand_out_fd();
}

/* A container's root may lack some of these. */
static bool is_privileged(void) {
        const unsigned needed[] = {CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF};
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

        if (syscall(SYS_capget, &header, sets) < 0)
                return false;
        for (size_t i = 0; i < ELEMENTS_OF(needed); i++)
                if (!(sets[CAP_TO_INDEX(needed[i])].effective & CAP_TO_MASK(needed[i])))
                        return false;
        return true;
}

/* Probes by the script, and sees that nothing stays loaded, attached or allocated. */
static BpfProbe probe_script(void) {
        BpfProbe probe = {0};

        if (!is_privileged())
                skip();
        bpf_probe(&probe);
        for (int i = 0; i < script.n_fds; i++) {
                assert_int_equal(fcntl(script.fds[i], F_GETFD), -1);
                assert_int_equal(errno, EBADF);
        }
        assert_int_equal(script.n_parsed, 1);
        assert_int_equal(script.n_freed, script.parse_error ? 0 : 1);
        return probe;
}

static void assert_says(const BpfProbe *probe, const char *what) {
        if (!strstr(probe->reason, what))
                fail_msg("'%s' does not say '%s'", probe->reason, what);
}

static int reset(void **state) {
        (void)state;
        script = (struct Script){0};
        return 0;
}

static void test_attaches(void **state) {
        BpfProbe probe = probe_script();

        (void)state;
        assert_int_equal(probe.result, BPF_PROBE_ATTACHES);
        assert_null(probe.advice);
        assert_int_equal(script.n_loaded, TYPES);
        assert_int_equal(script.n_attached, TYPES);
        assert_int_equal(script.n_fds, 2 * TYPES);
}

static void test_no_types(void **state) {
        BpfProbe probe;

        (void)state;
        script.parse_error = ENOENT;
        probe = probe_script();
        assert_int_equal(probe.result, BPF_PROBE_REFUSED);
        assert_says(&probe, "/sys/kernel/btf/vmlinux cannot be read: errno 2 (ENOENT)");
        assert_non_null(strstr(probe.advice, "CONFIG_DEBUG_INFO_BTF=y"));
        assert_int_equal(script.n_loaded, 0);
}

static void test_no_function(void **state) {
        BpfProbe probe;

        (void)state;
        script.find_error[1] = ENOENT;
        probe = probe_script();
        assert_int_equal(probe.result, BPF_PROBE_REFUSED);
        assert_says(&probe, "of type LSM finds no bpf_lsm_perf_event_alloc()");
        assert_non_null(strstr(probe.advice, "CONFIG_BPF_LSM=y"));
        assert_int_equal(script.n_attached, 1);
}

/* As on the machines where everything is denied. */
static void test_does_not_load(void **state) {
        BpfProbe probe;

        (void)state;
        script.load_error[0] = EPERM;
        probe = probe_script();
        assert_int_equal(probe.result, BPF_PROBE_REFUSED);
        assert_says(&probe, "of type fentry does not load: errno 1 (EPERM), denied");
        assert_non_null(strstr(probe.advice, "seccomp"));
        assert_int_equal(script.n_loaded, 1);
        assert_int_equal(script.n_attached, 0);
}

static void test_each_error_of_loading(void **state) {
        static const struct {
                int error;
                const char *says, *advice;
        } cases[] = {
                {EPERM, "errno 1 (EPERM), denied", "seccomp filter"},
                {EINVAL, "errno 22 (EINVAL), this kernel does not know the type", "CONFIG_BPF_LSM=y"},
                {ENOSYS, "errno 38 (ENOSYS), this kernel has no bpf()", "CONFIG_BPF_SYSCALL=y"},
                {ENOSPC, "errno 28 (ENOSPC)", NULL},
                {4000, "errno 4000 (unknown)", NULL},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                BpfProbe probe;

                script = (struct Script){.load_error = {0, cases[i].error}};
                probe = probe_script();
                assert_says(&probe, "of type LSM does not load: ");
                assert_says(&probe, cases[i].says);
                if (cases[i].advice)
                        assert_non_null(strstr(probe.advice ?: "", cases[i].advice));
                else
                        assert_null(probe.advice);
        }
}

/* arm64 before 6.4: loading is no proof. */
static void test_does_not_attach(void **state) {
        (void)state;
        for (int type = 0; type < TYPES; type++) {
                BpfProbe probe;

                script = (struct Script){0};
                script.attach_error[type] = 524;
                probe = probe_script();
                assert_int_equal(probe.result, BPF_PROBE_REFUSED);
                assert_says(&probe, type == 0 ? "type fentry loads but does not attach"
                                              : "type LSM loads but does not attach");
                assert_says(&probe, "errno 524 (ENOTSUPP), this kernel cannot call BPF programs");
                assert_string_equal(probe.advice, "Boot a kernel of 6.4 or later.");
                assert_int_equal(script.n_attached, type + 1);
        }
}

/* In a child, which has all capabilities but those of @lost. */
static BpfProbe probe_without(const unsigned *lost, size_t n_lost) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
        BpfProbe probe;
        int fds[2];
        pid_t pid;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (syscall(SYS_capget, &header, sets) < 0)
                        _exit(1);
                for (size_t i = 0; i < n_lost; i++)
                        sets[CAP_TO_INDEX(lost[i])].effective &= ~CAP_TO_MASK(lost[i]);
                if (syscall(SYS_capset, &header, sets) < 0)
                        _exit(1);
                bpf_probe(&probe);
                _exit(write(fds[1], &probe, sizeof(probe)) == sizeof(probe) ? 0 : 1);
        }

        assert_int_equal(read(fds[0], &probe, sizeof(probe)), sizeof(probe));
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(fds[0]);
        close(fds[1]);
        return probe;
}

static void test_capabilities(void **state) {
        const unsigned lost[] = {CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF};
        const unsigned only_bpf[] = {CAP_SYS_ADMIN, CAP_BPF};
        BpfProbe probe;

        (void)state;
        if (!is_privileged())
                skip();

        probe = probe_without(lost, ELEMENTS_OF(lost));
        assert_int_equal(probe.result, BPF_PROBE_UNKNOWN);
        assert_says(&probe, "CAP_BPF and CAP_PERFMON");
        assert_non_null(probe.advice);
        assert_int_equal(probe_without(lost, 2).result, BPF_PROBE_UNKNOWN);
        assert_int_equal(probe_without(only_bpf, 2).result, BPF_PROBE_UNKNOWN);

        /* Each of these is enough. */
        assert_int_equal(probe_without(lost, 1).result, BPF_PROBE_ATTACHES);
        assert_int_equal(probe_without(lost + 1, 2).result, BPF_PROBE_ATTACHES);
}

/* Whatever this machine says, it says it in a sentence. */
static void test_here(void **state) {
        BpfProbe probe;

        (void)state;
        script.real = true;
        bpf_silence();
        bpf_probe(&probe);
        print_message("here: %s%s%s\n", probe.reason, probe.advice ? "; advice: " : "", probe.advice ?: "");
        assert_true(strlen(probe.reason) > 0);
        assert_int_equal(probe.result == BPF_PROBE_ATTACHES,
                         strstr(probe.reason, "attach, as tried") != NULL);
        if (probe.result == BPF_PROBE_REFUSED)
                assert_says(&probe, "errno");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_attaches, reset),
                cmocka_unit_test_setup(test_no_types, reset),
                cmocka_unit_test_setup(test_no_function, reset),
                cmocka_unit_test_setup(test_does_not_load, reset),
                cmocka_unit_test_setup(test_each_error_of_loading, reset),
                cmocka_unit_test_setup(test_does_not_attach, reset),
                cmocka_unit_test_setup(test_capabilities, reset),
                cmocka_unit_test_setup(test_here, reset),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
