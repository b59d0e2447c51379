/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * org.varlink.service, which every varlink service offers: who it is, and the text of each interface. Its
 * calls are checked and answered like any others.
 */

#include <string.h>

#include "varlink/server/server-private.h"

/* All implementations agree on this text, so it carries no comments. */
static const char service_text[] =
        "interface org.varlink.service\n"
        "method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: "
        "[]string)\n"
        "method GetInterfaceDescription(interface: string) -> (description: string)\n"
        "error InterfaceNotFound (interface: string)\n"
        "error MethodNotFound (method: string)\n"
        "error MethodNotImplemented (method: string)\n"
        "error InvalidParameter (parameter: string)\n"
        "error PermissionDenied ()\n"
        "error ExpectedMore ()\n";

static int method_get_info(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        const VarlinkServer *server = userdata;
        JsonWriter *writer = varlink_call_reply(call, false);

        json_write_string(writer, "vendor", server->info.vendor);
        json_write_string(writer, "product", server->info.product);
        json_write_string(writer, "version", server->info.version);
        json_write_string(writer, "url", server->info.url);
        json_write_array_begin(writer, "interfaces");
        for (size_t i = 0; i < server->registry.n_interfaces; i++)
                json_write_string(writer, NULL, server->registry.interfaces[i].name);
        json_write_array_end(writer);
        varlink_call_send(call);
        return 0;
}

static int method_get_interface_description(VarlinkCall *call, struct json_object *parameters,
                                            void *userdata) {
        const VarlinkServer *server = userdata;
        struct json_object *name = json_object_object_get(parameters, "interface");
        const Idl *idl;

        idl = registry_find_interface(&server->registry, json_object_get_string(name),
                                      (size_t)json_object_get_string_len(name));
        if (!idl) {
                json_write_json(varlink_call_error(call, "org.varlink.service.InterfaceNotFound"),
                                "interface", name);
                varlink_call_send(call);
                return 0;
        }

        json_write_string(varlink_call_reply(call, false), "description", idl_get_text(idl));
        varlink_call_send(call);
        return 0;
}

int server_add_service_interface(VarlinkServer *server) {
        static const VarlinkMethod methods[] = {
                {.name = "GetInfo", .handler = method_get_info},
                {.name = "GetInterfaceDescription", .handler = method_get_interface_description},
        };

        return varlink_server_add_interface(server, service_text, methods, ELEMENTS_OF(methods), server);
}
