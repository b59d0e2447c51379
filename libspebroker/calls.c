/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The blocking calls: which method, with what, and whether a lost answer lets it be said again.
 */

#include "libspebroker/checks.h"
#include "libspebroker/context.h"
#include "libspebroker/decision.h"
#include "libspebroker/lease.h"
#include "libspebroker/request.h"

int spebroker_check_host(struct spebroker *context, struct spebroker_checks **ret_checks) {
        const Call call = {.method = "io.spebroker.Broker.CheckHost", .repeatable = true};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = context_call(context, &call, &reply);
        if (r != 0)
                return r;

        return checks_new(reply.parameters, ret_checks);
}

int spebroker_query(struct spebroker *context, const struct spebroker_request *request,
                    struct spebroker_decision **ret_decision) {
        const Call call = {.method = "io.spebroker.Broker.Query", .repeatable = true, .request = request};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = context_call(context, &call, &reply);
        if (r != 0)
                return r;

        return decision_new(reply.parameters, ret_decision);
}

int spebroker_acquire(struct spebroker *context, const struct spebroker_request *request, uint64_t wait_usec,
                      struct spebroker_lease **ret_lease) {
        const Call call = {
                .method = "io.spebroker.Broker.Acquire",
                .repeatable = request_is_repeatable(request),
                .request = request,
                .wait_usec = wait_usec,
        };
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = context_call(context, &call, &reply);
        if (r != 0)
                return r;

        return lease_new(reply.parameters, ret_lease);
}

int spebroker_update_cpus(struct spebroker *context, const char *lease_id, const char *cpus,
                          struct spebroker_lease **ret_lease) {
        const Call call = {.method = "io.spebroker.Broker.Update", .lease_id = lease_id, .cpus = cpus};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        int r;

        r = context_call(context, &call, &reply);
        if (r != 0)
                return r;

        r = lease_new(reply.parameters, &lease);
        if (r < 0)
                return r;

        if (ret_lease)
                *ret_lease = steal_ptr(lease);
        return 0;
}

int spebroker_release(struct spebroker *context, const char *lease_id) {
        const Call call = {.method = "io.spebroker.Broker.Release", .lease_id = lease_id};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;

        return context_call(context, &call, &reply);
}
