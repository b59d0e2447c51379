/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm rescan and reload: what the broker does by itself on uevents and SIGHUP, by hand and with an answer.
 */

#include "speadm/call.h"
#include "speadm/output.h"
#include "speadm/verb.h"

static int call_plain(Speadm *speadm, const char *method) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = call(speadm, method, &reply);
        if (r == SPEADM_DONE && arguments_has(&speadm->arguments, OPTION_JSON))
                return json_print(reply.parameters, "{}");
        return r;
}

int verb_rescan(Speadm *speadm) {
        return call_plain(speadm, ADMIN "Rescan");
}

int verb_reload(Speadm *speadm) {
        return call_plain(speadm, ADMIN "Reload");
}
