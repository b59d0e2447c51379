/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

/*
 * For the programs: the control groups that a thread is in, as the keys of owners (spe-owner.h), from its own
 * up to the root. A program looks each of them up in a table of its own.
 */

#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/spe-owner.h"

/* Of the kernel's types, what is read here; where it is in the running kernel, the loader finds out. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node {
        __u64 id;
};

struct cgroup_subsys_state {
        struct cgroup_subsys_state *parent;
};

/* Begins with its state as a group, by which groups are linked. */
struct cgroup {
        struct cgroup_subsys_state self;
        struct kernfs_node *kn;
};

struct css_set {
        struct cgroup *dfl_cgrp;
};

/* The kernel's task_struct, of which each program has more: loaders leave out what is behind the lines. */
struct task_struct___owner {
        struct css_set *cgroups;
};
#pragma clang attribute pop

struct task_struct;

/* The group of @task, NULL: none; each has that above it as its parent, but for the root. */
static __always_inline struct cgroup *owner_group(const struct task_struct *task) {
        return BPF_CORE_READ((const struct task_struct___owner *)task, cgroups, dfl_cgrp);
}

static __always_inline struct cgroup *owner_group_parent(const struct cgroup *group) {
        return (struct cgroup *)BPF_CORE_READ(group, self.parent);
}

static __always_inline __u64 owner_group_key(const struct cgroup *group) {
        return BPF_CORE_READ(group, kn, id) | OWNER_CGROUP_BIT;
}
