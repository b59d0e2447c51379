/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Asking for, following, moving and releasing leases.
 */

#include "broker/access.h"
#include "broker/encode.h"
#include "broker/end.h"
#include "broker/grant.h"
#include "broker/manager.h"
#include "broker/methods.h"
#include "broker/place.h"
#include "policy/charge.h"

/* Reads the request, or answers why it cannot be: then *@ret_answered. */
static int read_request(Manager *manager, VarlinkCall *call, struct json_object *parameters,
                        LeaseRequest *ret_request, bool *ret_answered) {
        RequestFault fault = {0};
        struct json_object *object;
        JsonWriter *w;
        int r;

        *ret_answered = true;
        if (!access_may_acquire(manager->config, varlink_call_get_peer(call)))
                return varlink_call_permission_denied(call);

        json_object_object_get_ex(parameters, "request", &object);
        r = request_parse(manager, varlink_call_get_peer(call), object, ret_request, &fault);
        switch (r) {
        case 0:
                *ret_answered = false;
                return 0;
        case REQUEST_E_INVALID_PARAMETER:
                return varlink_call_invalid_parameter(call, fault.parameter);
        case REQUEST_E_PERMISSION_DENIED:
                return varlink_call_permission_denied(call);
        case REQUEST_E_NO_PROCESS:
                w = varlink_call_error(call, BROKER_ERROR_PREFIX "NoSuchProcess");
                json_write_int(w, "pid", fault.pid);
                varlink_call_send(call);
                return 0;
        default:
                return r;
        }
}

static void free_refusals(Refusal **refusals, size_t n) {
        for (size_t i = 0; i < n; i++)
                refusal_free(refusals[i]);
}

static void reply_decision(VarlinkCall *call, const Decision *decision, Refusal *const *refusals) {
        JsonWriter *w = varlink_call_reply(call, false);

        json_write_object_begin(w, "decision");
        json_write_bool(w, "granted", decision->granted);
        if (decision->granted)
                encode_offer(w, "offer", &decision->offer);
        else
                json_write_null(w, "offer");
        json_write_array_begin(w, "refusals");
        for (size_t i = 0; i < decision->n_refusals; i++)
                encode_refusal(w, NULL, refusals[i]);
        json_write_array_end(w);
        if (decision->has_counter_offer)
                encode_offer(w, "counterOffer", &decision->counter_offer);
        else
                json_write_null(w, "counterOffer");
        json_write_object_end(w);
        varlink_call_send(call);
}

int method_query(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        _cleanup_(lease_request_deinit) LeaseRequest request = LEASE_REQUEST_NULL;
        Refusal *refusals[_REFUSAL_MAX];
        Manager *manager = userdata;
        bool answered, changed;
        Decision decision;
        int r;

        r = read_request(manager, call, parameters, &request, &answered);
        if (r < 0 || answered)
                return r;

        /* As Acquire would find them. Where they cannot be read, which the journal has, what is known stays.
         */
        (void)sessions_read(manager, &changed);
        sessions_of_owner(manager, lease_request_get_owner(&request), &request.policy.own_sessions);
        decide(&manager->model, &request.policy, &manager->claims, true, &decision);
        for (size_t i = 0; i < decision.n_refusals; i++) {
                r = refusal_new(manager, &request, &decision.refusals[i], &refusals[i]);
                if (r < 0) {
                        free_refusals(refusals, i);
                        return r;
                }
        }

        reply_decision(call, &decision, refusals);
        free_refusals(refusals, decision.n_refusals);
        return 0;
}

/* Answers with a refusal, and keeps it. */
static int refuse(Manager *manager, VarlinkCall *call, const LeaseRequest *request,
                  const RefusalFacts *facts) {
        Refusal *refusal;
        int r;

        r = refusal_new(manager, request, facts, &refusal);
        if (r < 0)
                return r;

        encode_refusal_error(call, refusal);
        refusal_record(manager, refusal);
        return 0;
}

/* The lease that this owner already has by this request id. A queued one is waited for by this call too. */
static int answer_again(VarlinkCall *call, Lease *lease, const LeaseRequest *request) {
        LeaseStreamKind kind = varlink_call_wants_more(call) ? LEASE_STREAM_ACQUIRE : LEASE_STREAM_WAIT;
        int r;

        if (!lease_request_equal(&lease->request, request))
                return varlink_call_invalid_parameter(call, "requestId");

        if (kind == LEASE_STREAM_WAIT && lease->state != LEASE_STATE_QUEUED) {
                encode_lease_reply(call, lease, LEASE_CHANGE_NONE, false);
                return 0;
        }

        r = lease_stream_new(lease, call, kind);
        if (r < 0)
                return r;
        if (kind == LEASE_STREAM_ACQUIRE)
                encode_lease_reply(call, lease, LEASE_CHANGE_NONE, true);
        return 0;
}

/* A new lease for @request, granted at once or, with @token, put in the queue until @deadline. */
static int acquire(Manager *manager, VarlinkCall *call, LeaseRequest *request, const Decision *decision,
                   uint64_t deadline, QuotaToken *token) {
        LeaseStreamKind kind = varlink_call_wants_more(call) ? LEASE_STREAM_ACQUIRE : LEASE_STREAM_WAIT;
        Lease *lease;
        int r;

        r = lease_new(manager, request, &lease);
        if (r < 0)
                return r;

        r = lease_stream_new(lease, call, kind);
        if (r < 0) {
                lease_free(lease);
                return r;
        }

        if (!decision->granted) {
                lease_enqueue(manager, lease, &decision->offer, deadline, token);
                return 0;
        }

        r = lease_grant(manager, lease, &decision->offer);
        if (r < 0) {
                varlink_call_watch(call, NULL, NULL, NULL);
                lease_stream_free(LIST_FIRST(&lease->streams));
                lease_free(lease);
        }
        return r;
}

/* Waits, if there is a place in the queue. */
static int acquire_waiting(Manager *manager, VarlinkCall *call, LeaseRequest *request,
                           const Decision *decision, uint64_t deadline) {
        RefusalFacts full = {.kind = REFUSAL_LIMIT_EXCEEDED, .requested = 1};
        _cleanup_(quota_refund) QuotaToken token = QUOTA_TOKEN_NULL;
        int r;

        r = quota_take(&manager->leases.waiters, request->policy.uid, &token);
        if (r < 0)
                return r;
        if (r > 0) {
                full.limit = r == QUOTA_E_USER ? LIMIT_WAITING_PER_USER : LIMIT_WAITING;
                return refuse(manager, call, request, &full);
        }

        return acquire(manager, call, request, decision, deadline, &token);
}

int method_acquire(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        _cleanup_(lease_request_deinit) LeaseRequest request = LEASE_REQUEST_NULL;
        Manager *manager = userdata;
        int64_t wait_usec = 0;
        Decision decision;
        uint64_t now;
        bool answered;
        int r;

        if (request_get_int(parameters, "waitUSec", &wait_usec) && wait_usec < 0)
                return varlink_call_invalid_parameter(call, "waitUSec");

        r = read_request(manager, call, parameters, &request, &answered);
        if (r < 0 || answered)
                return r;

        if (request.known && request.id) {
                Lease *lease = lease_owner_find_request(request.known, request.id);

                if (lease)
                        return answer_again(call, lease, &request);
        }

        r = arbitration_decide(manager, &request, &manager->claims, &decision);
        if (r < 0)
                return r;
        if (decision.granted)
                return acquire(manager, call, &request, &decision, 0, NULL);
        if (!decision.has_offer || wait_usec == 0)
                return refuse(manager, call, &request, &decision.refusals[0]);

        now = manager_now_monotonic(manager);
        return acquire_waiting(manager, call, &request, &decision, now + (uint64_t)wait_usec);
}

/* Finds the lease of parameters, for its owner (never just the same user) or an administrator; NULL: it has
 * been answered. */
static Lease *find_own_lease(Manager *manager, VarlinkCall *call, struct json_object *parameters) {
        const VarlinkPeer *peer = varlink_call_get_peer(call);
        const char *id = "";
        Lease *lease;

        request_get_string(parameters, "leaseId", &id);
        lease = lease_find(&manager->leases, id);
        if (!lease) {
                encode_no_such_lease(call, id);
                return NULL;
        }

        if (!lease_owner_is_peer(lease->owner, peer) && !access_is_administrator(manager->config, peer)) {
                varlink_call_permission_denied(call);
                return NULL;
        }

        return lease;
}

int method_follow(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Lease *lease = find_own_lease(userdata, call, parameters);
        int r;

        if (!lease)
                return 0;

        r = lease_stream_new(lease, call, LEASE_STREAM_FOLLOW);
        if (r < 0)
                return r;

        encode_lease_reply(call, lease, LEASE_CHANGE_NONE, true);
        return 0;
}

/* Who is told that it has left CPUs may have perf there at once. */
static void open_what_is_left(Manager *manager) {
        if (manager->dirty & DIRTY_CLOSED)
                arbitration_settle(manager);
}

/* What Update asks for. */
typedef struct Update {
        PolicyRequest request; /* the lease's, on other CPUs */
        bool moves;
        uint64_t more; /* bytes */
} Update;

/* Reads what is asked of @lease: NULL, or the parameter that is not what it can be. */
static const char *read_update(struct json_object *parameters, const Lease *lease, Update *ret_update) {
        int64_t missing;

        if (!lease_is_holding(lease))
                return "leaseId";

        *ret_update = (Update){.request = lease->request.policy};
        if (request_get_cpus(parameters, "cpus", &ret_update->moves, &ret_update->request.cpus))
                return "cpus";
        if (ret_update->moves && lease_is_displaced(lease))
                return "leaseId";
        if (request_get_int(parameters, "memlockMissing", &missing)) {
                /* A charge can be written down as long as it is less than this. */
                if (missing < 1 || (uint64_t)missing >= CHARGE_SATURATED - lease->charge.bytes)
                        return "memlockMissing";
                ret_update->more = (uint64_t)missing;
        }

        return NULL;
}

/* Whether @lease may be updated: 1, 0 with what is answered, or -errno. */
static int decide_update(Manager *manager, VarlinkCall *call, const Lease *lease, Update *update,
                         RefusalFacts *ret_refusal) {
        bool may_grow = decide_growth(&manager->model, &update->request, update->more, ret_refusal);
        Decision decision;
        int r;

        if (!update->moves)
                return may_grow;

        update->request.has_cpus = true;
        /* Whoever gave it its CPUs, other ones are up to who asks now. */
        if (!cpuset_is_subset(&update->request.cpus, &lease->cpus))
                update->request.administrator =
                        access_is_administrator(manager->config, varlink_call_get_peer(call));
        r = arbitration_decide_move(manager, lease, &update->request, &manager->claims, &decision);
        if (r < 0)
                return r;
        if (!decision.granted && (may_grow || decision.refusals[0].kind < ret_refusal->kind))
                *ret_refusal = decision.refusals[0];
        return may_grow && decision.granted;
}

int method_update(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        Lease *lease = find_own_lease(manager, call, parameters);
        RefusalFacts refusal;
        const char *fault;
        Update update;
        int r;

        if (!lease)
                return 0;
        fault = read_update(parameters, lease, &update);
        if (fault)
                return varlink_call_invalid_parameter(call, fault);

        if (update.moves || update.more > 0) {
                r = decide_update(manager, call, lease, &update, &refusal);
                if (r < 0)
                        return r;
                if (r == 0)
                        return refuse(manager, call, &lease->request, &refusal);
                r = lease_update(manager, lease, update.moves ? &update.request.cpus : NULL, update.more);
                if (r < 0)
                        return r;
                open_what_is_left(manager);
        }

        encode_lease(varlink_call_reply(call, false), "lease", lease);
        varlink_call_send(call);
        return 0;
}

int method_release(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        Lease *lease = find_own_lease(manager, call, parameters);

        if (!lease)
                return 0;

        lease_end(manager, lease, "it was released");
        open_what_is_left(manager);
        return varlink_call_reply_empty(call);
}
