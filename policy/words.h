/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The words of the interface as enums, with their texts: what a mode, an owner, a state is called is written
 * here once. x_to_string() of a valid value is never NULL; x_from_string() is _X_INVALID for an unknown word.
 */

#include <errno.h>

typedef enum LeaseMode {
        LEASE_MODE_EXCLUSIVE, /* no host session and no other lease on these CPUs */
        LEASE_MODE_GUEST,     /* no CPU-wide host session; other leases may overlap */
        LEASE_MODE_SHARED,    /* host sessions are allowed, and reported */
        _LEASE_MODE_MAX,
        _LEASE_MODE_INVALID = -EINVAL,
} LeaseMode;

typedef enum LeaseState {
        LEASE_STATE_QUEUED,
        LEASE_STATE_GRANTED,
        LEASE_STATE_REVOKING, /* holds its CPUs until its deadline */
        LEASE_STATE_REVOKED,  /* holds nothing, but is charged: KVM cannot switch a guest's SPE off */
        LEASE_STATE_ENDED,
        _LEASE_STATE_MAX,
        _LEASE_STATE_INVALID = -EINVAL,
} LeaseState;

typedef enum AssignmentOwner {
        ASSIGNMENT_OWNER_HOST,  /* no leases */
        ASSIGNMENT_OWNER_GUEST, /* no host sessions */
        ASSIGNMENT_OWNER_ANY,   /* whoever comes first */
        ASSIGNMENT_OWNER_NONE,  /* drained: neither */
        _ASSIGNMENT_OWNER_MAX,
        _ASSIGNMENT_OWNER_INVALID = -EINVAL,
} AssignmentOwner;

/* In rising precedence: for a CPU, the highest origin that speaks of it decides. */
typedef enum AssignmentOrigin {
        ASSIGNMENT_ORIGIN_CONFIG,
        ASSIGNMENT_ORIGIN_PERSISTENT,
        ASSIGNMENT_ORIGIN_RUNTIME,
        _ASSIGNMENT_ORIGIN_MAX,
        _ASSIGNMENT_ORIGIN_INVALID = -EINVAL,
} AssignmentOrigin;

typedef enum VmOrigin {
        VM_ORIGIN_ADMINISTRATOR, /* said by one */
        VM_ORIGIN_MACHINE,       /* derived from the owner's systemd machine */
        VM_ORIGIN_UNIT,          /* derived from the owner's systemd system unit */
        VM_ORIGIN_CALLER,        /* just claimed: nothing that is kept for a VM name applies */
        _VM_ORIGIN_MAX,
        _VM_ORIGIN_INVALID = -EINVAL,
} VmOrigin;

typedef enum InstanceState {
        INSTANCE_STATE_READY,
        INSTANCE_STATE_PARTIAL,
        INSTANCE_STATE_GONE,
        _INSTANCE_STATE_MAX,
        _INSTANCE_STATE_INVALID = -EINVAL,
} InstanceState;

typedef enum GuestSupport {
        GUEST_SUPPORT_YES,
        GUEST_SUPPORT_NO,
        GUEST_SUPPORT_UNKNOWN,
        _GUEST_SUPPORT_MAX,
        _GUEST_SUPPORT_INVALID = -EINVAL,
} GuestSupport;

/* What a perf event on an SPU is bound to. */
typedef enum SessionKind {
        SESSION_KIND_CPU,     /* CPU-wide */
        SESSION_KIND_TASK,    /* a task, on whatever CPU it runs */
        SESSION_KIND_TASKCPU, /* a task, while it runs on one CPU */
        _SESSION_KIND_MAX,
        _SESSION_KIND_INVALID = -EINVAL,
} SessionKind;

/* How host sessions are kept off; each is better than those before it. */
typedef enum ArbitrationLevel {
        ARBITRATION_LEVEL_NONE,    /* not seen */
        ARBITRATION_LEVEL_OBSERVE, /* seen, not refused */
        ARBITRATION_LEVEL_RESERVE, /* by perf's own exclusivity, coarser than the rule */
        ARBITRATION_LEVEL_ENFORCE, /* by a BPF LSM program, to the rule */
        _ARBITRATION_LEVEL_MAX,
        _ARBITRATION_LEVEL_INVALID = -EINVAL,
} ArbitrationLevel;

/* What becomes of VCPUs that are given SPE without a lease that fits. */
typedef enum GateLevel {
        GATE_LEVEL_OFF,     /* nobody looks */
        GATE_LEVEL_LOG,     /* it is reported */
        GATE_LEVEL_ENFORCE, /* and refused */
        _GATE_LEVEL_MAX,
        _GATE_LEVEL_INVALID = -EINVAL,
} GateLevel;

const char *lease_mode_to_string(LeaseMode mode);
LeaseMode lease_mode_from_string(const char *text);
const char *lease_state_to_string(LeaseState state);
LeaseState lease_state_from_string(const char *text);
const char *assignment_owner_to_string(AssignmentOwner owner);
AssignmentOwner assignment_owner_from_string(const char *text);
const char *assignment_origin_to_string(AssignmentOrigin origin);
AssignmentOrigin assignment_origin_from_string(const char *text);
const char *vm_origin_to_string(VmOrigin origin);
VmOrigin vm_origin_from_string(const char *text);
const char *instance_state_to_string(InstanceState state);
const char *guest_support_to_string(GuestSupport support);
const char *session_kind_to_string(SessionKind kind);
const char *arbitration_level_to_string(ArbitrationLevel level);
ArbitrationLevel arbitration_level_from_string(const char *text);
const char *gate_level_to_string(GateLevel level);
GateLevel gate_level_from_string(const char *text);
