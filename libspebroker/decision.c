/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The answer of Query: an offer, or refusals and perhaps a counter-offer. One object owns it all.
 */

#include "libspebroker/decision.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "libspebroker/fields.h"
#include "libspebroker/refusal.h"

struct spebroker_offer {
        const char *instance;
        int64_t pmu_type;
        const char *cpus;
        int64_t buffer_size;
        int64_t charge;
        const char *mode;
        const char *limited_by;
};

/* The members of Decision, as they stand in the message. */
typedef struct DecisionMembers {
        struct json_object *decision;
        bool granted;
        struct json_object *offer;
        struct json_object *refusals;
        struct json_object *counter_offer;
} DecisionMembers;

struct spebroker_decision {
        unsigned n_ref;
        struct json_object *parameters; /* owns every string of the offers */
        bool granted;
        struct spebroker_offer *offer;
        struct spebroker_offer *counter_offer;
        struct spebroker_refusal **refusals;
        size_t n_refusals;
};

static const Field parameter_fields[] = {
        FIELD("decision", FIELD_OBJECT, DecisionMembers, decision),
};

static const Field decision_fields[] = {
        FIELD("granted", FIELD_BOOL, DecisionMembers, granted),
        FIELD_OR_NULL("offer", FIELD_OBJECT, DecisionMembers, offer),
        FIELD("refusals", FIELD_ARRAY, DecisionMembers, refusals),
        FIELD_OR_NULL("counterOffer", FIELD_OBJECT, DecisionMembers, counter_offer),
};

static const Field offer_fields[] = {
        FIELD("instance", FIELD_STRING, struct spebroker_offer, instance),
        FIELD_RANGE("pmuType", struct spebroker_offer, pmu_type, 0, INT_MAX),
        FIELD("cpus", FIELD_STRING, struct spebroker_offer, cpus),
        FIELD_RANGE("bufferSize", struct spebroker_offer, buffer_size, 1, INT64_MAX),
        FIELD_RANGE("charge", struct spebroker_offer, charge, 0, INT64_MAX),
        FIELD("mode", FIELD_STRING, struct spebroker_offer, mode),
        FIELD_OR_NULL("limitedBy", FIELD_STRING, struct spebroker_offer, limited_by),
};

static int offer_new(struct json_object *object, struct spebroker_offer **ret_offer) {
        _cleanup_(freep) struct spebroker_offer *offer = NULL;
        int r;

        if (!object) {
                *ret_offer = NULL;
                return 0;
        }

        offer = calloc(1, sizeof(*offer));
        if (!offer)
                return -ENOMEM;

        r = fields_read(object, offer_fields, ELEMENTS_OF(offer_fields), offer);
        if (r < 0)
                return r;

        *ret_offer = steal_ptr(offer);
        return 0;
}

static int decision_read_refusals(struct spebroker_decision *decision, struct json_object *array) {
        size_t n = json_object_array_length(array);
        int r;

        if (n == 0)
                return 0;

        decision->refusals = calloc(n, sizeof(void *));
        if (!decision->refusals)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                r = refusal_new_object(json_object_array_get_idx(array, i), &decision->refusals[i]);
                if (r < 0)
                        return r;
                decision->n_refusals = i + 1;
        }

        return 0;
}

static int decision_read(struct spebroker_decision *decision) {
        DecisionMembers members;
        int r;

        r = fields_read(decision->parameters, parameter_fields, ELEMENTS_OF(parameter_fields), &members);
        if (r < 0)
                return r;
        r = fields_read(members.decision, decision_fields, ELEMENTS_OF(decision_fields), &members);
        if (r < 0)
                return r;
        if (members.granted != !!members.offer)
                return -EPROTO;

        decision->granted = members.granted;
        r = offer_new(members.offer, &decision->offer);
        if (r < 0)
                return r;
        r = offer_new(members.counter_offer, &decision->counter_offer);
        if (r < 0)
                return r;

        return decision_read_refusals(decision, members.refusals);
}

int decision_new(struct json_object *parameters, struct spebroker_decision **ret_decision) {
        _cleanup_(spebroker_decision_unrefp) struct spebroker_decision *decision = NULL;
        int r;

        decision = calloc(1, sizeof(*decision));
        if (!decision)
                return -ENOMEM;
        decision->n_ref = 1;
        decision->parameters = json_object_get(parameters);

        r = decision_read(decision);
        if (r < 0)
                return r;

        *ret_decision = steal_ptr(decision);
        return 0;
}

struct spebroker_decision *spebroker_decision_ref(struct spebroker_decision *decision) {
        if (decision)
                decision->n_ref++;
        return decision;
}

struct spebroker_decision *spebroker_decision_unref(struct spebroker_decision *decision) {
        if (!decision || --decision->n_ref > 0)
                return NULL;

        for (size_t i = 0; i < decision->n_refusals; i++)
                refusal_free(decision->refusals[i]);
        free(decision->refusals);
        free(decision->offer);
        free(decision->counter_offer);
        json_object_put(decision->parameters);
        free(decision);
        return NULL;
}

bool spebroker_decision_is_granted(const struct spebroker_decision *decision) {
        return decision->granted;
}

const struct spebroker_offer *spebroker_decision_get_offer(const struct spebroker_decision *decision) {
        return decision->offer;
}

const struct spebroker_offer *
spebroker_decision_get_counter_offer(const struct spebroker_decision *decision) {
        return decision->counter_offer;
}

const struct spebroker_refusal *spebroker_decision_get_refusal(const struct spebroker_decision *decision,
                                                               size_t index) {
        return index < decision->n_refusals ? decision->refusals[index] : NULL;
}

const char *spebroker_offer_get_instance(const struct spebroker_offer *offer) {
        return offer->instance;
}

int spebroker_offer_get_pmu_type(const struct spebroker_offer *offer) {
        return (int)offer->pmu_type;
}

const char *spebroker_offer_get_cpus(const struct spebroker_offer *offer) {
        return offer->cpus;
}

uint64_t spebroker_offer_get_buffer_size(const struct spebroker_offer *offer) {
        return (uint64_t)offer->buffer_size;
}

uint64_t spebroker_offer_get_charge(const struct spebroker_offer *offer) {
        return (uint64_t)offer->charge;
}

const char *spebroker_offer_get_mode(const struct spebroker_offer *offer) {
        return offer->mode;
}

const char *spebroker_offer_get_limited_by(const struct spebroker_offer *offer) {
        return offer->limited_by;
}
