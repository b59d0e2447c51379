/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm leases: who holds what, and who waits. */

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/verb.h"
#include "speadm/words.h"

int verb_leases(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        struct json_object *leases;
        JsonWriter *writer;
        int r;

        r = call_begin(speadm, BROKER "ListLeases", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        if (arguments->vm)
                json_write_string(writer, "vm", arguments->vm);
        r = call_end(speadm, 0, &reply);
        if (r != SPEADM_DONE)
                return r;

        leases = field_array(reply.parameters, "leases");
        if (arguments_has(arguments, OPTION_JSON))
                return json_print(leases, "[]");
        if (array_length(leases) == 0 && !arguments_has(arguments, OPTION_NO_LEGEND))
                puts("No leases.");
        return words_lease_table(speadm, leases);
}
