/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One program of two instructions per type goes the whole way: its function is looked up in the kernel's
 * types, it is loaded for that function, attached, and detached by closing what came back. The first step
 * that fails decides; a failure is told by step, errno, and what that errno means in that step.
 */

#include "bpf/probe.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

/* The kernel's own; no C library names it. */
#define ERRNO_ENOTSUPP 524

#define BTF_PATH "/sys/kernel/btf/vmlinux"

DEFINE_CLEANUP(struct btf *, btf__free)

typedef enum Step {
        STEP_TYPES, /* reading the kernel's types */
        STEP_FIND,  /* finding the function that a program is for among them */
        STEP_LOAD,  /* which says nothing about the next */
        STEP_ATTACH,
} Step;

typedef struct Attempt {
        const char *name; /* of the type */
        enum bpf_prog_type type;
        enum bpf_attach_type attach_type;
        const char *function; /* as the kernel's types name it */
} Attempt;

static const Attempt attempts[] = {
        {"fentry", BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, "security_perf_event_free"},
        {"LSM", BPF_PROG_TYPE_LSM, BPF_LSM_MAC, "bpf_lsm_perf_event_alloc"},
};

#define DENIED        "denied in spite of CAP_BPF and CAP_PERFMON"
#define DENIED_ADVICE "Look for what denies bpf() here: a seccomp filter, a security module, a container."

/* What an errno means in a step. */
static const struct Meaning {
        Step step;
        int error;
        const char *meaning;
        const char *advice;
} meanings[] = {
        {STEP_TYPES, ENOENT, "this kernel does not describe its types",
         "Boot a kernel with CONFIG_DEBUG_INFO_BTF=y."},
        {STEP_FIND, ENOENT, "this kernel is built without",
         "Boot a kernel with CONFIG_BPF_LSM=y and CONFIG_PERF_EVENTS=y."},
        {STEP_LOAD, ENOSYS, "this kernel has no bpf()", "Boot a kernel with CONFIG_BPF_SYSCALL=y."},
        {STEP_LOAD, EINVAL, "this kernel does not know the type",
         "Boot a kernel with CONFIG_BPF_LSM=y and CONFIG_FUNCTION_TRACER=y."},
        {STEP_LOAD, EPERM, DENIED, DENIED_ADVICE},
        {STEP_ATTACH, EPERM, DENIED, DENIED_ADVICE},
        {STEP_ATTACH, ERRNO_ENOTSUPP,
         "this kernel cannot call BPF programs from its functions (arm64 before 6.4)",
         "Boot a kernel of 6.4 or later."},
};

static const struct Meaning *meaning_of(Step step, int error) {
        for (size_t i = 0; i < ELEMENTS_OF(meanings); i++)
                if (meanings[i].step == step && meanings[i].error == error)
                        return &meanings[i];

        return NULL;
}

/* @error is positive. */
static void tell_failure(BpfProbe *probe, Step step, const Attempt *attempt, int error) {
        const struct Meaning *meaning = meaning_of(step, error);
        const char *name = error == ERRNO_ENOTSUPP ? "ENOTSUPP" : strerrorname_np(error);
        char what[BPF_PROBE_REASON_MAX / 2] = "";

        switch (step) {
        case STEP_TYPES:
                (void)snprintf(what, sizeof(what), BTF_PATH " cannot be read");
                break;
        case STEP_FIND:
                (void)snprintf(what, sizeof(what), "A BPF program of type %s finds no %s()", attempt->name,
                               attempt->function);
                break;
        case STEP_LOAD:
                (void)snprintf(what, sizeof(what), "A BPF program of type %s does not load", attempt->name);
                break;
        case STEP_ATTACH:
                (void)snprintf(what, sizeof(what), "A BPF program of type %s loads but does not attach",
                               attempt->name);
                break;
        }

        probe->result = BPF_PROBE_REFUSED;
        (void)snprintf(probe->reason, sizeof(probe->reason), "%s: errno %i (%s)%s%s.", what, error,
                       name ?: "unknown", meaning ? ", " : "", meaning ? meaning->meaning : "");
        probe->advice = meaning ? meaning->advice : NULL;
}

/* 0, or the positive errno of *@ret_step. */
static int try_program(struct btf *types, const Attempt *attempt, Step *ret_step) {
        static const struct bpf_insn instructions[] = {
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
                {.code = BPF_JMP | BPF_EXIT},
        };
        LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attempt->attach_type);
        _cleanup_(closep) int program = -1, link = -1;
        int id;

        *ret_step = STEP_FIND;
        id = btf__find_by_name_kind(types, attempt->function, BTF_KIND_FUNC);
        if (id <= 0)
                return id < 0 ? -id : ENOENT;

        *ret_step = STEP_LOAD;
        options.attach_btf_id = (unsigned)id;
        /* The kernel takes LSM programs under its own licence alone. */
        program = bpf_prog_load(attempt->type, /* prog_name= */ NULL, "GPL", instructions,
                                ELEMENTS_OF(instructions), &options);
        if (program < 0)
                return -program;

        *ret_step = STEP_ATTACH;
        link = bpf_link_create(program, /* target_fd= */ 0, attempt->attach_type, /* opts= */ NULL);
        return link < 0 ? -link : 0;
}

static bool has_capability(const struct __user_cap_data_struct *sets, unsigned capability) {
        return sets[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

static bool may_try(void) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};

        if (syscall(SYS_capget, &header, sets) < 0)
                return false;

        return has_capability(sets, CAP_SYS_ADMIN) ||
               (has_capability(sets, CAP_BPF) && has_capability(sets, CAP_PERFMON));
}

void bpf_probe(BpfProbe *ret_probe) {
        _cleanup_(btf__freep) struct btf *types = NULL;
        Step step;
        int r;

        *ret_probe = (BpfProbe){.result = BPF_PROBE_UNKNOWN};
        if (!may_try()) {
                (void)snprintf(ret_probe->reason, sizeof(ret_probe->reason),
                               "spe-broker lacks CAP_BPF and CAP_PERFMON, so it cannot be tried.");
                ret_probe->advice = "Give spe-broker CAP_BPF and CAP_PERFMON, as its unit does.";
                return;
        }

        /* By its path: left to itself, libbpf would go on to look for a kernel below /boot. */
        types = btf__parse(BTF_PATH, /* btf_ext= */ NULL);
        if (!types) {
                tell_failure(ret_probe, STEP_TYPES, NULL, errno);
                return;
        }
        for (size_t i = 0; i < ELEMENTS_OF(attempts); i++) {
                r = try_program(types, &attempts[i], &step);
                if (r != 0) {
                        tell_failure(ret_probe, step, &attempts[i], r);
                        return;
                }
        }

        ret_probe->result = BPF_PROBE_ATTACHES;
        (void)snprintf(ret_probe->reason, sizeof(ret_probe->reason),
                       "BPF programs of types fentry and LSM attach, as tried.");
}

void bpf_silence(void) {
        (void)libbpf_set_print(NULL);
}
