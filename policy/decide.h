/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The decision: one pure function of the model and a complete request. No I/O, no clock, no allocation, no
 * JSON, so that it can be tested to death. Query prints its answer, Acquire carries it out, settle asks it
 * again for every waiter.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/assignment.h"
#include "policy/instance.h"
#include "policy/ledger.h"
#include "policy/limits.h"
#include "policy/occupancy.h"
#include "policy/session.h"
#include "policy/words.h"
#include "util/cpuset.h"

/* What earlier waiters have asked for: a request in their way is Busy, even on free CPUs. */
typedef struct Claims {
        CpuSet by_mode[_LEASE_MODE_MAX];
} Claims;

#define CLAIMS_NULL ((Claims){0})
void claims_add(Claims *claims, LeaseMode mode, const CpuSet *cpus);

typedef struct Model {
        InstanceTable instances;
        AssignmentTable assignments;
        Occupancy occupancy;
        SessionOccupancy sessions;
        Ledger ledger;
        Limits limits;
        /* Why no lease can be protected, if the configuration names a level that this host does not have;
         * else NULL. Borrowed. Shared ones need no protection. */
        const char *unprotected_reason;
} Model;

/* A request with all defaults filled in. Strings and pointers are borrowed for the call. */
typedef struct PolicyRequest {
        uid_t uid;
        bool administrator;
        const char *vm;
        VmOrigin vm_origin;
        unsigned vcpus;
        bool has_cpus;
        CpuSet cpus;          /* if has_cpus; not empty */
        const char *instance; /* NULL: choose */
        bool has_affinity;
        CpuSet affinity; /* if has_affinity: where the owner may run. Counts only without cpus */
        uint64_t buffer_size;
        bool exact;
        LeaseMode mode;
        /* Where task-bound sessions reach whose target is the owner: as they are now, not when it asked. */
        CpuSet own_sessions;
} PolicyRequest;

/* In the order in which they are answered. */
typedef enum RefusalKind {
        REFUSAL_NO_SUCH_INSTANCE,
        REFUSAL_INSTANCE_NOT_READY,
        REFUSAL_GUEST_UNSUPPORTED,
        REFUSAL_NO_INSTANCE_FOR_CPUS,
        REFUSAL_NOT_ASSIGNED,
        REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE,
        REFUSAL_LIMIT_EXCEEDED,
        REFUSAL_ARBITRATION_UNAVAILABLE,
        REFUSAL_BUSY,
        _REFUSAL_MAX,
} RefusalKind;

/* "NoSuchInstance": the error's last component. */
const char *refusal_kind_to_string(RefusalKind kind);

/* The limits' names, as in the configuration; also limitedBy. */
#define LIMIT_INSTANCE_MAX_BUFFER_SIZE "maxBufferSize"
#define LIMIT_MAX_BUFFER_SIZE          "MaxBufferSize"
#define LIMIT_MAX_MEMORY_PER_VM        "MaxMemoryPerVM"
#define LIMIT_MAX_MEMORY_PER_USER      "MaxMemoryPerUser"
#define LIMIT_MAX_MEMORY               "MaxMemory"
#define LIMIT_MAX_LEASES               "MaxLeases"
#define LIMIT_MAX_LEASES_PER_USER      "MaxLeasesPerUser"

/* The one of them that @text is, for ever; NULL: none. */
const char *limit_from_string(const char *text);

/* One reason against a request, with the facts of its error. Those of other kinds: 0 or NULL; cpus:
 * undefined. */
typedef struct RefusalFacts {
        RefusalKind kind;
        const Instance *instance; /* INSTANCE_NOT_READY, GUEST_UNSUPPORTED */
        CpuSet cpus; /* NO_INSTANCE_FOR_CPUS: those asked for (else the affinity, else the instance's);
                        NOT_ASSIGNED: those not leased to this VM that share the first one's owner and
                        VM; BUSY: those in conflict */
        AssignmentOwner owner; /* NOT_ASSIGNED */
        const char *vm;        /* NOT_ASSIGNED; may be NULL */
        bool needs_own_cpus;   /* NOT_ASSIGNED: exclusive, without being an administrator */
        const char *limit;     /* LIMIT_EXCEEDED */
        uint64_t requested;    /* LIMIT_EXCEEDED, BUFFER_SIZE_NOT_REPRESENTABLE */
        uint64_t available;    /* LIMIT_EXCEEDED */
        uint64_t nearest;      /* BUFFER_SIZE_NOT_REPRESENTABLE */
        const char *reason;    /* ARBITRATION_UNAVAILABLE: the model's */
        bool by_claim;         /* BUSY: an earlier waiter is (also) in the way */
        bool by_session;       /* BUSY: a host session is (also) in the way */
} RefusalFacts;

typedef struct Offer {
        Instance *instance;
        CpuSet cpus;
        uint64_t buffer_size;
        uint64_t charge;
        LeaseMode mode;
        const char *limited_by; /* a LIMIT_ name, or NULL */
} Offer;

typedef struct Decision {
        bool granted;
        /*
         * What would be granted; also valid if Busy is the only refusal: what it waits for, and claims
         * (has_offer tells).
         */
        bool has_offer;
        Offer offer;
        RefusalFacts refusals[_REFUSAL_MAX]; /* at most one of each kind, in order */
        size_t n_refusals;
        bool has_counter_offer;
        Offer counter_offer;
} Decision;

/*
 * Decides on @request after the waiters whose claims are @ahead (NULL: none). *@ret_decision is always
 * written, but of its CPU sets only those that it says it has.
 * @with_counter_offer: also look for the nearest request that would be granted now.
 */
void decide(const Model *model, const PolicyRequest *request, const Claims *ahead, bool with_counter_offer,
            Decision *ret_decision);

/*
 * Decides whether a lease of @request's VM and mode that holds @held on @instance may move to request->cpus
 * there. Its size is fixed, so only NO_INSTANCE_FOR_CPUS, NOT_ASSIGNED, ARBITRATION_UNAVAILABLE and BUSY (and
 * the instance's state) can be in the way. The last two ask about the CPUs that it gains alone: it is not in
 * its own way, who waits for its CPUs waits for it already, and a session on them is contention that moving
 * neither makes nor mends. The offer's size is the request's, its charge 0: nothing is charged anew.
 */
void decide_move(const Model *model, const PolicyRequest *request, Instance *instance, const CpuSet *held,
                 const Claims *ahead, Decision *ret_decision);

/*
 * Decides whether what a lease of @request's VM and user is charged may grow by @bytes: true, or
 * *@ret_refusal is LIMIT_EXCEEDED with the first limit that would be.
 */
bool decide_growth(const Model *model, const PolicyRequest *request, uint64_t bytes,
                   RefusalFacts *ret_refusal);

/*
 * Of the CPUs @held of a granted lease, those that assignments still leave to it. Empty: it must be revoked.
 * (The right to be exclusive is asked for once, at the grant.)
 */
void decide_keep(const Model *model, const PolicyRequest *request, const CpuSet *held, CpuSet *ret_cpus);
