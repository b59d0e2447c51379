/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The method tables. The server compares them with the interface descriptions at start, so neither can have a
 * method that the other lacks.
 */

#include "broker/methods.h"

#include "broker/manager.h"
#include "idl/idl-text.h"
#include "util/error.h"

static const VarlinkMethod broker_methods[] = {
        {.name = "Describe", .handler = method_describe, .only_tells = true},
        {.name = "CheckHost", .handler = method_check_host, .only_tells = true},
        {.name = "ListInstances", .handler = method_list_instances, .only_tells = true},
        {.name = "ListLeases", .handler = method_list_leases, .only_tells = true},
        {.name = "ListSessions", .handler = method_list_sessions, .only_tells = true},
        {.name = "ListRefusals", .handler = method_list_refusals, .only_tells = true},
        {.name = "Query", .handler = method_query, .only_tells = true},
        {.name = "Acquire", .handler = method_acquire},
        {.name = "Follow", .handler = method_follow, .requires_more = true, .only_tells = true},
        {.name = "Update", .handler = method_update},
        {.name = "Release", .handler = method_release},
        {.name = "Watch", .handler = method_watch, .requires_more = true, .only_tells = true},
};

static const VarlinkMethod admin_methods[] = {
        {.name = "Assign", .handler = method_assign}, {.name = "Unassign", .handler = method_unassign},
        {.name = "Revoke", .handler = method_revoke}, {.name = "Reload", .handler = method_reload},
        {.name = "Rescan", .handler = method_rescan},
};

int methods_register(Manager *manager) {
        int r;

        r = varlink_server_add_interface(manager->server, idl_io_spebroker_Broker, broker_methods,
                                         ELEMENTS_OF(broker_methods), manager);
        if (r)
                return error_fold(r);

        return error_fold(varlink_server_add_interface(manager->server, idl_io_spebroker_Admin, admin_methods,
                                                       ELEMENTS_OF(admin_methods), manager));
}
