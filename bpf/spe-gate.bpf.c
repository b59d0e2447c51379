// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's side of bpf/gate.h: refuses, or reports, that a process without a fitting lease sets an
 * attribute of SPE's group on a VCPU. No policy: who may set what is looked up.
 *
 * It is called for every ioctl() of the machine, so the command is tested first, and all others leave there.
 *
 * A VCPU is known by the file system that its file is in, whose magic number no file system has that anybody
 * could mount, and by its name there, which the kernel gives: users name nothing in that file system.
 *
 * The attribute is copied from the caller's memory here, and again by KVM: another thread can change it in
 * between. What KVM then takes, its charge to RLIMIT_MEMLOCK bounds. It is copied in full, even if that has
 * to wait for a page (so the program is a sleepable one); what cannot be read is refused as KVM would.
 *
 * 32-bit programs on 64-bit kernels come by another hook on some, but KVM has no such calls on arm64.
 */

#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/spe-gate.h"
#include "bpf/spe-owner-kernel.h"

#define SET_DEVICE_ATTR 0x4018aee1U /* KVM_SET_DEVICE_ATTR */
#define ANON_INODE_FS   0x09041934UL
#define VCPU_WORD       "kvm-vcpu" /* compared as one word; then ':' and its number */

/* GateCause, of a header that is not for programs. */
enum {
        CAUSE_NO_LEASE,
        CAUSE_OTHER_SPU,
        CAUSE_TOO_LARGE,
        CAUSE_NONE,
};

/* Of the kernel's types, what is read here; where it is in the running kernel, the loader finds out. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct super_block {
        unsigned long s_magic;
};

struct qstr {
        const unsigned char *name;
};

struct dentry {
        struct qstr d_name;
        struct super_block *d_sb;
};

struct path {
        struct dentry *dentry;
};

struct file {
        struct path f_path;
};

struct task_struct {
        struct task_struct *group_leader;
        __u64 start_boottime;
        char comm[GATE_COMM_BYTES];
};
#pragma clang attribute pop

/* struct kvm_device_attr, which is in a module on some architectures. */
struct device_attribute {
        __u32 flags;
        __u32 group;
        __u64 number;
        __u64 address;
};

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, GATE_PERMITS);
        __type(key, GateKey);
        __type(value, GatePermit);
} permits SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, GATE_RING_BYTES);
} notices SEC(".maps");

GateControl control;

#define LOAD(member)  (*(volatile __typeof__(member) *)&(member))
#define COUNT(member) ((void)__sync_fetch_and_add(&(member), 1))

static __always_inline bool is_vcpu(struct file *file) {
        struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
        struct {
                __u64 word;
                __u64 rest;
        } name = {};
        __u64 expected;

        if (BPF_CORE_READ(dentry, d_sb, s_magic) != ANON_INODE_FS)
                return false;
        if (bpf_probe_read_kernel(&name, sizeof(VCPU_WORD), BPF_CORE_READ(dentry, d_name.name)))
                return false;
        __builtin_memcpy(&expected, VCPU_WORD, sizeof(expected));
        return name.word == expected && name.rest == ':'; /* so many bytes were read */
}

/* The process that calls, and when it was started. */
static __always_inline __u64 get_process(__u64 *ret_since) {
        struct task_struct *task = (struct task_struct *)bpf_get_current_task();

        *ret_since = BPF_CORE_READ(task, group_leader, start_boottime);
        return bpf_get_current_pid_tgid() >> 32;
}

/* The proof that the kernel does as this program says: one call, by an argument that only who makes it knows.
 * What that process sets on VCPUs from now on is the broker asking KVM what it can do. */
static __always_inline bool is_probe(unsigned long argument) {
        __u64 probe = LOAD(control.probe), since;

        if (probe == 0 || argument != probe)
                return false;

        control.probe = 0;
        control.self = get_process(&since);
        control.self_since = since;
        control.probed = 1;
        return true;
}

/* What a control group may that the caller is in or below, the innermost one that may anything there. */
static __always_inline const GatePermit *find_group_permit(__u64 pmu_type) {
        struct cgroup *group = owner_group((struct task_struct *)bpf_get_current_task());
        GateKey key = {.pmu_type = pmu_type};
        const GatePermit *permit = NULL;

        for (unsigned i = 0; i < OWNER_CGROUP_DEPTH && group && !permit; i++) {
                key.owner = owner_group_key(group);
                permit = bpf_map_lookup_elem(&permits, &key);
                group = owner_group_parent(group);
        }
        return permit;
}

/* NULL: the process has no such lease. A number of a process that is gone may be another's by now. */
static __always_inline const GatePermit *find_permit(__u64 process, __u64 since, __u64 pmu_type) {
        GateKey key = {.owner = process, .pmu_type = pmu_type};
        const GatePermit *permit = bpf_map_lookup_elem(&permits, &key);
        __u64 tick_nsec = LOAD(control.tick_nsec);

        if (!permit || tick_nsec == 0 || permit->start_ticks != since / tick_nsec)
                return find_group_permit(pmu_type);
        return permit;
}

/* -EFAULT, or 0 with what stands against it. The value is read where it counts. */
static __always_inline long judge(const struct device_attribute *attribute, __u64 since, GateNotice *notice) {
        const void *address = (const void *)attribute->address;
        const GatePermit *any = find_permit(notice->process, since, GATE_ANY_SPU);
        __u32 type = 0;

        notice->cause = CAUSE_NO_LEASE;
        if (!any)
                return 0;

        notice->cause = CAUSE_NONE;
        notice->allowed = any->buffer_size;
        if (attribute->number == LOAD(control.attribute_spu)) {
                if (bpf_copy_from_user(&type, sizeof(type), address))
                        return -EFAULT;
                notice->value = type;
                if (!find_permit(notice->process, since, type))
                        notice->cause = CAUSE_OTHER_SPU;
        } else if (attribute->number == LOAD(control.attribute_size)) {
                if (bpf_copy_from_user(&notice->value, sizeof(notice->value), address))
                        return -EFAULT;
                if (notice->value == 0 || notice->value > notice->allowed) /* 0 is no limit */
                        notice->cause = CAUSE_TOO_LARGE;
        }
        return 0;
}

static __always_inline void tell(const GateNotice *notice) {
        if (notice->refused)
                COUNT(control.refused);
        else
                COUNT(control.reported);
        if (bpf_ringbuf_output(&notices, (void *)notice, sizeof(*notice), 0) != 0)
                COUNT(control.lost);
}

static __always_inline void describe_caller(GateNotice *notice) {
        struct task_struct *task = (struct task_struct *)bpf_get_current_task();

        notice->uid = (__u32)bpf_get_current_uid_gid();
        (void)BPF_CORE_READ_STR_INTO(&notice->command, task, group_leader, comm);
}

static __always_inline int check(unsigned long argument, bool refuses) {
        struct device_attribute attribute;
        GateNotice notice = {};
        __u64 since;

        notice.process = (__u32)get_process(&since);
        if (notice.process == LOAD(control.self) && since == LOAD(control.self_since))
                return 0;
        if (bpf_copy_from_user(&attribute, sizeof(attribute), (const void *)argument))
                return refuses ? -EFAULT : 0;
        if (attribute.group != LOAD(control.group))
                return 0;
        if (judge(&attribute, since, &notice) != 0)
                return refuses ? -EFAULT : 0;
        if (notice.cause == CAUSE_NONE)
                return 0;

        notice.attribute = attribute.number;
        notice.refused = refuses;
        describe_caller(&notice);
        tell(&notice);
        return refuses ? -EACCES : 0;
}

/* Not inlined, so that the program that all ioctl() get to needs no stack, and saves no registers. */
static __noinline int decide(struct file *file, unsigned long argument) {
        __u64 level;

        if (is_probe(argument))
                return -EACCES;

        level = LOAD(control.level);
        if (level == GATE_OFF || !is_vcpu(file))
                return 0;
        return check(argument, level == GATE_REFUSE);
}

SEC("lsm.s/file_ioctl")
int BPF_PROG(set_attribute, struct file *file, unsigned int command, unsigned long argument, int verdict) {
        if (command != SET_DEVICE_ATTR)
                return 0;
        return verdict != 0 ? verdict : decide(file, argument);
}

char _license[] SEC("license") = "GPL";
