/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The gate in the kernel: a BPF program of type LSM that refuses, or only reports, that a process sets an
 * attribute of SPE's group on a VCPU (KVM_SET_DEVICE_ATTR) without a lease that fits. No policy lives there:
 * who may set what is a table that is kept by whoever grants leases.
 *
 * What it compares, KVM reads again from the caller's memory, which another thread may have changed: it stops
 * those who do not ask, not those who are out to cheat.
 *
 * Without SPE_BPF this is a twin (gate-none.c) that is never in force and says so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/owner-key.h"
#include "util/cleanup.h"
#include "util/named-fd.h"

#define GATE_COMMAND_MAX 16U /* TASK_COMM_LEN */
/* In place of a PMU type: whatever the SPU. */
#define GATE_SPU_ANY UINT64_MAX

typedef struct Gate Gate;

typedef enum GateAction {
        GATE_ACTION_NONE,   /* lets all pass */
        GATE_ACTION_REPORT, /* and tells what it would refuse */
        GATE_ACTION_REFUSE,
} GateAction;

/* What is done, and by which numbers of KVM's attributes of VCPUs are known. */
typedef struct GateRule {
        GateAction action;
        uint32_t group;
        uint32_t attribute_spu;
        bool knows_size; /* else sizes are not compared */
        uint32_t attribute_size;
} GateRule;

/* That an owner may set attributes: all that compare nothing, if @pmu_type is GATE_SPU_ANY; else that SPU.
 * Whoever is in several groups that may, may what the innermost may. */
typedef struct GateGrant {
        OwnerKey owner;
        uint64_t start_ticks; /* when a process was started, as /proc/PID/stat says */
        uint64_t pmu_type;
        uint64_t buffer_size; /* the most that it may set, in bytes; it counts at GATE_SPU_ANY */
} GateGrant;

typedef enum GateCause {
        GATE_CAUSE_NO_LEASE,
        GATE_CAUSE_OTHER_SPU,
        GATE_CAUSE_TOO_LARGE,
        _GATE_CAUSE_MAX,
} GateCause;

/* Process ids are those of the initial pid namespace, users those of the initial user namespace. */
typedef struct GateRefusal {
        GateCause cause;
        bool refused; /* false: it was let through, and told of */
        pid_t pid;
        uid_t uid;
        char command[GATE_COMMAND_MAX];
        uint64_t attribute;
        uint64_t value;   /* OTHER_SPU: the PMU type; TOO_LARGE: bytes, 0 for no limit */
        uint64_t allowed; /* TOO_LARGE: bytes */
} GateRefusal;

/* Since it was attached, whichever process did that. */
typedef struct GateCounters {
        uint64_t refused;
        uint64_t reported;
        uint64_t lost; /* of them, not told, as too many came at once */
} GateCounters;

/*
 * Attaches it, taking up where an earlier process left (@kept: what gate_get_kept() named; descriptors of
 * names that are known become the gate's, and are -1 then), and has the kernel refuse one call for it as a
 * proof. What was kept goes on doing what it did; a new one lets all pass. Never fails for lack of a hook:
 * that is a gate that is not attached, with a reason. What this process sets on VCPUs, it lets pass. Needs
 * CAP_BPF and CAP_PERFMON.
 */
int gate_new(NamedFd *kept, size_t n_kept, Gate **ret_gate);
/* Detaches, unless a copy of the descriptors is kept elsewhere. */
Gate *gate_free(Gate *gate);
DEFINE_CLEANUP(Gate *, gate_free)

bool gate_is_attached(const Gate *gate);
/* Why it is not, a sentence; NULL where it is. */
const char *gate_get_reason(const Gate *gate);
/* What to do about that, one line, or NULL. */
const char *gate_get_advice(const Gate *gate);
void gate_get_counters(const Gate *gate, GateCounters *ret_counters);

/* The descriptors that keep it going without this process; names and numbers stay the gate's. Returns how
 * many there are, of which up to @n are written. */
size_t gate_get_kept(const Gate *gate, NamedFd *kept, size_t n);

void gate_set_rule(Gate *gate, const GateRule *rule);
/* From its return on. -E2BIG: too many. */
int gate_allow(Gate *gate, const GateGrant *grant);
int gate_disallow(Gate *gate, OwnerKey owner, uint64_t pmu_type);
/* Disallows all but those that @stays is true of: what an earlier process has left. */
typedef bool (*GateStaysFn)(OwnerKey owner, uint64_t pmu_type, void *userdata);
int gate_disallow_others(Gate *gate, GateStaysFn stays, void *userdata);

/* Readable when there is something to tell. -1: there never is. gate_process() tells it, a bounded number at
 * a time: what is left keeps it readable. */
int gate_get_fd(const Gate *gate);
typedef void (*GateRefusalFn)(const GateRefusal *refusal, void *userdata);
int gate_process(Gate *gate, GateRefusalFn refused, void *userdata);
