/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm refusals: what was refused lately, to whom, and why. Whose perf fails asks for its process: that is
 * told who stood in the way, and what would be allowed.
 */

#include "speadm/call.h"
#include "speadm/failure.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/verb.h"
#include "speadm/words.h"

enum {
        COLUMN_REFUSAL,
        COLUMN_TIME,
        COLUMN_VM,
        COLUMN_PID,
        COLUMN_UID,
        COLUMN_ERROR,
        COLUMN_MESSAGE,
};

static const TableColumn columns[] = {
        [COLUMN_REFUSAL] = {"REFUSAL", TABLE_LEFT},  [COLUMN_TIME] = {"TIME", TABLE_LEFT},
        [COLUMN_VM] = {"VM", TABLE_TRUNC},           [COLUMN_PID] = {"PID", TABLE_RIGHT},
        [COLUMN_UID] = {"UID", TABLE_RIGHT},         [COLUMN_ERROR] = {"ERROR", TABLE_LEFT},
        [COLUMN_MESSAGE] = {"MESSAGE", TABLE_TRUNC},
};

static void set_number(Table *table, size_t column, const struct json_object *refusal, const char *key) {
        if (field_has_int(refusal, key))
                table_set_int(table, column, field_int(refusal, key, 0));
        else
                table_set(table, column, NULL);
}

static void add_refusal(Table *table, const struct json_object *refusal) {
        const char *error = field_string(refusal, "error"), *id = field_string(refusal, "id");
        char shown[REFUSAL_ID_SHOWN + 1], when[TEXT_TIME_MAX];

        (void)snprintf(shown, sizeof shown, "%s", id ? id : "");
        table_add_row(table);
        table_set(table, COLUMN_REFUSAL, shown);
        table_set(table, COLUMN_TIME, text_time(field_int(refusal, "whenUSec", 0), when));
        table_set(table, COLUMN_VM, field_string(refusal, "vm"));
        set_number(table, COLUMN_PID, refusal, "pid");
        set_number(table, COLUMN_UID, refusal, "uid");
        table_set(table, COLUMN_ERROR, error ? failure_short_name(error) : NULL);
        table_set(table, COLUMN_MESSAGE, field_string(refusal, "message"));
}

/* Leases, or the assignment of the CPUs. */
static void print_obstacles(const struct json_object *refusal) {
        const struct json_object *holders = field_array(refusal, "holders");
        const char *owner = field_string(refusal, "owner"), *cpus = field_string(refusal, "cpus");
        const char *vm = field_string(refusal, "assignedVm");

        for (size_t i = 0; i < array_length(holders); i++) {
                fputs("  in the way: ", stdout);
                words_holder(stdout, json_object_array_get_idx(holders, i));
                putchar('\n');
        }
        if (owner)
                printf("  in the way: CPUs %s are assigned to %s%s%s\n", cpus ? cpus : "?", owner,
                       vm ? ", VM " : "", vm ? vm : "");
}

/* Below the table, of host sessions and of the gate. */
static void print_details(const struct json_object *refusals) {
        for (size_t i = 0; i < array_length(refusals); i++) {
                const struct json_object *refusal = json_object_array_get_idx(refusals, i);
                const char *message = field_string(refusal, "message"),
                           *allowed = field_string(refusal, "allowed");

                if (field_string(refusal, "vm") && !allowed)
                        continue;
                printf("\n%s\n", message ? message : "?");
                print_obstacles(refusal);
                printf("  -> %s\n", allowed ? allowed : "nothing is allowed there now");
        }
}

/* Takes out those of others, and all beyond the newest: the broker keeps few enough to send them all. */
static void keep_of_process(struct json_object *refusals, const Arguments *arguments) {
        size_t n = 0;

        while (n < array_length(refusals)) {
                bool fits = !arguments_has(arguments, OPTION_LIMIT) || n < arguments->limit;

                if (fits &&
                    field_int(json_object_array_get_idx(refusals, n), "pid", 0) == (int64_t)arguments->pid)
                        n++;
                else
                        (void)json_object_array_del_idx(refusals, n, 1);
        }
}

static int ask(Speadm *speadm, VarlinkReply *reply) {
        const Arguments *arguments = &speadm->arguments;
        JsonWriter *writer;
        int r;

        r = call_begin(speadm, BROKER "ListRefusals", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        if (arguments->vm)
                json_write_string(writer, "vm", arguments->vm);
        if (arguments_has(arguments, OPTION_LIMIT) && !arguments_has(arguments, OPTION_PID))
                json_write_int(writer, "limit", (int64_t)arguments->limit);
        return call_end(speadm, 0, reply);
}

int verb_refusals(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        bool legend = !arguments_has(arguments, OPTION_NO_LEGEND);
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(table_freep) Table *table = NULL;
        struct json_object *refusals;
        int r;

        r = ask(speadm, &reply);
        if (r != SPEADM_DONE)
                return r;

        refusals = field_array(reply.parameters, "refusals");
        if (arguments_has(arguments, OPTION_PID))
                keep_of_process(refusals, arguments);
        if (arguments_has(arguments, OPTION_JSON))
                return json_print(refusals, "[]");
        if (array_length(refusals) == 0 && legend)
                puts("No refusals.");
        table = table_new(columns, ELEMENTS_OF(columns), legend);
        if (!table)
                return complain_memory();
        for (size_t i = 0; i < array_length(refusals); i++)
                add_refusal(table, json_object_array_get_idx(refusals, i));
        r = table_print(table);
        if (r == SPEADM_DONE && legend && arguments_has(arguments, OPTION_PID))
                print_details(refusals);
        return r;
}
