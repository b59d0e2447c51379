/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm release and revoke: the end of a lease, named by its id or the beginning of one. */

#include <string.h>

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/verb.h"
#include "speadm/words.h"

#define LEASE_ID_LENGTH 32U

static void complain_ambiguous(const char *prefix, const struct json_object *leases) {
        _cleanup_(freep) char *sentence = NULL;
        size_t size = 0;
        FILE *file;

        file = open_memstream(&sentence, &size);
        if (!file)
                return;
        for (size_t i = 0; i < array_length(leases); i++) {
                const struct json_object *lease = json_object_array_get_idx(leases, i);
                const char *id = field_string(lease, "leaseId"), *vm = field_string(lease, "vm");

                if (id && strncmp(id, prefix, strlen(prefix)) == 0)
                        fprintf(file, "%s %s (VM %s)", size > 0 ? "," : "", id, vm ? vm : "?");
                (void)fflush(file); /* brings size up to date */
        }
        if (fclose(file) == 0)
                complain("'%s' stands for several leases:%s", prefix, sentence);
}

/* Finds the one lease whose id begins so, among those that the caller may see. */
static int resolve_prefix(Speadm *speadm, const char *prefix, char ret_id[static LEASE_ID_LENGTH + 1]) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        const char *found = NULL;
        struct json_object *leases;
        int r;

        r = call(speadm, BROKER "ListLeases", &reply);
        if (r != SPEADM_DONE)
                return r;
        leases = field_array(reply.parameters, "leases");
        for (size_t i = 0; i < array_length(leases); i++) {
                const char *id = field_string(json_object_array_get_idx(leases, i), "leaseId");

                if (!id || strlen(id) != LEASE_ID_LENGTH || strncmp(id, prefix, strlen(prefix)) != 0)
                        continue;
                if (found) {
                        complain_ambiguous(prefix, leases);
                        return SPEADM_FAILED;
                }
                found = id;
        }
        if (!found) {
                complain("there is no lease %s (any more); see 'speadm leases'", prefix);
                return SPEADM_FAILED;
        }
        memcpy(ret_id, found, LEASE_ID_LENGTH + 1);
        return SPEADM_DONE;
}

static int resolve(Speadm *speadm, char ret_id[static LEASE_ID_LENGTH + 1]) {
        const char *text = speadm->arguments.operands[0];
        size_t n = strlen(text);

        if (n == 0 || n > LEASE_ID_LENGTH || strspn(text, "0123456789abcdef") != n)
                return complain_usage(
                        "a lease's id has %u lowercase hexadecimal digits, or the first of them:"
                        " '%s' is none",
                        LEASE_ID_LENGTH, text);
        if (n < LEASE_ID_LENGTH)
                return resolve_prefix(speadm, text, ret_id);
        memcpy(ret_id, text, LEASE_ID_LENGTH + 1);
        return SPEADM_DONE;
}

static int finish(Speadm *speadm) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        int r;

        r = call_end(speadm, 0, &reply);
        if (r == SPEADM_DONE && arguments_has(&speadm->arguments, OPTION_JSON))
                return json_print(reply.parameters, "{}");
        return r;
}

int verb_release(Speadm *speadm) {
        char id[LEASE_ID_LENGTH + 1];
        JsonWriter *writer;
        int r;

        r = resolve(speadm, id);
        if (r == SPEADM_DONE)
                r = call_begin(speadm, BROKER "Release", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        json_write_string(writer, "leaseId", id);
        return finish(speadm);
}

int verb_revoke(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        char id[LEASE_ID_LENGTH + 1];
        JsonWriter *writer;
        int r;

        r = resolve(speadm, id);
        if (r == SPEADM_DONE)
                r = call_begin(speadm, ADMIN "Revoke", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        json_write_string(writer, "leaseId", id);
        if (arguments_has(arguments, OPTION_GRACE))
                json_write_int(writer, "graceUSec", (int64_t)arguments->grace_usec);
        if (arguments->reason)
                json_write_string(writer, "reason", arguments->reason);
        if (arguments_has(arguments, OPTION_KILL))
                json_write_bool(writer, "kill", true);
        return finish(speadm);
}
