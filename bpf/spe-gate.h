/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the BPF program of the gate (spe-gate.bpf.c) and those who load it (gate.c) share: what lies in the
 * maps. Both include a header that defines the kernel's types first. These are the same on both sides as
 * every member is aligned to its size.
 */

#define GATE_PERMITS    16384U
#define GATE_RING_BYTES (64U * 1024U)
#define GATE_COMM_BYTES 16U
/* In GateKey.pmu_type: whatever the SPU. No PMU type, which are of 32 bits. */
#define GATE_ANY_SPU (1ULL << 32)
/* An attribute that the program does not know: no number of KVM's is that large. */
#define GATE_NO_ATTRIBUTE (~0ULL)

typedef struct GateKey {
        __u64 owner; /* as in spe-owner.h */
        __u64 pmu_type;
} GateKey;

/* That an owner has a lease on that SPU; of GATE_ANY_SPU, that it has one at all. */
typedef struct GatePermit {
        __u64 start_ticks; /* when a process was started, as in /proc/PID/stat: another one has another */
        __u64 buffer_size; /* bytes, the largest of these leases */
} GatePermit;

/* What the ring carries: that an attribute was, or should have been, refused. */
typedef struct GateNotice {
        __u64 attribute;
        __u64 value;   /* of the attribute, where that was read */
        __u64 allowed; /* a size that was too large: the largest that would not have been */
        __u32 process;
        __u32 uid;
        __u32 cause; /* a GateCause */
        __u32 refused;
        char command[GATE_COMM_BYTES]; /* of the process's first thread */
} GateNotice;

/* In GateControl.level. */
#define GATE_OFF    0U
#define GATE_REPORT 1U
#define GATE_REFUSE 2U

/* The program's global data, which the broker has mapped. */
typedef struct GateControl {
        /* By the broker, read by the program. */
        __u64 level;
        __u64 group; /* of attributes, that is SPE's */
        __u64 attribute_spu;
        __u64 attribute_size;
        __u64 tick_nsec; /* that /proc/PID/stat counts in */
        __u64 probe;     /* the argument of the one call to refuse as a proof; 0: none */

        /* By the program. */
        __u64 probed; /* it was refused */
        __u64 self;   /* the process that made it: what it does with VCPUs of its own is not looked at */
        __u64 self_since;
        __u64 refused;
        __u64 reported;
        __u64 lost;
} GateControl;
