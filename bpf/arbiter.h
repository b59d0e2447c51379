/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Eyes and a hand in the kernel: a table of every perf event that is open on an SPU, kept by BPF programs at
 * the places where the kernel makes and frees events, and two sets of CPUs on which those programs refuse new
 * ones. No policy lives there: which CPUs are closed is worked out elsewhere (policy/closed.h) and only
 * looked up by the programs.
 *
 * The invariant that closing is about: a session that the hook let in is in the table before the hook tests
 * the closed sets, with a full barrier between the two; arbiter_close() publishes the sets, with a full
 * barrier after it. So of a session and a close that race, the session sees the close or whoever closed, and
 * then calls arbiter_read(), sees the session.
 *
 * Without SPE_BPF this is a twin (arbiter-none.c) that has no hook and says so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/owner-key.h"
#include "util/cleanup.h"
#include "util/cpuset.h"
#include "util/named-fd.h"

#define ARBITER_PMU_NAME    32U /* with its NUL; a longer name is cut in the kernel and matches nothing */
#define ARBITER_COMMAND_MAX 16U /* TASK_COMM_LEN */

/* How sessions are seen. Each sees and does what those before it do. */
typedef enum ArbiterHook {
        ARBITER_HOOK_NONE,
        /*
         * Tracepoints of system calls and an iterator over open files: opens are seen, closes are hinted at.
         * Which of its entries are dead, arbiter_iterate() and whoever asks the kernel (bpf/reserve.h) find
         * out.
         */
        ARBITER_HOOK_TRACEPOINTS,
        ARBITER_HOOK_TRAMPOLINES, /* fexit of allocation and fentry of free: both are seen, exactly */
        ARBITER_HOOK_LSM,         /* and an LSM program that refuses what is closed */
        _ARBITER_HOOK_MAX,
} ArbiterHook;

typedef struct Arbiter Arbiter;

/* An SPU's PMU as the kernel calls it, and its CPUs. */
typedef struct ArbiterPmu {
        char name[ARBITER_PMU_NAME];
        CpuSet cpus;
} ArbiterPmu;

/* Where new events are refused. */
typedef struct ArbiterClosed {
        CpuSet cpu_wide;
        CpuSet task_bound; /* where the target's affinity, the event's CPU and the PMU's CPUs meet it */
} ArbiterClosed;

/* One perf event on an SPU. Those that this process opens itself are not told of, nor refused, at any hook:
 * with such it asks the kernel, and holds CPUs (bpf/reserve.h). Process and thread ids are those of the
 * initial pid namespace, users those of the initial user namespace. */
typedef struct ArbiterSession {
        uint64_t id; /* the event's address: opaque, reused by the kernel after its end */
        char pmu[ARBITER_PMU_NAME];
        int cpu;             /* -1: any */
        pid_t target_thread; /* 0: CPU-wide */
        pid_t target_process;
        pid_t pid; /* the process that opened it; of one found by the iterator, that has a descriptor of it */
        uid_t uid;
        char command[ARBITER_COMMAND_MAX];
        uint64_t opened_nsec; /* CLOCK_BOOTTIME; 0: it was open before the programs were attached */
        bool entering;        /* the hook has not decided on it yet: read again in a moment */
        bool unseen; /* the last arbiter_iterate() over all processes found no descriptor of it: closed
                        unseen, or mapped and then closed, or in flight */
} ArbiterSession;

/* Why a program refused an event. */
typedef enum ArbiterCause {
        ARBITER_CAUSE_CPU_WIDE,   /* its CPU is closed to CPU-wide ones */
        ARBITER_CAUSE_TASK_BOUND, /* its reach meets what is closed to task-bound ones */
        ARBITER_CAUSE_OWNER,      /* its target is the owner of a lease there (arbiter_close_owner()) */
        ARBITER_CAUSE_FULL,       /* the table has no room: what cannot be seen is not let in */
} ArbiterCause;

/* A refused perf_event_open(). */
typedef struct ArbiterRefusal {
        ArbiterCause cause;
        ArbiterSession session; /* as it would have been; id is 0 */
        CpuSet affinity;        /* task-bound: of the target, when it was refused; else empty */
} ArbiterRefusal;

typedef struct ArbiterCounters {
        uint64_t opened;
        uint64_t closed;
        uint64_t refused;
        uint64_t full;    /* events for which the table had no room: refused (LSM) or not seen (others) */
        uint64_t drifted; /* events on an SPU that ended without having been in the table, or the reverse */
        uint64_t lost;    /* refusals that were not told, as too many came at once */
} ArbiterCounters;

/*
 * Attaches the best hook that this kernel has, @highest at most, taking up where an earlier process left
 * (@kept: what arbiter_get_kept() named; descriptors of names that are known become the arbiter's, and are -1
 * then). Then waits for programs in flight, and iterates over the events that are open. LSM counts only after
 * the kernel was seen to refuse an event of this process for it. Never fails for lack of a hook: that is
 * ARBITER_HOOK_NONE with a reason. Needs CAP_BPF and CAP_PERFMON.
 */
int arbiter_new(ArbiterHook highest, NamedFd *kept, size_t n_kept, Arbiter **ret_arbiter);
/* Detaches, unless a copy of the descriptors is kept elsewhere. */
Arbiter *arbiter_free(Arbiter *arbiter);
DEFINE_CLEANUP(Arbiter *, arbiter_free)

ArbiterHook arbiter_get_hook(const Arbiter *arbiter);
/* Why there is no better hook, a sentence; NULL at LSM, and where none better was wanted. */
const char *arbiter_get_reason(const Arbiter *arbiter);
/* What to do about that, one line, or NULL. */
const char *arbiter_get_advice(const Arbiter *arbiter);
void arbiter_get_counters(const Arbiter *arbiter, ArbiterCounters *ret_counters);

/* The descriptors that keep the programs going without this process; their names and numbers stay the
 * arbiter's. Returns how many there are, of which up to @n are written. */
size_t arbiter_get_kept(const Arbiter *arbiter, NamedFd *kept, size_t n);

/*
 * The doorbell: readable when the table has changed, a descriptor may have been closed, or an event was
 * refused. -1: there is none. arbiter_process() empties it and tells of the refusals, a bounded number at a
 * time: what is left keeps it readable. The table is then read anew. Rings that come meanwhile are one.
 */
int arbiter_get_fd(const Arbiter *arbiter);
typedef void (*ArbiterRefusalFn)(const ArbiterRefusal *refusal, void *userdata);
int arbiter_process(Arbiter *arbiter, ArbiterRefusalFn refused, void *userdata);

/*
 * The PMUs that are SPUs, besides all whose name begins with "arm_spe_": an event of a PMU that is not named
 * here counts as one that reaches every CPU of its target's affinity. When one
 * is new among them whose name does not, events of it that are open already are looked for.
 */
int arbiter_set_pmus(Arbiter *arbiter, const ArbiterPmu *pmus, size_t n_pmus);

/* Closes and opens CPUs: @closed is all that is closed from now on. Ends with a full barrier. */
void arbiter_close(Arbiter *arbiter, const ArbiterClosed *closed);
/* Closes @cpus to events bound to a thread of @owner too; an empty set takes that back. -E2BIG: too many. */
int arbiter_close_owner(Arbiter *arbiter, OwnerKey owner, const CpuSet *cpus);
/* Takes back all of that, what an earlier process has left too, but for owners that @stays is true of. */
typedef bool (*ArbiterStaysFn)(OwnerKey owner, void *userdata);
int arbiter_open_owners(Arbiter *arbiter, ArbiterStaysFn stays, void *userdata);

/*
 * Counts up with every change of the table, before the hook that made it goes on to test the closed sets. If
 * it is what it was before the last arbiter_read(), that read still holds. One load, ordered after
 * arbiter_close().
 */
uint64_t arbiter_get_generation(const Arbiter *arbiter);
/* The table, in no order, as an array of the caller's. */
int arbiter_read(const Arbiter *arbiter, ArbiterSession **ret_sessions, size_t *ret_n);
/*
 * Looks at the descriptors of all processes (@process 0) or one, adds events that are not in the table, and
 * marks as unseen those that it did not meet (all processes only).
 */
int arbiter_iterate(Arbiter *arbiter, pid_t process);
/*
 * At hook TRACEPOINTS, the processes that were seen to have a descriptor, by opening it or by an iteration;
 * some have none any more, or are gone. At others there are none. An array of the caller's.
 */
int arbiter_read_holders(const Arbiter *arbiter, pid_t **ret_processes, size_t *ret_n);
/* @process is gone. */
void arbiter_forget_holder(Arbiter *arbiter, pid_t process);
/* Takes an entry out that is unseen, and that the kernel has denied; counted as drift. One that is not unseen
 * (it was met, or is another of the same address) stays. */
void arbiter_forget(Arbiter *arbiter, uint64_t id);
