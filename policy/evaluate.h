/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One request against one instance: the rules themselves. What does not depend on the instance is worked out
 * once per request and kept in the evaluator, so that asking for one more instance costs a few operations on
 * sets. For decide.c and counter-offer.c; everybody else asks decide().
 */

#include "policy/decide.h"

/* A limit, and what is left of it for this request. */
typedef struct LimitLeft {
        const char *limit;
        uint64_t available;
} LimitLeft;

enum {
        EVALUATOR_MEMORY_VM,
        EVALUATOR_MEMORY_USER,
        EVALUATOR_MEMORY_TOTAL,
        _EVALUATOR_MEMORY_MAX,
};

typedef struct Evaluator {
        const Model *model;
        const PolicyRequest *request;
        LimitLeft buffer;                        /* per VCPU, as far as it is not the instance's */
        LimitLeft memory[_EVALUATOR_MEMORY_MAX]; /* in the order in which they are answered */
        LimitLeft leases;
        LimitLeft leases_of_user;
        CpuSet allowed; /* where assignments let the VM have leases */
        CpuSet own;     /* if needs_own_cpus: those assigned to the VM */
        bool needs_own_cpus;
        const CpuSet *held; /* of the lease that moves; NULL: a new one */
        CpuSet occupied;    /* where leases are in the way of this mode */
        CpuSet claimed;     /* where earlier waiters are */
        CpuSet sessions;    /* where host sessions are */
} Evaluator;

/*
 * Prepares for @request, which must outlive the evaluator, as must the rest. @held: the CPUs of the lease
 * that moves, which is not in its own way; NULL for a new lease. @ahead: NULL for none.
 */
void evaluator_init(Evaluator *evaluator, const Model *model, const PolicyRequest *request,
                    const CpuSet *held, const Claims *ahead);

/* Can guests get this instance at all? */
bool evaluator_can_lease(const Instance *instance);

/* The whole decision on @instance. */
void evaluator_decide(const Evaluator *evaluator, Instance *instance, Decision *ret_decision);
/* The decision where there is no instance for a reason of @kind: what can be said without one. */
void evaluator_decide_nowhere(const Evaluator *evaluator, RefusalKind kind, Decision *ret_decision);
/* The decision on a lease that moves on @instance: nothing of sizes and limits. */
void evaluator_decide_move(const Evaluator *evaluator, Instance *instance, Decision *ret_decision);

/* Those of the CPUs asked for that would be granted on @instance now; may be empty. */
void evaluator_free_cpus(const Evaluator *evaluator, const Instance *instance, CpuSet *ret_cpus);
