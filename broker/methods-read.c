/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading: everyone who may connect, or ReadGroup.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/access.h"
#include "broker/check.h"
#include "broker/encode.h"
#include "broker/events.h"
#include "broker/lease-walk.h"
#include "broker/manager.h"
#include "broker/methods.h"
#include "broker/pieces.h"
#include "broker/session-walk.h"
#include "broker/settle.h"

#define NO_ARBITRATION_REASON "this version of spe-broker does not see host sessions (level none)"

typedef struct Listing Listing;

/* A long list is written in parts, with others served in between. */
struct Listing {
        bool (*write_next)(Listing *list, JsonWriter *w); /* looks at one more; false: it is through */
        LeaseWalk leases;                                 /* one of these is gone through */
        SessionWalk sessions;
        RefusalWalk refusals;
        char *vm;       /* NULL: of all */
        int64_t n_left; /* refusals, at most */
};

/* To ask who the peer is takes longer than most answers. */
static bool may_read(const Manager *manager, const VarlinkCall *call) {
        return manager->config->read_group.everyone ||
               access_may_read(manager->config, varlink_call_get_peer(call));
}

int method_describe(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;

        if (!may_read(manager, call))
                return varlink_call_permission_denied(call);

        encode_host(varlink_call_reply(call, false), "host", manager);
        varlink_call_send(call);
        return 0;
}

int method_check_host(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        const HostCheck *check;
        int r;

        if (!may_read(manager, call))
                return varlink_call_permission_denied(call);

        r = host_check(manager, &check);
        if (r < 0)
                return r;

        encode_checks(varlink_call_reply(call, false), check->checks, check->n);
        varlink_call_send(call);
        return 0;
}

int method_list_instances(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;

        if (!may_read(manager, call))
                return varlink_call_permission_denied(call);

        encode_instances(varlink_call_reply(call, false), manager);
        varlink_call_send(call);
        return 0;
}

static Listing *listing_free(Listing *list) {
        if (!list)
                return NULL;

        lease_walk_end(&list->leases);
        session_walk_end(&list->sessions);
        refusal_walk_end(&list->refusals);
        free(list->vm);
        free(list);
        return NULL;
}

static int listing_new(Manager *manager, struct json_object *parameters, Listing **ret_list) {
        Listing *list = calloc(1, sizeof(*list));
        const char *vm = NULL;

        if (!list)
                return -ENOMEM;

        request_get_string(parameters, "vm", &vm);
        if (vm) {
                list->vm = strdup(vm);
                if (!list->vm) {
                        free(list);
                        return -ENOMEM;
                }
        }
        lease_walk_begin(&list->leases, &manager->leases);
        session_walk_begin(&list->sessions, &manager->sessions);
        refusal_walk_begin(&list->refusals, &manager->refusals);

        *ret_list = list;
        return 0;
}

static void on_listing_closed(_unused_ VarlinkCall *call, void *userdata) {
        listing_free(userdata);
}

static void write_part(VarlinkCall *call, void *userdata) {
        JsonWriter *w = varlink_call_get_writer(call);
        size_t full = varlink_call_get_backlog(call) + PART_SIZE;
        Listing *list = userdata;

        for (unsigned i = 0; i < PART_ENTRIES_MAX && varlink_call_get_backlog(call) < full; i++) {
                if (list->write_next(list, w))
                        continue;

                listing_free(list);
                json_write_array_end(w);
                varlink_call_send(call);
                return;
        }
}

/* Takes over @list. */
static int listing_reply(Listing *list, VarlinkCall *call, const char *member,
                         bool (*write_next)(Listing *list, JsonWriter *w)) {
        list->write_next = write_next;
        json_write_array_begin(varlink_call_reply(call, false), member);
        varlink_call_watch(call, on_listing_closed, NULL, list);
        varlink_call_write_in_parts(call, write_part);
        write_part(call, list);
        return 0;
}

/* One that comes meanwhile is listed too. */
static bool write_next_lease(Listing *list, JsonWriter *w) {
        const Lease *lease = lease_walk_next(&list->leases);

        if (lease && (!list->vm || strcmp(list->vm, lease->request.vm) == 0))
                encode_lease(w, NULL, lease);
        return lease;
}

int method_list_leases(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        Listing *list;
        int r;

        if (!may_read(manager, call))
                return varlink_call_permission_denied(call);
        r = listing_new(manager, parameters, &list);
        if (r < 0)
                return r;

        return listing_reply(list, call, "leases", write_next_lease);
}

/* One that the kernel has not decided on yet may never have been. */
static bool write_next_session(Listing *list, JsonWriter *w) {
        const Session *session = session_walk_next(&list->sessions);

        if (session && !session->facts.entering)
                encode_session(w, NULL, session);
        return session;
}

static int answer_unseen(VarlinkCall *call, const Manager *manager) {
        json_write_string(varlink_call_error(call, BROKER_ERROR_PREFIX "ArbitrationUnavailable"), "reason",
                          arbitration_get_reason(manager->arbitration) ?: "no program sees them");
        varlink_call_send(call);
        return 0;
}

int method_list_sessions(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        Listing *list;
        bool changed;
        int r;

        if (!may_read(manager, call))
                return varlink_call_permission_denied(call);
        if (!arbitration_get_arbiter(manager->arbitration))
                return answer_unseen(call, manager);
        r = listing_new(manager, parameters, &list);
        if (r < 0)
                return r;

        /* Those that there are now, however lately the bell was answered. Where they cannot be read, which
         * the journal has, what is known stays. */
        if (sessions_read(manager, &changed) == 0 && changed)
                settle(manager);
        return listing_reply(list, call, "sessions", write_next_session);
}

static bool write_next_refusal(Listing *list, JsonWriter *w) {
        const Refusal *refusal = list->n_left > 0 ? refusal_walk_next(&list->refusals) : NULL;

        if (!refusal)
                return false;
        if (!list->vm || (refusal->vm && strcmp(list->vm, refusal->vm) == 0)) {
                encode_refusal(w, NULL, refusal);
                list->n_left--;
        }
        return true;
}

int method_list_refusals(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        int64_t limit;
        Listing *list;
        int r;

        if (!may_read(manager, call))
                return varlink_call_permission_denied(call);
        if (!request_get_int(parameters, "limit", &limit))
                limit = REFUSALS_MAX;
        else if (limit < 1)
                return varlink_call_invalid_parameter(call, "limit");
        r = listing_new(manager, parameters, &list);
        if (r < 0)
                return r;

        list->n_left = limit;
        return listing_reply(list, call, "refusals", write_next_refusal);
}

int method_watch(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        int r;

        if (!may_read(manager, call))
                return varlink_call_permission_denied(call);

        r = watch_new(manager, call);
        if (r > 0)
                encode_none_left(call, r == QUOTA_E_USER ? LIMIT_WATCHERS_PER_USER : LIMIT_WATCHERS);
        return r < 0 ? r : 0;
}
