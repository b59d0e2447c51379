/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The peer that a service can be measured against: a minimal server on systemd's sd-varlink, which answers
 * every call of one method with the parameters of one file. Needs libsystemd 257; bench.py builds it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <systemd/sd-json.h>
#include <systemd/sd-varlink.h>

static int on_call(sd_varlink *link, sd_json_variant *parameters, sd_varlink_method_flags_t flags,
                   void *userdata) {
        (void)parameters;
        (void)flags;
        return sd_varlink_reply(link, userdata);
}

int main(int argc, char **argv) {
        sd_varlink_server *server = NULL;
        sd_json_variant *reply = NULL;
        sd_event *event = NULL;
        int r;

        if (argc != 4) {
                fprintf(stderr, "usage: sd-varlink-server SOCKET METHOD PARAMETERS-FILE\n");
                return 2;
        }

        r = sd_json_parse_file(NULL, argv[3], 0, &reply, NULL, NULL);
        if (r >= 0)
                r = sd_event_new(&event);
        if (r >= 0)
                r = sd_varlink_server_new(&server, SD_VARLINK_SERVER_INHERIT_USERDATA);
        if (r >= 0)
                r = sd_varlink_server_bind_method(server, argv[2], on_call);
        if (r >= 0) {
                sd_varlink_server_set_userdata(server, reply);
                r = sd_varlink_server_listen_address(server, argv[1], 0600);
        }
        if (r >= 0)
                r = sd_varlink_server_attach_event(server, event, 0);
        if (r >= 0)
                r = sd_event_loop(event);

        fprintf(stderr, "sd-varlink-server: %s\n", strerror(-r));
        return EXIT_FAILURE;
}
