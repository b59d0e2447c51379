/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm sessions: who profiles on the host's side. Where that is not seen, no list would be true. */

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/verb.h"
#include "speadm/words.h"

int verb_sessions(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        struct json_object *sessions;
        int r;

        r = call(speadm, BROKER "ListSessions", &reply);
        if (r != SPEADM_DONE)
                return r;

        sessions = field_array(reply.parameters, "sessions");
        if (arguments_has(arguments, OPTION_JSON))
                return json_print(sessions, "[]");
        if (array_length(sessions) == 0 && !arguments_has(arguments, OPTION_NO_LEGEND))
                puts("No host sessions.");
        return words_session_table(speadm, sessions);
}
