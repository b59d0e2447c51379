/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm assign, unassign and drain: the operator's standing decisions. What an assignment displaces is
 * printed when it holds; with --wait the command ends when nothing of it is left.
 */

#include <string.h>

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/verb.h"
#include "speadm/words.h"

static int check_where(const Arguments *arguments) {
        if (!arguments->cpus && !arguments->instance)
                return complain_usage("which CPUs? Give --cpus LIST, --instance NAME, or both");
        return SPEADM_DONE;
}

static void write_where(JsonWriter *writer, const Arguments *arguments) {
        if (arguments->cpus)
                json_write_string(writer, "cpus", arguments->cpus);
        if (arguments->instance)
                json_write_string(writer, "instance", arguments->instance);
}

static int print_displaced(const Speadm *speadm, const struct json_object *parameters) {
        bool legend = !arguments_has(&speadm->arguments, OPTION_NO_LEGEND);
        const struct json_object *leases = field_array(parameters, "affected");
        const struct json_object *sessions = field_array(parameters, "draining");
        int r;

        if (array_length(leases) > 0 && legend)
                puts("Leases that shrink or are revoked:");
        r = words_lease_table(speadm, leases);
        if (array_length(sessions) > 0 && legend)
                puts("Host sessions in the way until they close:");
        return r == SPEADM_DONE ? words_session_table(speadm, sessions) : r;
}

/* One reply per step, of which the first says what is displaced and the last is the outcome. */
static int follow_steps(Speadm *speadm, VarlinkReply *reply) {
        bool json = arguments_has(&speadm->arguments, OPTION_JSON);
        int r = SPEADM_DONE;

        if (!json) {
                r = print_displaced(speadm, reply->parameters);
                (void)fflush(stdout); /* --wait may take long */
        }
        while (r == SPEADM_DONE && reply->continues) {
                varlink_reply_deinit(reply);
                *reply = VARLINK_REPLY_NULL;
                r = call_next(speadm, reply);
        }
        if (r == SPEADM_DONE && json)
                return json_print(reply->parameters, "{}");
        return r;
}

static int assign(Speadm *speadm, const char *owner) {
        const Arguments *arguments = &speadm->arguments;
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        JsonWriter *writer;
        int r;

        r = check_where(arguments);
        if (r != SPEADM_DONE)
                return r;
        r = call_begin(speadm, ADMIN "Assign", arguments_has(arguments, OPTION_WAIT) ? VARLINK_CALL_MORE : 0,
                       &writer);
        if (r != SPEADM_DONE)
                return r;
        write_where(writer, arguments);
        json_write_string(writer, "owner", owner);
        if (arguments->vm)
                json_write_string(writer, "vm", arguments->vm);
        if (arguments_has(arguments, OPTION_RUNTIME))
                json_write_bool(writer, "runtime", true);
        if (arguments_has(arguments, OPTION_FOR))
                json_write_int(writer, "forUSec", (int64_t)arguments->for_usec);
        r = call_end(speadm, 0, &reply);
        if (r != SPEADM_DONE)
                return r;
        return follow_steps(speadm, &reply);
}

int verb_assign(Speadm *speadm) {
        const char *owner = speadm->arguments.operands[0];

        if (strcmp(owner, "host") != 0 && strcmp(owner, "guest") != 0 && strcmp(owner, "any") != 0 &&
            strcmp(owner, "none") != 0)
                return complain_usage("CPUs are assigned to host, guest, any or none, not to '%s'", owner);
        if (speadm->arguments.vm && (strcmp(owner, "host") == 0 || strcmp(owner, "none") == 0))
                return complain_usage("--vm goes with guest and any: %s leaves no VM anything", owner);
        return assign(speadm, owner);
}

int verb_drain(Speadm *speadm) {
        return assign(speadm, "none");
}

int verb_unassign(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        JsonWriter *writer;
        int r;

        r = check_where(arguments);
        if (r != SPEADM_DONE)
                return r;
        r = call_begin(speadm, ADMIN "Unassign", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        write_where(writer, arguments);
        r = call_end(speadm, 0, &reply);
        if (r == SPEADM_DONE && arguments_has(arguments, OPTION_JSON))
                return json_print(reply.parameters, "{}");
        return r;
}
