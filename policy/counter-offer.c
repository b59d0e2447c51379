/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The counter-offer: the request is relaxed, in every way that could cure its refusals, and the decision is
 * asked again; so a counter-offer is right because the decision said so, not because this file knows a rule.
 * A relaxation is a bit, the bits rise with how far they take the request from what was meant, and counting
 * upwards tries the combinations in order of nearness. Farthest is to go without protection: a lease
 * elsewhere still profiles everything, one that shares its CPUs with host sessions has holes that nobody
 * sees.
 */

#include "policy/counter-offer.h"

#include <string.h>

#include "policy/evaluate.h"
#include "util/buffer-size.h"

enum {
        RELAX_SIZE = 1U << 0,     /* a smaller buffer, or the smallest there is */
        RELAX_CPUS = 1U << 1,     /* fewer CPUs: those that are free, on the instance that has most of them */
        RELAX_MODE = 1U << 2,     /* not exclusive */
        RELAX_INSTANCE = 1U << 3, /* any instance */
        RELAX_PLACE = 1U << 4,    /* any CPUs */
        RELAX_SHARED = 1U << 5,   /* beside host sessions; tried last of all */
};

/* Of each refusal, what could cure it; a combination without any of these is not worth asking. */
static const unsigned cures[_REFUSAL_MAX] = {
        [REFUSAL_NO_SUCH_INSTANCE] = RELAX_INSTANCE,
        [REFUSAL_INSTANCE_NOT_READY] = RELAX_INSTANCE | RELAX_PLACE,
        [REFUSAL_GUEST_UNSUPPORTED] = RELAX_INSTANCE | RELAX_PLACE,
        [REFUSAL_NO_INSTANCE_FOR_CPUS] = RELAX_CPUS | RELAX_INSTANCE | RELAX_PLACE,
        [REFUSAL_NOT_ASSIGNED] = RELAX_CPUS | RELAX_MODE | RELAX_INSTANCE | RELAX_PLACE,
        [REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE] = RELAX_SIZE,
        [REFUSAL_LIMIT_EXCEEDED] = RELAX_SIZE | RELAX_INSTANCE | RELAX_PLACE,
        [REFUSAL_ARBITRATION_UNAVAILABLE] = RELAX_SHARED,
        [REFUSAL_BUSY] = RELAX_CPUS | RELAX_MODE | RELAX_INSTANCE | RELAX_PLACE | RELAX_SHARED,
};

/* The relaxations that change anything about @request and keep its protection. */
static unsigned possible_relaxations(const PolicyRequest *request) {
        unsigned possible = RELAX_CPUS;

        if (request->exact || request->buffer_size < BUFFER_SIZE_MIN)
                possible |= RELAX_SIZE;
        if (request->mode == LEASE_MODE_EXCLUSIVE)
                possible |= RELAX_MODE;
        if (request->instance)
                possible |= RELAX_INSTANCE;
        if (request->has_cpus)
                possible |= RELAX_PLACE;

        return possible;
}

static bool may_cure(unsigned relax, const Decision *decision) {
        for (size_t i = 0; i < decision->n_refusals; i++)
                if (!(relax & cures[decision->refusals[i].kind]))
                        return false;

        return true;
}

/* Narrows @request to its free CPUs on the instance that has most of them; false if none has any. */
static bool relax_cpus(const Model *model, const Claims *ahead, PolicyRequest *request) {
        const Instance *best = NULL;
        unsigned best_count = 0;
        Evaluator evaluator;
        CpuSet best_cpus;

        evaluator_init(&evaluator, model, request, NULL, ahead);
        for (size_t i = 0; i < model->instances.n; i++) {
                const Instance *instance = model->instances.entries[i];
                unsigned count;
                CpuSet cpus;

                if (!evaluator_can_lease(instance))
                        continue;
                if (request->instance && strcmp(instance->name, request->instance) != 0)
                        continue;

                evaluator_free_cpus(&evaluator, instance, &cpus);
                count = cpuset_count(&cpus);
                if (count < best_count || count == 0)
                        continue;
                if (count == best_count && instance->charge >= best->charge)
                        continue;

                best = instance;
                best_count = count;
                best_cpus = cpus;
        }

        if (!best)
                return false;

        request->instance = best->name;
        request->has_cpus = true;
        request->cpus = best_cpus;
        return true;
}

static bool relax_request(const Model *model, const Claims *ahead, unsigned relax, PolicyRequest *request) {
        if (relax & RELAX_SIZE) {
                request->exact = false;
                if (request->buffer_size < BUFFER_SIZE_MIN)
                        request->buffer_size = BUFFER_SIZE_MIN;
        }
        if (relax & RELAX_MODE)
                request->mode = LEASE_MODE_GUEST;
        if (relax & RELAX_SHARED)
                request->mode = LEASE_MODE_SHARED;
        if (relax & RELAX_INSTANCE)
                request->instance = NULL;
        if (relax & RELAX_PLACE)
                request->has_cpus = false;

        return !(relax & RELAX_CPUS) || relax_cpus(model, ahead, request);
}

/* Could the VM have anything at all with all of @possible? If not, no combination of them is worth asking. */
static bool anything_left(const Model *model, const PolicyRequest *request, const Claims *ahead,
                          unsigned possible) {
        PolicyRequest least = *request;
        Decision answer;

        least.buffer_size = BUFFER_SIZE_MIN;
        if (request->has_cpus)
                least.has_affinity = false; /* counts only in the combinations that give the CPUs up */
        if (!relax_request(model, ahead, possible, &least))
                return false;

        decide(model, &least, ahead, false, &answer);
        return answer.granted;
}

/* The first combination of @possible, beside @always, that is granted. */
static bool find_nearest(const Model *model, const PolicyRequest *request, const Claims *ahead,
                         unsigned possible, unsigned always, Decision *decision) {
        if (!anything_left(model, request, ahead, possible | always))
                return false;

        for (unsigned others = 0; others < RELAX_SHARED; others++) {
                PolicyRequest relaxed = *request;
                Decision answer;

                if (others & ~possible || !may_cure(others | always, decision))
                        continue;
                if (!relax_request(model, ahead, others | always, &relaxed))
                        continue;

                decide(model, &relaxed, ahead, false, &answer);
                if (!answer.granted)
                        continue;

                decision->has_counter_offer = true;
                decision->counter_offer = answer.offer;
                return true;
        }

        return false;
}

/* Where only leases are in the way, what stops a protected lease stops a shared one. */
static bool needs_protection(const Model *model, const PolicyRequest *request) {
        return request->mode != LEASE_MODE_SHARED &&
               (model->unprotected_reason || !session_occupancy_is_empty(&model->sessions));
}

void counter_offer_find(const Model *model, const PolicyRequest *request, const Claims *ahead,
                        Decision *decision) {
        unsigned possible = possible_relaxations(request);
        unsigned not_exclusive = possible & RELAX_MODE; /* who shares with the host is not exclusive either */

        if (find_nearest(model, request, ahead, possible, 0, decision))
                return;
        if (needs_protection(model, request))
                (void)find_nearest(model, request, ahead, possible & ~RELAX_MODE,
                                   not_exclusive | RELAX_SHARED, decision);
}
