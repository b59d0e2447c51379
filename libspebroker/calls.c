/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The blocking calls: which method, with what, and what makes it safe to say it again after a lost answer.
 */

#include <errno.h>

#include "libspebroker/call.h"
#include "libspebroker/checks.h"
#include "libspebroker/decision.h"
#include "libspebroker/lease.h"
#include "libspebroker/request.h"

int spebroker_check_host(struct spebroker *context, struct spebroker_checks **ret_checks) {
        const Call call = {.method = "io.spebroker.Broker.CheckHost", .only_asks = true};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = context_call(context, &call, &reply, NULL);
        if (r != 0)
                return r;

        return checks_new(reply.parameters, ret_checks);
}

int spebroker_query(struct spebroker *context, const struct spebroker_request *request,
                    struct spebroker_decision **ret_decision) {
        const Call call = {.method = "io.spebroker.Broker.Query", .only_asks = true, .request = request};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = context_call(context, &call, &reply, NULL);
        if (r != 0)
                return r;

        return decision_new(reply.parameters, ret_decision);
}

/*
 * The request as it can be asked for again. If it was in doubt what has become of the same request before,
 * then this is that one again: the caller gets the lease that there may be, and no second one.
 */
static int make_repeatable(struct spebroker *context, const struct spebroker_request *request,
                           struct spebroker_request **ret_request) {
        if (context->in_doubt && !request_has_id(request) && request_asks_as(context->in_doubt, request)) {
                *ret_request = steal_ptr(context->in_doubt);
                return 0;
        }

        return request_copy(request, true, ret_request);
}

static int acquire(struct spebroker *context, const struct spebroker_request *request, uint64_t wait_usec,
                   struct spebroker_lease **ret_lease) {
        const Call call = {
                .method = "io.spebroker.Broker.Acquire", .request = request, .wait_usec = wait_usec};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = context_call(context, &call, &reply, NULL);
        if (r != 0)
                return r;

        return lease_new(reply.parameters, ret_lease);
}

int spebroker_acquire(struct spebroker *context, const struct spebroker_request *request, uint64_t wait_usec,
                      struct spebroker_lease **ret_lease) {
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *repeatable = NULL;
        int r;

        if (!context->reconnect)
                return acquire(context, request, wait_usec, ret_lease);

        /* Asked again with the same id, the broker answers with the lease that it has granted already. */
        r = make_repeatable(context, request, &repeatable);
        if (r < 0)
                return r;

        r = acquire(context, repeatable, wait_usec, ret_lease);
        if (r != 0 && r != SPEBROKER_REFUSED) {
                spebroker_request_unref(context->in_doubt);
                context->in_doubt = steal_ptr(repeatable);
        }

        return r;
}

/* @ret_lease may be NULL. */
static int update(struct spebroker *context, const Call *call, struct spebroker_lease **ret_lease) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        int r;

        r = context_call(context, call, &reply, NULL);
        if (r != 0)
                return r;

        r = lease_new(reply.parameters, &lease);
        if (r < 0)
                return r;

        if (ret_lease)
                *ret_lease = steal_ptr(lease);
        return 0;
}

int spebroker_update_cpus(struct spebroker *context, const char *lease_id, const char *cpus,
                          struct spebroker_lease **ret_lease) {
        const Call call = {.method = "io.spebroker.Broker.Update", .lease_id = lease_id, .cpus = cpus};

        return update(context, &call, ret_lease);
}

int spebroker_update_memlock(struct spebroker *context, const char *lease_id, uint64_t missing_bytes,
                             struct spebroker_lease **ret_lease) {
        const Call call = {
                .method = "io.spebroker.Broker.Update",
                .lease_id = lease_id,
                .memlock_missing = missing_bytes,
                .once = true,
        };

        if (missing_bytes == 0 || missing_bytes > INT64_MAX)
                return -EINVAL;

        return update(context, &call, ret_lease);
}

int spebroker_release(struct spebroker *context, const char *lease_id) {
        const Call call = {.method = "io.spebroker.Broker.Release", .lease_id = lease_id};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        bool repeated = false;
        int r;

        r = context_call(context, &call, &reply, &repeated);
        if (r == SPEBROKER_REFUSED && repeated && context_refused_as(context, "NoSuchLease")) {
                /* It was carried out the first time, or the lease has ended otherwise: it is released. */
                context_forget_refusal(context);
                return 0;
        }

        return r;
}
