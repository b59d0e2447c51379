/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm status: the broker, its limits and counters, one per line as lscpu prints. */

#include <inttypes.h>

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/verb.h"

enum {
        COLUMN_FIELD,
        COLUMN_VALUE,
};

static const TableColumn columns[] = {
        [COLUMN_FIELD] = {"FIELD", TABLE_LEFT},
        [COLUMN_VALUE] = {"VALUE", TABLE_LEFT},
};

_printf_(3, 4) static void add(Table *table, const char *label, const char *format, ...) {
        va_list arguments;

        table_add_row(table);
        table_set(table, COLUMN_FIELD, label);
        va_start(arguments, format);
        table_vsetf(table, COLUMN_VALUE, format, arguments);
        va_end(arguments);
}

static void add_level(Table *table, const struct json_object *host) {
        const char *level = field_string(host, "level"), *reason = field_string(host, "levelReason");

        if (reason)
                add(table, "Arbitration level:", "%s (%s)", level ? level : "?", reason);
        else
                add(table, "Arbitration level:", "%s", level ? level : "?");
        add(table, "Outlives the broker:", "%s", field_bool(host, "levelKept") ? "yes" : "no");
}

static void add_gate(Table *table, const struct json_object *host) {
        const char *gate = field_string(host, "gate"), *reason = field_string(host, "gateReason");

        if (reason)
                add(table, "Gate:", "%s (%s)", gate ? gate : "?", reason);
        else
                add(table, "Gate:", "%s", gate ? gate : "?");
}

static void add_memlock(Table *table, const struct json_object *host) {
        const struct json_object *memlock = field_object(host, "memlock");

        if (!field_bool(memlock, "manage"))
                add(table, "Memlock limits:", "unmanaged");
        else
                add(table, "Memlock limits:", "%s",
                    field_bool(memlock, "able") ? "managed" : "managed, no capability");
}

static void add_use(Table *table, const struct json_object *host) {
        const struct json_object *counts = field_object(host, "counts"),
                                 *limits = field_object(host, "limits");
        char charge[TEXT_SIZE_MAX], max[TEXT_SIZE_MAX];

        add(table, "Instances:", "%" PRIu64, field_unsigned(counts, "instances"));
        add(table, "Leases:", "%" PRIu64 " of %" PRIu64 ", %" PRIu64 " waiting",
            field_unsigned(counts, "leases"), field_unsigned(limits, "maxLeases"),
            field_unsigned(counts, "waiting"));
        add(table, "Host sessions:", "%" PRIu64, field_unsigned(counts, "sessions"));
        add(table, "Charge:", "%s of %s", text_size(field_unsigned(host, "charge"), charge),
            text_size(field_unsigned(limits, "maxMemory"), max));
        add(table, "Connections:", "%" PRIu64 " of %" PRIu64 ", %" PRIu64 " watching",
            field_unsigned(counts, "connections"), field_unsigned(limits, "maxConnections"),
            field_unsigned(counts, "watchers"));
}

static void add_limits(Table *table, const struct json_object *host) {
        const struct json_object *limits = field_object(host, "limits");
        char text[TEXT_SIZE_MAX];

        add(table, "Default buffer:", "%s", text_size(field_unsigned(limits, "defaultBufferSize"), text));
        add(table, "Largest buffer:", "%s", text_size(field_unsigned(limits, "maxBufferSize"), text));
        add(table, "Memory per VM:", "%s", text_size(field_unsigned(limits, "maxMemoryPerVM"), text));
        add(table, "Memory per user:", "%s", text_size(field_unsigned(limits, "maxMemoryPerUser"), text));
        add(table, "Leases per user:", "%" PRIu64, field_unsigned(limits, "maxLeasesPerUser"));
        add(table, "Connections per user:", "%" PRIu64, field_unsigned(limits, "maxConnectionsPerUser"));
}

static void add_counters(Table *table, const struct json_object *host) {
        const struct json_object *counters = field_array(host, "counters");

        for (size_t i = 0; i < array_length(counters); i++) {
                const struct json_object *counter = json_object_array_get_idx(counters, i);
                const char *name = field_string(counter, "name");
                char label[64];

                (void)snprintf(label, sizeof label, "%s:", name ? name : "?");
                add(table, label, "%" PRIu64, field_unsigned(counter, "value"));
        }
}

int verb_status(Speadm *speadm) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(table_freep) Table *table = NULL;
        struct json_object *host;
        const char *version;
        int r;

        r = call(speadm, BROKER "Describe", &reply);
        if (r != SPEADM_DONE)
                return r;
        host = field_object(reply.parameters, "host");
        if (arguments_has(&speadm->arguments, OPTION_JSON))
                return json_print(host, "{}");

        table = table_new(columns, ELEMENTS_OF(columns), /* headings= */ false);
        if (!table)
                return complain_memory();
        version = field_string(host, "version");
        add(table, "Broker version:", "%s", version ? version : "?");
        add_level(table, host);
        add_gate(table, host);
        add_memlock(table, host);
        add_use(table, host);
        add_limits(table, host);
        add_counters(table, host);
        return table_print(table);
}
