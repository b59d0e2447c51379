// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's side of bpf/arbiter.h: a table of the perf events that are open on SPUs, and a hook that
 * refuses new ones where they are closed out. No policy: which CPUs are closed is looked up.
 *
 * Events are known by their address. An event is entered when the kernel allocates it, once, and taken out
 * when it frees it, if it is there: frees do not pair with allocations (newer kernels report the free of an
 * event that was refused, too). Events with a parent are copies that fork() makes; they go where their parent
 * goes, and to refuse one would make fork() fail.
 *
 * No window (the hook's half of the argument; the other is in arbiter.c): refuse() enters the event into the
 * table, then adds to control.generation with an atomic whose value it uses, then loads the closed sets. The
 * broker stores the closed sets, then has a full barrier, then loads the generation and the table. That is
 * the store buffering pattern: with a full barrier on either side, not both can miss the other's store. The
 * atomic is that barrier because it returns a value: the JITs make it `lock xadd` on x86; on arm64 `ldaddal`,
 * of which the architecture orders all that is before its store (release) before all that is after its load
 * (acquire), or ldxr/stlxr followed by `dmb ish`. Without use of its value LLVM would make it an atomic
 * that orders nothing (`stadd` on arm64); tests/unit/test-bpf-object.c looks at what was made. The entry is
 * published before it by the map's own release store, under the lock of its bucket.
 *
 * Recursion: a program of type fentry or fexit that is preempted is skipped for whoever else gets to it on
 * that CPU, and so is one of type LSM before 6.2. So a free has two programs, and an allocation at LSM too,
 * each of which does what the other has not: what refuse() was skipped for is seen, and counted as drift.
 */

#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/spe-arbiter-kernel.h"
#include "bpf/spe-arbiter.h"
#include "bpf/spe-owner-kernel.h"

#define SYSCALL_X32 0x40000000 /* added to the number by programs of that ABI */

/* ArbiterCause, of a header that is not for programs. */
enum {
        CAUSE_CPU_WIDE,
        CAUSE_TASK_BOUND,
        CAUSE_OWNER,
        CAUSE_FULL,
        CAUSE_NONE,
};

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, ARBITER_SESSIONS);
        __type(key, __u64);
        __type(value, ArbiterEntry);
} sessions SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, ARBITER_PMUS);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, ArbiterName);
        __type(value, ArbiterWords);
} pmus SEC(".maps");

/* Process, or control group with OWNER_CGROUP_BIT -> CPUs that are closed to events bound to it, or to a
 * thread in it or below it. */
struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, ARBITER_OWNERS);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, __u64);
        __type(value, ArbiterWords);
} owners SEC(".maps");

/* Processes that have been seen to have a descriptor; kept at TRACEPOINTS alone. Those that are gone make
 * room for others. */
struct {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, ARBITER_HOLDERS);
        __type(key, __u32);
        __type(value, __u32);
} holders SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, ARBITER_RING_BYTES);
} doorbell SEC(".maps");

ArbiterControl control;

/* Numbers of system calls, which are the architecture's. */
const volatile __s64 opening_calls[ARBITER_OPENING_CALLS];
const volatile __s64 closing_calls[ARBITER_CLOSING_CALLS];

#define LOAD(member)  (*(volatile __typeof__(member) *)&(member))
#define COUNT(member) ((void)__sync_fetch_and_add(&(member), 1))

/* Tells that the table has changed: a full barrier, between what is before it and what is after it. */
static __always_inline void full_barrier_and_count(void) {
        __u64 before = __sync_fetch_and_add(&control.generation, 1);

        /* A use of the value that the compiler cannot see through. */
        asm volatile("" : : "r"(before) : "memory");
}

/*
 * Rings unless that was done and not heard yet. The broker clears `rung` before it reads the table, we change
 * the table before we load `rung`, with a full barrier in between (both sides again).
 */
static __always_inline void ring(void) {
        __u32 *bell;

        if (LOAD(control.rung) || __sync_val_compare_and_swap(&control.rung, 0, 1) != 0)
                return;

        bell = bpf_ringbuf_reserve(&doorbell, sizeof(*bell), 0);
        if (!bell) {
                control.rung = 0; /* the ring is full of refusals: whoever reads them is awake */
                return;
        }
        *bell = 0;
        bpf_ringbuf_submit(bell, 0);
}

static __always_inline void tell_refusal(const ArbiterEntry *entry, __u32 cause) {
        ArbiterNotice *notice;

        COUNT(control.refused);
        if (cause == CAUSE_FULL)
                COUNT(control.full);

        notice = bpf_ringbuf_reserve(&doorbell, sizeof(*notice), 0);
        if (!notice) {
                COUNT(control.lost);
                return;
        }
        notice->entry = *entry;
        notice->cause = cause;
        bpf_ringbuf_submit(notice, 0);
}

/* Whether the first eight bytes at @from in the kernel are those of @text. */
static __always_inline bool begins_with(const char *from, const char *text) {
        __u64 begin, expected;

        __builtin_memcpy(&expected, text, sizeof(expected));
        return bpf_probe_read_kernel(&begin, sizeof(begin), from) == 0 && begin == expected;
}

/* Whether a PMU's name, at @from in the kernel, is an SPU's; if so, it is at @name, with the CPUs of a PMU
 * that the broker has named. */
static __always_inline bool is_spu(const char *from, char *name, const ArbiterWords **ret_cpus) {
        bool spu = begins_with(from, ARBITER_SPU_PREFIX);

        *ret_cpus = NULL;
        /* Nearly all events of a machine are others', and leave here. */
        if (!spu && !LOAD(control.named))
                return false;

        __builtin_memset(name, 0, ARBITER_NAME_BYTES);
        if (bpf_probe_read_kernel_str(name, ARBITER_NAME_BYTES, from) < 0)
                return false;
        *ret_cpus = bpf_map_lookup_elem(&pmus, name);
        return spu || *ret_cpus;
}

static __always_inline void describe_event(ArbiterEntry *entry, struct perf_event *event) {
        struct task_struct *target = BPF_CORE_READ(event, hw.target);

        entry->cpu = BPF_CORE_READ(event, cpu);
        if (target) {
                entry->target_thread = BPF_CORE_READ(target, pid);
                entry->target_process = BPF_CORE_READ(target, tgid);
        }
}

static __always_inline void describe_opener(ArbiterEntry *entry) {
        entry->opened_nsec = bpf_ktime_get_boot_ns();
        entry->process = bpf_get_current_pid_tgid() >> 32;
        entry->uid = (__u32)bpf_get_current_uid_gid();
        bpf_get_current_comm(entry->command, sizeof(entry->command));
}

/* 0, or the map's error. */
static __always_inline long enter(__u64 key, const ArbiterEntry *entry) {
        long r = bpf_map_update_elem(&sessions, &key, entry, BPF_NOEXIST);

        if (r == -EEXIST) {
                /* Its end was missed, and the kernel has used the address again. */
                COUNT(control.drifted);
                r = bpf_map_update_elem(&sessions, &key, entry, BPF_ANY);
        }
        if (r == 0)
                full_barrier_and_count();
        return r;
}

static __always_inline bool leave(__u64 key) {
        /* To look is cheaper than to try: that takes a lock, and nearly all events are not there. */
        if (!bpf_map_lookup_elem(&sessions, &key) || bpf_map_delete_elem(&sessions, &key) != 0)
                return false;

        full_barrier_and_count();
        return true;
}

/* Whether a task, its task_struct at @target (0: none, and thus all), may be on a CPU of @word, word @i of a
 * set. What cannot be read is taken to be so. */
static __always_inline bool may_run(__u64 target, unsigned i, __u64 word) {
        unsigned n_affinity = bpf_core_field_size(((struct task_struct *)0)->cpus_mask) / sizeof(__u64);
        __u64 affinity;

        if (word == 0 || target == 0)
                return word != 0;
        if (i >= n_affinity)
                return false;
        target += bpf_core_field_offset(struct task_struct, cpus_mask) + i * sizeof(affinity);
        return bpf_probe_read_kernel(&affinity, sizeof(affinity), (void *)target) != 0 || (word & affinity);
}

/*
 * Whether the reach of an event, its CPU (below 0: all of its PMU's, @cpus, where these are known) and its
 * target (0: none) the affinity, meets @closed. CPUs beyond the set are not closed.
 *
 * Not inlined, and not static: so the verifier goes through it by itself, once, and not anew in each state in
 * which it is called. One CPU needs no loop, in which the verifier would follow all that it could be. Only
 * @cpus is ever NULL, which the verifier does not know.
 */
__noinline int meets(const ArbiterWords *closed, const ArbiterWords *cpus, int cpu, __u64 target) {
        unsigned own = (unsigned)cpu / 64;

        if (!closed)
                return true;
        /* An event's own CPU the kernel has compared to its PMU's, as they are: those that were named may be
         * of before the driver was loaded anew. */
        if (cpu >= 0)
                return own < ARBITER_SET_WORDS &&
                       may_run(target, own, LOAD(closed->words[own]) & 1ULL << ((unsigned)cpu % 64));

        for (unsigned i = 0; i < ARBITER_SET_WORDS; i++) {
                __u64 word = LOAD(closed->words[i]);

                if (cpus)
                        word &= cpus->words[i];
                if (may_run(target, i, word))
                        return true;
        }
        return false;
}

/* Whether the event would be one on a thread in the control group of an owner or below it, as it is now: what
 * an owner has started since it got its lease is there too. */
static __always_inline bool meets_group(struct task_struct *task, const ArbiterWords *cpus, int cpu) {
        struct cgroup *group = owner_group(task);
        const ArbiterWords *owner;
        __u64 key;

        for (unsigned i = 0; i < OWNER_CGROUP_DEPTH && group; i++) {
                key = owner_group_key(group);
                owner = bpf_map_lookup_elem(&owners, &key);
                if (owner && meets(owner, cpus, cpu, (__u64)task))
                        return true;
                group = owner_group_parent(group);
        }
        return false;
}

static __always_inline __u32 refusal_of(const ArbiterEntry *entry, const ArbiterWords *cpus,
                                        struct perf_event *event) {
        __u64 target = (__u64)BPF_CORE_READ(event, hw.target), process = entry->target_process;
        const ArbiterWords *owner;

        if (!target)
                return meets(&control.cpu_wide, cpus, entry->cpu, 0) ? CAUSE_CPU_WIDE : CAUSE_NONE;
        if (meets(&control.task_bound, cpus, entry->cpu, target))
                return CAUSE_TASK_BOUND;
        owner = bpf_map_lookup_elem(&owners, &process);
        if (owner && meets(owner, cpus, entry->cpu, target))
                return CAUSE_OWNER;
        return meets_group((struct task_struct *)target, cpus, entry->cpu) ? CAUSE_OWNER : CAUSE_NONE;
}

/* The proof that the kernel does as an LSM program says: one event, marked by who asks for it, of a PMU that
 * is known by its name as all others are. */
static __always_inline bool is_probe(struct perf_event *event) {
        __u64 probe = LOAD(control.probe);

        if (probe == 0 || event->attr.config1 != probe || !begins_with(event->pmu->name, "software"))
                return false;

        control.probe = 0;
        control.probed = (__u64)event;
        return true;
}

/* Whether @task is of the broker. When it started is looked at too, as its number may be another's once it
 * is gone and the programs go on without it. */
static __always_inline bool is_broker(struct task_struct *task) {
        __u64 self = LOAD(control.self);

        return self != 0 && (__u64)BPF_CORE_READ(task, tgid) == self &&
               BPF_CORE_READ(task, group_leader, start_boottime) == LOAD(control.self_since);
}

SEC("lsm/perf_event_alloc")
int BPF_PROG(refuse, struct perf_event *event, int verdict) {
        ArbiterEntry entry = {}, *entered;
        const ArbiterWords *cpus;
        __u64 key = (__u64)event;
        __u32 cause;

        if (verdict != 0)
                return verdict;
        if (event->parent)
                return 0;
        if (is_probe(event))
                return -EBUSY;
        if (!is_spu(event->pmu->name, entry.pmu, &cpus) ||
            is_broker((struct task_struct *)bpf_get_current_task()))
                return 0;

        describe_event(&entry, event);
        describe_opener(&entry);
        if (enter(key, &entry) != 0) {
                tell_refusal(&entry, CAUSE_FULL);
                return -EBUSY;
        }

        /* Here is the full barrier: enter() ends with it. */
        cause = refusal_of(&entry, cpus, event);
        if (cause != CAUSE_NONE) {
                leave(key);
                tell_refusal(&entry, cause);
                return -EBUSY;
        }

        entered = bpf_map_lookup_elem(&sessions, &key);
        if (entered)
                entered->open = 1;
        COUNT(control.opened);
        ring();
        return 0;
}

/* What all security modules said together. */
SEC("fexit/security_perf_event_alloc")
int BPF_PROG(allocated, struct perf_event *event, int verdict) {
        ArbiterEntry entry = {.open = 1};
        const ArbiterWords *cpus;
        __u64 key = (__u64)event;

        if (event->parent)
                return 0;
        if (verdict != 0) {
                if (leave(key)) { /* another one refused it after us */
                        COUNT(control.closed);
                        ring();
                }
                return 0;
        }
        if (!is_spu(event->pmu->name, entry.pmu, &cpus) || bpf_map_lookup_elem(&sessions, &key) ||
            is_broker((struct task_struct *)bpf_get_current_task()))
                return 0;

        describe_event(&entry, event);
        describe_opener(&entry);
        if (LOAD(control.refuses))
                COUNT(control.drifted);
        if (enter(key, &entry) != 0) {
                COUNT(control.full);
                return 0;
        }
        COUNT(control.opened);
        ring();
        return 0;
}

static __always_inline bool is_freed(struct perf_event *event) {
        if (!leave((__u64)event))
                return false;

        COUNT(control.closed);
        ring();
        return true;
}

SEC("fentry/security_perf_event_free")
int BPF_PROG(freeing, struct perf_event *event) {
        const ArbiterWords *cpus;
        char name[ARBITER_NAME_BYTES];

        if (is_freed(event) || event->parent)
                return 0;

        if (LOAD(control.probed) == (__u64)event)
                control.probe_freed = 1;
        else if (LOAD(control.exact) && is_spu(event->pmu->name, name, &cpus) &&
                 !is_broker((struct task_struct *)bpf_get_current_task()))
                COUNT(control.drifted);
        return 0;
}

SEC("fexit/security_perf_event_free")
int BPF_PROG(freed, struct perf_event *event) {
        is_freed(event);
        return 0;
}

/* Whether an event cannot be the one that was entered. The thread may have changed: exec() leaves the number
 * of the process alone. */
static __always_inline bool is_another(struct perf_event *event, const ArbiterEntry *known) {
        struct task_struct *target = BPF_CORE_READ(event, hw.target);
        __u32 process = target ? BPF_CORE_READ(target, tgid) : 0;
        char name[ARBITER_NAME_BYTES];
        const ArbiterWords *cpus;

        return BPF_CORE_READ(event, cpu) != known->cpu || process != known->target_process ||
               !is_spu(BPF_CORE_READ(event, pmu, name), name, &cpus);
}

/*
 * An event that has a descriptor, found by its file: of @process, or that called by the current one. It lives
 * while its file does.
 */
static __always_inline void found(struct file *file, const ArbiterEntry *holder) {
        struct perf_event *event = BPF_CORE_READ(file, private_data);
        __u64 key = (__u64)event;
        ArbiterEntry entry = *holder, *known;
        const ArbiterWords *cpus;
        long r;

        known = bpf_map_lookup_elem(&sessions, &key);
        if (known && LOAD(control.hinted) && (entry.opened_nsec || is_another(event, known))) {
                /* Its end was missed, and the kernel has used the address again; or the iterator was faster.
                 */
                if (known->seen < LOAD(control.iteration))
                        COUNT(control.drifted);
                leave(key);
        } else if (known) {
                known->seen = LOAD(control.iteration);
                bpf_map_update_elem(&holders, &entry.process, &entry.uid, BPF_ANY);
                return;
        }
        if (BPF_CORE_READ(event, parent) || !is_spu(BPF_CORE_READ(event, pmu, name), entry.pmu, &cpus))
                return;

        describe_event(&entry, event);
        entry.seen = LOAD(control.iteration);
        entry.open = 1;
        bpf_map_update_elem(&holders, &entry.process, &entry.uid, BPF_ANY);
        r = bpf_map_update_elem(&sessions, &key, &entry, BPF_NOEXIST);
        if (r == -EEXIST)
                return;
        if (r != 0) {
                COUNT(control.full);
                return;
        }
        full_barrier_and_count();
        COUNT(control.opened);
}

/* The files of perf events have operations of their own; which, is learnt from one that the broker opened. */
static __always_inline bool is_perf_file(struct file *file, struct task_struct *task) {
        struct perf_event *event = BPF_CORE_READ(file, private_data);
        __u64 operations = (__u64)BPF_CORE_READ(file, f_op), lesson = LOAD(control.lesson);

        if (lesson != 0 && event && BPF_CORE_READ(event, attr.config1) == lesson) {
                control.file_operations = operations;
                control.self_since = BPF_CORE_READ(task, group_leader, start_boottime);
                control.self = BPF_CORE_READ(task, tgid);
        }
        return operations != 0 && operations == LOAD(control.file_operations);
}

SEC("iter/task_file")
int look(struct bpf_iter__task_file *context) {
        struct task_struct *task = context->task;
        struct file *file = context->file;
        ArbiterEntry holder = {};

        if (!task || !file || !is_perf_file(file, task) || is_broker(task))
                return 0;

        holder.process = BPF_CORE_READ(task, tgid);
        holder.uid = BPF_CORE_READ(task, cred, uid.val);
        BPF_CORE_READ_STR_INTO(&holder.command, task, group_leader, comm);
        found(file, &holder);
        return 0;
}

static __always_inline __s64 number_of(__u64 registers) {
        if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->orig_ax))
                return BPF_CORE_READ((struct pt_regs___x86 *)registers, orig_ax) & ~SYSCALL_X32;
        return BPF_CORE_READ((struct pt_regs___arm64 *)registers, syscallno);
}

static __always_inline void has_opened(__u64 fd) {
        struct task_struct *task = (struct task_struct *)bpf_get_current_task();
        struct fdtable *table = BPF_CORE_READ(task, files, fdt);
        struct file **files = BPF_CORE_READ(table, fd), *file = NULL;
        ArbiterEntry holder = {};

        if (fd >= BPF_CORE_READ(table, max_fds) ||
            bpf_probe_read_kernel(&file, sizeof(file), files + fd) < 0 || !file ||
            !is_perf_file(file, task) || is_broker(task))
                return;

        describe_opener(&holder);
        found(file, &holder);
        ring();
}

/* Runs at the end of every system call of the machine while it is attached. */
SEC("raw_tp/sys_exit")
int returning(struct bpf_raw_tracepoint_args *context) {
        __s64 number = number_of(context->args[0]), result = (__s64)context->args[1];
        __u32 process;

        for (unsigned i = 0; i < ARBITER_OPENING_CALLS; i++)
                if (number == opening_calls[i]) {
                        if (result >= 0)
                                has_opened((__u64)result);
                        return 0;
                }
        for (unsigned i = 0; i < ARBITER_CLOSING_CALLS; i++)
                if (number == closing_calls[i]) {
                        process = bpf_get_current_pid_tgid() >> 32;
                        if (bpf_map_lookup_elem(&holders, &process))
                                ring();
                        return 0;
                }
        return 0;
}

char _license[] SEC("license") = "GPL";
