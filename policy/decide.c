/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The decision: chooses the instance to judge a request by, and has evaluate.c judge. It looks at every
 * instance at most once and at no lease at all, so its time grows with the instances alone. The invariant
 * that the tests hold it to: a request made of an offer, with exact, is granted as it stands.
 */

#include "policy/decide.h"

#include <string.h>

#include "policy/counter-offer.h"
#include "policy/evaluate.h"
#include "util/cleanup.h"

static const char *const refusal_kinds[_REFUSAL_MAX] = {
        [REFUSAL_NO_SUCH_INSTANCE] = "NoSuchInstance",
        [REFUSAL_INSTANCE_NOT_READY] = "InstanceNotReady",
        [REFUSAL_GUEST_UNSUPPORTED] = "GuestUnsupported",
        [REFUSAL_NO_INSTANCE_FOR_CPUS] = "NoInstanceForCpus",
        [REFUSAL_NOT_ASSIGNED] = "NotAssigned",
        [REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE] = "BufferSizeNotRepresentable",
        [REFUSAL_LIMIT_EXCEEDED] = "LimitExceeded",
        [REFUSAL_ARBITRATION_UNAVAILABLE] = "ArbitrationUnavailable",
        [REFUSAL_BUSY] = "Busy",
};

const char *refusal_kind_to_string(RefusalKind kind) {
        return refusal_kinds[kind];
}

static const char *const limit_names[] = {
        LIMIT_INSTANCE_MAX_BUFFER_SIZE, LIMIT_MAX_BUFFER_SIZE, LIMIT_MAX_MEMORY_PER_VM,
        LIMIT_MAX_MEMORY_PER_USER,      LIMIT_MAX_MEMORY,      LIMIT_MAX_LEASES,
        LIMIT_MAX_LEASES_PER_USER,
};

const char *limit_from_string(const char *text) {
        for (size_t i = 0; i < ELEMENTS_OF(limit_names); i++)
                if (strcmp(limit_names[i], text) == 0)
                        return limit_names[i];

        return NULL;
}

void claims_add(Claims *claims, LeaseMode mode, const CpuSet *cpus) {
        cpuset_or(&claims->by_mode[mode], cpus);
}

static void decide_named(const Evaluator *evaluator, Decision *ret_decision) {
        Instance *instance = instance_table_find(&evaluator->model->instances, evaluator->request->instance);

        if (instance)
                evaluator_decide(evaluator, instance, ret_decision);
        else
                evaluator_decide_nowhere(evaluator, REFUSAL_NO_SUCH_INSTANCE, ret_decision);
}

/* The CPUs name the instance: the ready one that has them all, or the only other one that would. */
static void decide_by_cpus(const Evaluator *evaluator, Decision *ret_decision) {
        const InstanceTable *instances = &evaluator->model->instances;
        const CpuSet *cpus = &evaluator->request->cpus;
        Instance *not_ready = NULL;
        size_t n_not_ready = 0;

        for (size_t i = 0; i < instances->n; i++) {
                Instance *instance = instances->entries[i];

                if (instance->state == INSTANCE_STATE_READY) {
                        if (cpuset_is_subset(cpus, &instance->effective)) {
                                evaluator_decide(evaluator, instance, ret_decision);
                                return;
                        }
                } else if (cpuset_is_subset(cpus, &instance->cpus)) {
                        not_ready = instance;
                        n_not_ready++;
                }
        }

        if (n_not_ready == 1)
                evaluator_decide(evaluator, not_ready, ret_decision);
        else
                evaluator_decide_nowhere(evaluator, REFUSAL_NO_INSTANCE_FOR_CPUS, ret_decision);
}

/* How far a request has come: granted, only Busy, or up to the first refusal. */
static unsigned decision_rank(const Decision *decision) {
        return decision->granted ? _REFUSAL_MAX : decision->refusals[0].kind;
}

/* Equal ones keep their order: the lower index wins. */
static bool decision_is_better(const Decision *decision, const Decision *than) {
        unsigned rank = decision_rank(decision), rank_than = decision_rank(than);

        if (rank != rank_than)
                return rank > rank_than;

        return decision->offer.instance->charge < than->offer.instance->charge;
}

/* No instance can be leased: the first that is at least ready says why, else the first. */
static void decide_without_choice(const Evaluator *evaluator, Decision *ret_decision) {
        const InstanceTable *instances = &evaluator->model->instances;

        for (size_t i = 0; i < instances->n; i++)
                if (instances->entries[i]->state == INSTANCE_STATE_READY) {
                        evaluator_decide(evaluator, instances->entries[i], ret_decision);
                        return;
                }

        if (instances->n > 0)
                evaluator_decide(evaluator, instances->entries[0], ret_decision);
        else
                evaluator_decide_nowhere(evaluator, REFUSAL_NO_SUCH_INSTANCE, ret_decision);
}

/* Whichever instance suits best. */
static void decide_anywhere(const Evaluator *evaluator, Decision *ret_decision) {
        const InstanceTable *instances = &evaluator->model->instances;
        Decision other, *best = ret_decision, *next = &other;
        bool any = false;

        for (size_t i = 0; i < instances->n; i++) {
                Instance *instance = instances->entries[i];

                if (!evaluator_can_lease(instance))
                        continue;
                if (any && best->granted && instance->charge >= best->offer.instance->charge)
                        continue; /* could not be better */

                evaluator_decide(evaluator, instance, any ? next : best);
                if (any && decision_is_better(next, best)) {
                        Decision *better = next;

                        next = best;
                        best = better;
                }
                any = true;
        }

        if (!any)
                decide_without_choice(evaluator, ret_decision);
        else if (best != ret_decision)
                *ret_decision = *best;
}

void decide(const Model *model, const PolicyRequest *request, const Claims *ahead, bool with_counter_offer,
            Decision *ret_decision) {
        Evaluator evaluator;

        evaluator_init(&evaluator, model, request, NULL, ahead);
        if (request->instance)
                decide_named(&evaluator, ret_decision);
        else if (request->has_cpus)
                decide_by_cpus(&evaluator, ret_decision);
        else
                decide_anywhere(&evaluator, ret_decision);

        if (with_counter_offer && !ret_decision->granted)
                counter_offer_find(model, request, ahead, ret_decision);
}

void decide_move(const Model *model, const PolicyRequest *request, Instance *instance, const CpuSet *held,
                 const Claims *ahead, Decision *ret_decision) {
        Evaluator evaluator;

        evaluator_init(&evaluator, model, request, held, ahead);
        evaluator_decide_move(&evaluator, instance, ret_decision);
}

bool decide_growth(const Model *model, const PolicyRequest *request, uint64_t bytes,
                   RefusalFacts *ret_refusal) {
        Evaluator evaluator;

        evaluator_init(&evaluator, model, request, NULL, NULL);
        for (size_t i = 0; i < _EVALUATOR_MEMORY_MAX; i++) {
                const LimitLeft *limit = &evaluator.memory[i];

                if (bytes <= limit->available)
                        continue;
                *ret_refusal = (RefusalFacts){
                        .kind = REFUSAL_LIMIT_EXCEEDED,
                        .owner = _ASSIGNMENT_OWNER_INVALID,
                        .limit = limit->limit,
                        .requested = bytes,
                        .available = limit->available,
                };
                return false;
        }

        return true;
}

void decide_keep(const Model *model, const PolicyRequest *request, const CpuSet *held, CpuSet *ret_cpus) {
        *ret_cpus = *held;
        assignment_table_restrict(&model->assignments, request->vm, request->vm_origin, ret_cpus);
}
