/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One lease of all that are listed, for whoever cannot, or must not, follow it. */

#include "libspebroker/find.h"

#include <string.h>

#include "libspebroker/call.h"
#include "libspebroker/fields.h"
#include "libspebroker/lease.h"

typedef struct LeasesMembers {
        struct json_object *leases;
} LeasesMembers;

static const Field leases_fields[] = {
        FIELD("leases", FIELD_ARRAY, LeasesMembers, leases),
};

int lease_find(struct spebroker *context, const char *vm, const char *lease_id,
               struct spebroker_lease **ret_lease) {
        const Call call = {.method = "io.spebroker.Broker.ListLeases", .only_asks = true, .vm = vm};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        LeasesMembers members;
        int r;

        r = context_call(context, &call, &reply, NULL);
        if (r != 0)
                return r;
        r = fields_read(reply.parameters, leases_fields, ELEMENTS_OF(leases_fields), &members);
        if (r < 0)
                return r;

        for (size_t i = 0, n = json_object_array_length(members.leases); i < n; i++) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;

                r = lease_new_listed(json_object_array_get_idx(members.leases, i), &lease);
                if (r < 0)
                        return r;
                if (strcmp(spebroker_lease_get_id(lease), lease_id) == 0) {
                        *ret_lease = steal_ptr(lease);
                        return 0;
                }
        }

        return SPEBROKER_ENDED;
}
