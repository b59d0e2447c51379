/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm query: would a lease be granted? Every reason against it, and what would be granted instead. */

#include <inttypes.h>

#include "speadm/call.h"
#include "speadm/failure.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/request.h"
#include "speadm/text.h"
#include "speadm/verb.h"

static void print_offer(const Arguments *arguments, const struct json_object *offer) {
        const char *instance = field_string(offer, "instance"), *cpus = field_string(offer, "cpus");
        const char *mode = field_string(offer, "mode"), *limited_by = field_string(offer, "limitedBy");
        char size[TEXT_SIZE_MAX], charge[TEXT_SIZE_MAX];

        printf("%s (PMU type %" PRId64 "), CPUs %s, %" PRIu64 " x %s buffer, %s charged, mode %s",
               instance ? instance : "?", field_int(offer, "pmuType", 0), cpus ? cpus : "?", arguments->vcpus,
               text_size(field_unsigned(offer, "bufferSize"), size),
               text_size(field_unsigned(offer, "charge"), charge), mode ? mode : "?");
        if (limited_by)
                printf(", limited by %s", limited_by);
        putchar('\n');
}

static void print_decision(const Arguments *arguments, const struct json_object *decision) {
        const struct json_object *refusals = field_array(decision, "refusals");
        const struct json_object *counter_offer = field_object(decision, "counterOffer");

        if (field_bool(decision, "granted")) {
                fputs("granted: ", stdout);
                print_offer(arguments, field_object(decision, "offer"));
                return;
        }
        for (size_t i = 0; i < array_length(refusals); i++) {
                const struct json_object *refusal = json_object_array_get_idx(refusals, i);
                const char *error = field_string(refusal, "error"),
                           *message = field_string(refusal, "message");

                printf("refused: %s: %s\n", error ? failure_short_name(error) : "?", message ? message : "?");
        }
        if (!counter_offer)
                return;
        fputs("instead: ", stdout);
        print_offer(arguments, counter_offer);
        fputs("         ", stdout);
        request_print_offer(arguments, "run", counter_offer);
        puts(" -- COMMAND");
}

static int exit_status(const struct json_object *decision) {
        const struct json_object *refusals = field_array(decision, "refusals"), *first;
        const char *error;

        if (field_bool(decision, "granted"))
                return SPEADM_DONE;
        if (array_length(refusals) == 0)
                return SPEADM_REFUSED;
        first = json_object_array_get_idx(refusals, 0);
        error = field_string(first, "error");
        return error ? failure_exit_status(error, first) : SPEADM_REFUSED;
}

int verb_query(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        struct json_object *decision;
        JsonWriter *writer;
        int r;

        r = request_check(arguments);
        if (r != SPEADM_DONE)
                return r;
        r = call_begin(speadm, BROKER "Query", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        request_write(writer, arguments, NULL);
        r = call_end(speadm, 0, &reply);
        if (r != SPEADM_DONE)
                return r;

        decision = field_object(reply.parameters, "decision");
        if (arguments_has(arguments, OPTION_JSON)) {
                r = json_print(decision, "{}");
                return r == SPEADM_DONE ? exit_status(decision) : r;
        }
        print_decision(arguments, decision);
        return exit_status(decision);
}
