/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm refusals: what was refused lately, to whom, and why. */

#include "speadm/call.h"
#include "speadm/failure.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/verb.h"

enum {
        COLUMN_TIME,
        COLUMN_VM,
        COLUMN_PID,
        COLUMN_UID,
        COLUMN_ERROR,
        COLUMN_MESSAGE,
};

static const TableColumn columns[] = {
        [COLUMN_TIME] = {"TIME", TABLE_LEFT},   [COLUMN_VM] = {"VM", TABLE_TRUNC},
        [COLUMN_PID] = {"PID", TABLE_RIGHT},    [COLUMN_UID] = {"UID", TABLE_RIGHT},
        [COLUMN_ERROR] = {"ERROR", TABLE_LEFT}, [COLUMN_MESSAGE] = {"MESSAGE", TABLE_TRUNC},
};

static void set_number(Table *table, size_t column, const struct json_object *refusal, const char *key) {
        if (field_has_int(refusal, key))
                table_set_int(table, column, field_int(refusal, key, 0));
        else
                table_set(table, column, NULL);
}

static void add_refusal(Table *table, const struct json_object *refusal) {
        const char *error = field_string(refusal, "error");
        char when[TEXT_TIME_MAX];

        table_add_row(table);
        table_set(table, COLUMN_TIME, text_time(field_int(refusal, "whenUSec", 0), when));
        table_set(table, COLUMN_VM, field_string(refusal, "vm"));
        set_number(table, COLUMN_PID, refusal, "pid");
        set_number(table, COLUMN_UID, refusal, "uid");
        table_set(table, COLUMN_ERROR, error ? failure_short_name(error) : NULL);
        table_set(table, COLUMN_MESSAGE, field_string(refusal, "message"));
}

int verb_refusals(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        bool legend = !arguments_has(arguments, OPTION_NO_LEGEND);
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(table_freep) Table *table = NULL;
        struct json_object *refusals;
        JsonWriter *writer;
        int r;

        r = call_begin(speadm, BROKER "ListRefusals", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        if (arguments->vm)
                json_write_string(writer, "vm", arguments->vm);
        if (arguments_has(arguments, OPTION_LIMIT))
                json_write_int(writer, "limit", (int64_t)arguments->limit);
        r = call_end(speadm, 0, &reply);
        if (r != SPEADM_DONE)
                return r;

        refusals = field_array(reply.parameters, "refusals");
        if (arguments_has(arguments, OPTION_JSON))
                return json_print(refusals, "[]");
        if (array_length(refusals) == 0 && legend)
                puts("No refusals.");
        table = table_new(columns, ELEMENTS_OF(columns), legend);
        if (!table)
                return complain_memory();
        for (size_t i = 0; i < array_length(refusals); i++)
                add_refusal(table, json_object_array_get_idx(refusals, i));
        return table_print(table);
}
