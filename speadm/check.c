/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm check: can a guest have SPE here, and if not, what is the first thing to do? The broker's checks
 * come in the order in which they depend on each other, so the first that failed decides. Reasons are
 * sentences and are wrapped for a terminal; advice may be a command to paste and never is.
 */

#include <stdio.h>
#include <string.h>

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/verb.h"
#include "speadm/words.h"

/* The check that is KVM's own word. */
#define CHECK_GUEST "guest"

static const char *field_word(const struct json_object *check, const char *key) {
        const char *word = field_string(check, key);

        return word ? word : "?";
}

static bool has_status(const struct json_object *check, const char *status) {
        return strcmp(field_word(check, "status"), status) == 0;
}

static const struct json_object *first_failed(const struct json_object *checks) {
        for (size_t i = 0; i < array_length(checks); i++) {
                const struct json_object *check = json_object_array_get_idx(checks, i);

                if (has_status(check, "failed"))
                        return check;
        }
        return NULL;
}

static const struct json_object *find_check(const struct json_object *checks, const char *name) {
        for (size_t i = 0; i < array_length(checks); i++) {
                const struct json_object *check = json_object_array_get_idx(checks, i);

                if (strcmp(field_word(check, "name"), name) == 0)
                        return check;
        }
        return NULL;
}

/* A host on which nothing is known to be in the way is not refused: who must be sure asks for a lease. */
static int exit_status(const struct json_object *checks) {
        const struct json_object *failed = first_failed(checks);

        if (!failed)
                return SPEADM_DONE;
        return field_string(failed, "advice") ? SPEADM_FAILED : SPEADM_HOST_CANNOT;
}

static int print_sentence(const char *words, const char *reason, size_t width) {
        _cleanup_(freep) char *sentence = NULL;

        if (asprintf(&sentence, "%s %s", words, reason) < 0) {
                sentence = NULL;
                return complain_memory();
        }
        print_wrapped(sentence, /* indent= */ 0, width);
        return SPEADM_DONE;
}

static int print_verdict(const struct json_object *checks, size_t width) {
        const struct json_object *failed = first_failed(checks), *guest = find_check(checks, CHECK_GUEST);
        const char *advice = field_string(failed, "advice");

        putchar('\n');
        if (failed && advice)
                printf("A guest cannot have SPE now. First: %s\n", advice);
        else if (failed)
                return print_sentence("A guest cannot have SPE on this host:", field_word(failed, "reason"),
                                      width);
        else if (guest && (has_status(guest, "ok") || has_status(guest, "warning")))
                puts("A guest can have SPE on this host.");
        else
                return print_sentence("Nothing is found in the way, but whether KVM gives SPE to a guest is "
                                      "not known:",
                                      guest ? field_word(guest, "reason") : "this broker does not say",
                                      width);
        return SPEADM_DONE;
}

typedef struct Widths {
        int name, status;
        size_t line; /* 0: lines are as long as they are */
} Widths;

static int max_length(const struct json_object *checks, const char *key, const char *heading) {
        size_t max = strlen(heading);

        for (size_t i = 0; i < array_length(checks); i++) {
                size_t n = strlen(field_word(json_object_array_get_idx(checks, i), key));

                max = n > max ? n : max;
        }
        return (int)max;
}

static void print_row(const Widths *widths, const char *name, const char *status, const char *reason) {
        size_t indent = (size_t)widths->name + (size_t)widths->status + 2;

        printf("%-*s %-*s ", widths->name, name, widths->status, status);
        print_wrapped(reason, indent, widths->line);
}

static int print_checks(const struct json_object *checks, bool legend) {
        const Widths widths = {
                .name = max_length(checks, "name", "CHECK"),
                .status = max_length(checks, "status", "STATUS"),
                .line = terminal_width(),
        };

        if (legend)
                print_row(&widths, "CHECK", "STATUS", "REASON");
        for (size_t i = 0; i < array_length(checks); i++) {
                const struct json_object *check = json_object_array_get_idx(checks, i);
                const char *advice = field_string(check, "advice");

                print_row(&widths, field_word(check, "name"), field_word(check, "status"),
                          field_word(check, "reason"));
                if (legend && advice)
                        printf("  -> %s\n", advice);
        }
        return legend ? print_verdict(checks, widths.line) : SPEADM_DONE;
}

/* Whether the broker keeps host sessions off as well as @required says. */
static int check_level(Speadm *speadm, const char *required) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        const char *level, *reason;
        struct json_object *host;
        int r;

        r = call(speadm, BROKER "Describe", &reply);
        if (r != SPEADM_DONE)
                return r;
        /* Shown in any case, so clean in any case. */
        if (arguments_has(&speadm->arguments, OPTION_JSON) && text_clean(reply.parameters) < 0)
                return complain_memory();

        host = field_object(reply.parameters, "host");
        level = field_string(host, "level");
        reason = field_string(host, "levelReason");
        if (words_level_rank(level) >= words_level_rank(required))
                return SPEADM_DONE;
        complain("level %s is required, and the broker has level %s%s%s", required, level ? level : "?",
                 reason ? ": " : "", reason ? reason : "");
        return SPEADM_FAILED;
}

int verb_check(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        struct json_object *checks;
        int r, status;

        r = call(speadm, BROKER "CheckHost", &reply);
        if (r != SPEADM_DONE)
                return r;
        checks = field_array(reply.parameters, "checks");
        if (arguments_has(arguments, OPTION_JSON))
                r = json_print(checks, "[]");
        else
                r = print_checks(checks, !arguments_has(arguments, OPTION_NO_LEGEND));
        if (r != SPEADM_DONE)
                return r;

        status = exit_status(checks);
        if (!arguments->require)
                return status;
        r = check_level(speadm, arguments->require);
        return status == SPEADM_DONE ? r : status;
}
