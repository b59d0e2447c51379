/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm assign, unassign and drain: the operator's standing decisions. What an assignment displaces is
 * printed when it holds; with --wait the command ends when nothing of it is left, however often the broker
 * restarts until then.
 */

#include <string.h>

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/reconnect.h"
#include "speadm/tell.h"
#include "speadm/verb.h"
#include "speadm/words.h"
#include "util/clock.h"

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

/* @for_usec: with --for alone. */
static int send_assign(Speadm *speadm, const char *owner, uint64_t for_usec) {
        const Arguments *arguments = &speadm->arguments;
        JsonWriter *writer;
        int r;

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
                json_write_int(writer, "forUSec", (int64_t)for_usec);
        return call_send(speadm);
}

/* The broker went away before the last step. What was said stands, and saying it again is how to go on. */
static int assign_again(Speadm *speadm, const char *owner, uint64_t deadline, Reconnect *again) {
        uint64_t left;

        (void)reconnect(again, speadm, -1, UINT64_MAX);
        left = clock_left(deadline);
        return send_assign(speadm, owner, left > 0 ? left : 1);
}

/* One reply per step, of which the first says what is displaced and the last is the outcome. */
static int follow_steps(Speadm *speadm, const char *owner, uint64_t deadline, VarlinkReply *reply) {
        bool json = arguments_has(&speadm->arguments, OPTION_JSON);
        Reconnect again = RECONNECT_INIT;
        int r = SPEADM_DONE;

        if (!json) {
                r = print_displaced(speadm, reply->parameters);
                (void)fflush(stdout); /* --wait may take long */
        }
        while (r == SPEADM_DONE && reply->continues) {
                VarlinkReply next = VARLINK_REPLY_NULL;

                r = call_receive(speadm, UINT64_MAX, &next);
                if (r == CALL_LOST) {
                        r = assign_again(speadm, owner, deadline, &again);
                        continue;
                }
                reconnect_done(&again);
                varlink_reply_deinit(reply);
                *reply = next;
        }
        if (r == SPEADM_DONE && json)
                return json_print(reply->parameters, "{}");
        return r;
}

static int assign(Speadm *speadm, const char *owner) {
        uint64_t deadline = clock_deadline(speadm->arguments.for_usec);
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = check_where(&speadm->arguments);
        if (r == SPEADM_DONE)
                r = send_assign(speadm, owner, speadm->arguments.for_usec);
        if (r == SPEADM_DONE)
                r = call_next(speadm, CALL_TIMEOUT_USEC, &reply);
        return r == SPEADM_DONE ? follow_steps(speadm, owner, deadline, &reply) : r;
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
