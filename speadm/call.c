/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls to the broker: the one place where a failure of the connection becomes a sentence. */

#include <errno.h>
#include <string.h>

#include "speadm/call.h"
#include "speadm/failure.h"
#include "speadm/tell.h"
#include "speadm/text.h"

static int complain_connection(const Speadm *speadm, int r) {
        const char *socket = speadm->arguments.socket;

        switch (r) {
        case VARLINK_CLIENT_E_NO_SERVICE:
                complain("no broker listens at %s: is spe-broker running? (systemctl start spe-broker)",
                         socket);
                return SPEADM_NO_BROKER;
        case VARLINK_CLIENT_E_CLOSED:
                complain("the broker at %s closed the connection: it went away, or this user has too many"
                         " connections (journalctl -u spe-broker)",
                         socket);
                return SPEADM_NO_BROKER;
        case VARLINK_CLIENT_E_TIMEOUT:
                complain("the broker at %s does not answer (journalctl -u spe-broker)", socket);
                return SPEADM_FAILED;
        case -EACCES:
        case -EPERM:
                complain("permission denied to connect to the broker at %s: ask as root", socket);
                return SPEADM_REFUSED;
        default:
                complain("cannot talk to the broker at %s: %s", socket, strerror(r < 0 ? -r : EPROTO));
                return SPEADM_FAILED;
        }
}

int call_begin(Speadm *speadm, const char *method, unsigned flags, JsonWriter **ret_writer) {
        int r = 0;

        speadm->method = method;
        if (!speadm->client)
                r = varlink_client_new_path(speadm->arguments.socket, &speadm->client);
        if (r == 0)
                r = varlink_client_begin(speadm->client, method, flags, ret_writer);
        return r == 0 ? SPEADM_DONE : complain_connection(speadm, r);
}

int call_check(Speadm *speadm, int r, VarlinkReply *reply) {
        if (r != 0)
                return complain_connection(speadm, r);
        if ((reply->error || !arguments_has(&speadm->arguments, OPTION_JSON)) &&
            text_clean(reply->parameters) < 0) {
                varlink_reply_deinit(reply);
                return complain_memory();
        }
        if (!reply->error)
                return SPEADM_DONE;
        r = failure_tell(speadm, reply->error, reply->parameters);
        varlink_reply_deinit(reply);
        return r;
}

int call_send(Speadm *speadm) {
        int r;

        r = varlink_client_end(speadm->client);
        return r == 0 ? SPEADM_DONE : complain_connection(speadm, r);
}

int call_receive(Speadm *speadm, uint64_t timeout_usec, VarlinkReply *ret_reply) {
        VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = varlink_client_wait(speadm->client, timeout_usec, &reply);
        if (r == VARLINK_CLIENT_E_CLOSED)
                return CALL_LOST;
        r = call_check(speadm, r, &reply);
        if (r == SPEADM_DONE)
                *ret_reply = reply;
        return r;
}

int call_next(Speadm *speadm, uint64_t timeout_usec, VarlinkReply *ret_reply) {
        int r;

        r = call_receive(speadm, timeout_usec, ret_reply);
        return r == CALL_LOST ? complain_connection(speadm, VARLINK_CLIENT_E_CLOSED) : r;
}

int call_end(Speadm *speadm, uint64_t wait_usec, VarlinkReply *ret_reply) {
        int r;

        r = call_send(speadm);
        if (r != SPEADM_DONE)
                return r;
        return call_next(speadm, CALL_TIMEOUT_USEC + wait_usec, ret_reply);
}

int call(Speadm *speadm, const char *method, VarlinkReply *ret_reply) {
        JsonWriter *writer;
        int r;

        r = call_begin(speadm, method, 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        return call_end(speadm, 0, ret_reply);
}
