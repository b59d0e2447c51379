/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the BPF programs (spe-arbiter.bpf.c) and those who load them (arbiter.c) share: what lies in the maps.
 * Both include a header that defines the kernel's types first. These are the same on both sides as every
 * member is aligned to its size.
 */

#define ARBITER_SESSIONS      16384U /* entries of the table: beyond, events are refused (LSM) or not seen */
#define ARBITER_OWNERS        16384U
#define ARBITER_PMUS          4096U
#define ARBITER_HOLDERS       16384U
#define ARBITER_RING_BYTES    (256U * 1024U)
#define ARBITER_SET_WORDS     64U /* CpuSet's */
#define ARBITER_NAME_BYTES    32U /* ARBITER_PMU_NAME */
#define ARBITER_COMM_BYTES    16U
#define ARBITER_SPU_PREFIX    "arm_spe_" /* as long as one word, and compared as one */
#define ARBITER_OPENING_CALLS 3U
#define ARBITER_CLOSING_CALLS 6U

typedef struct ArbiterWords {
        __u64 words[ARBITER_SET_WORDS];
} ArbiterWords;

typedef struct ArbiterName {
        char text[ARBITER_NAME_BYTES];
} ArbiterName;

/* An entry of the table `sessions`; its key is the event's address. Whole from the moment it is there, but
 * for the two that change: state and seen. */
typedef struct ArbiterEntry {
        __u64 opened_nsec;
        __u64 seen; /* the last iteration that met it */
        __s32 cpu;
        __u32 target_thread;
        __u32 target_process;
        __u32 process;
        __u32 uid;
        __u32 open; /* 0: entering, as the hook has not decided yet */
        char pmu[ARBITER_NAME_BYTES];
        char command[ARBITER_COMM_BYTES];
} ArbiterEntry;

/* What the ring carries: refusals, and a bell of one word that says no more than that something is new. */
typedef struct ArbiterNotice {
        ArbiterEntry entry;
        __u64 cause; /* an ArbiterCause */
} ArbiterNotice;

/* The programs' global data, which the broker has mapped. */
typedef struct ArbiterControl {
        /* By the broker, read by the programs. */
        ArbiterWords cpu_wide;
        ArbiterWords task_bound;
        __u64 iteration;     /* the number of the last one over all processes, or of that under way */
        __u64 iterated_nsec; /* CLOCK_BOOTTIME, when it began */
        __u64 named;   /* how many PMUs have been named whose names do not begin with ARBITER_SPU_PREFIX */
        __u64 refuses; /* an LSM program decides: what gets past it is drift */
        __u64 hinted;  /* ends are not seen (hook TRACEPOINTS), so an address may be another event's later */
        __u64 exact;   /* on this kernel, only events that were let in are reported to the free hook */
        __u64 probe;   /* config1 of the one event to refuse as a proof; 0: none */
        __u64 lesson;  /* config1 of the event by which the iterator knows the file operations of all; 0: none
                        */

        /* By the programs. */
        __u64 generation;
        __u64 rung; /* the bell is in the ring, and has not been heard */
        __u64 file_operations;
        __u64 self; /* the process that showed that event: what it opens is not looked at */
        __u64 self_since;
        __u64 probed;      /* address of the event that was refused as a proof */
        __u64 probe_freed; /* it was reported to the free hook nevertheless */
        __u64 opened;
        __u64 closed;
        __u64 refused;
        __u64 full;
        __u64 drifted;
        __u64 lost;
} ArbiterControl;
