/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

/*
 * Of the kernel's types, what the programs of spe-arbiter.bpf.c read; where it is in the running kernel, the
 * loader finds out.
 */

#include <linux/types.h>

#include "bpf/spe-arbiter.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct cpumask {
        unsigned long bits[1];
};

struct kuid {
        unsigned val;
};

struct cred {
        struct kuid uid;
};

struct file {
        const void *f_op;
        void *private_data;
};

struct fdtable {
        unsigned max_fds;
        struct file **fd;
};

struct files_struct {
        struct fdtable *fdt;
};

struct task_struct {
        int pid;
        int tgid;
        struct cpumask cpus_mask;
        struct files_struct *files;
        const struct cred *cred;
        struct task_struct *group_leader;
        __u64 start_boottime;
        char comm[ARBITER_COMM_BYTES];
};

struct pmu {
        const char *name;
};

struct perf_event_attr {
        __u64 config1;
};

struct hw_perf_event {
        struct task_struct *target;
};

struct perf_event {
        struct pmu *pmu;
        struct perf_event *parent;
        struct perf_event_attr attr;
        struct hw_perf_event hw;
        int cpu;
};

struct bpf_iter__task_file {
        struct task_struct *task;
        __u32 fd;
        struct file *file;
};

struct pt_regs___x86 {
        unsigned long orig_ax;
};

struct pt_regs___arm64 {
        int syscallno;
};
#pragma clang attribute pop
