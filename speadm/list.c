/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* speadm list: the SPUs of this host. What is wrong with one stands below the table, in a sentence. */

#include <string.h>

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/verb.h"
#include "speadm/words.h"

enum {
        COLUMN_NAME,
        COLUMN_TYPE,
        COLUMN_STATE,
        COLUMN_GUEST,
        COLUMN_CPUS,
        COLUMN_ONLINE,
        COLUMN_LEASED,
        COLUMN_SESSIONS,
        COLUMN_LEASES,
        COLUMN_CHARGE,
        COLUMN_DRIVER,
        COLUMN_ASSIGNED,
};

static const TableColumn columns[] = {
        [COLUMN_NAME] = {"NAME", TABLE_LEFT},      [COLUMN_TYPE] = {"TYPE", TABLE_RIGHT},
        [COLUMN_STATE] = {"STATE", TABLE_LEFT},    [COLUMN_GUEST] = {"GUEST", TABLE_LEFT},
        [COLUMN_CPUS] = {"CPUS", TABLE_TRUNC},     [COLUMN_ONLINE] = {"ONLINE", TABLE_TRUNC},
        [COLUMN_LEASED] = {"LEASED", TABLE_TRUNC}, [COLUMN_SESSIONS] = {"SESSIONS", TABLE_TRUNC},
        [COLUMN_LEASES] = {"LEASES", TABLE_RIGHT}, [COLUMN_CHARGE] = {"CHARGE", TABLE_RIGHT},
        [COLUMN_DRIVER] = {"DRIVER", TABLE_LEFT},  [COLUMN_ASSIGNED] = {"ASSIGNED", TABLE_TRUNC},
};

static int add_instance(Table *table, const struct json_object *instance) {
        _cleanup_(freep) char *assigned = words_assignments(instance);

        if (!assigned)
                return complain_memory();
        table_add_row(table);
        table_set(table, COLUMN_NAME, field_string(instance, "name"));
        if (field_has_int(instance, "pmuType"))
                table_set_int(table, COLUMN_TYPE, field_int(instance, "pmuType", 0));
        else
                table_set(table, COLUMN_TYPE, NULL);
        table_set(table, COLUMN_STATE, field_string(instance, "state"));
        table_set(table, COLUMN_GUEST, field_string(instance, "guest"));
        table_set(table, COLUMN_CPUS, field_string(instance, "cpus"));
        table_set(table, COLUMN_ONLINE, field_string(instance, "onlineCpus"));
        table_set(table, COLUMN_LEASED, field_string(instance, "leasedCpus"));
        table_set(table, COLUMN_SESSIONS, field_string(instance, "sessionCpus"));
        table_set_int(table, COLUMN_LEASES, field_int(instance, "leases", 0));
        table_set_size(table, COLUMN_CHARGE, field_unsigned(instance, "charge"));
        table_set(table, COLUMN_DRIVER, field_string(instance, "driver"));
        table_set(table, COLUMN_ASSIGNED, assigned);
        return SPEADM_DONE;
}

/* Sentences below the table: every problem, and why KVM cannot give an SPU to guests. */
static void print_remarks(const struct json_object *instances) {
        bool first = true;

        for (size_t i = 0; i < array_length(instances); i++) {
                const struct json_object *instance = json_object_array_get_idx(instances, i);
                const char *name = field_string(instance, "name"), *guest = field_string(instance, "guest");
                const char *remarks[] = {
                        field_string(instance, "problem"),
                        guest && strcmp(guest, "no") == 0 ? field_string(instance, "guestReason") : NULL,
                };

                for (size_t k = 0; k < ELEMENTS_OF(remarks); k++) {
                        if (!remarks[k])
                                continue;
                        printf("%s%s: %s\n", first ? "\n" : "", name ? name : "?", remarks[k]);
                        first = false;
                }
        }
}

int verb_list(Speadm *speadm) {
        bool legend = !arguments_has(&speadm->arguments, OPTION_NO_LEGEND);
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(table_freep) Table *table = NULL;
        struct json_object *instances;
        int r;

        r = call(speadm, BROKER "ListInstances", &reply);
        if (r != SPEADM_DONE)
                return r;
        instances = field_array(reply.parameters, "instances");
        if (arguments_has(&speadm->arguments, OPTION_JSON))
                return json_print(instances, "[]");
        if (array_length(instances) == 0) {
                if (legend)
                        puts("This host has no SPU: no PMU arm_spe_N is registered ('speadm check' says "
                             "why)");
                return SPEADM_DONE;
        }

        table = table_new(columns, ELEMENTS_OF(columns), legend);
        if (!table)
                return complain_memory();
        for (size_t i = 0; i < array_length(instances) && r == SPEADM_DONE; i++)
                r = add_instance(table, json_object_array_get_idx(instances, i));
        if (r == SPEADM_DONE)
                r = table_print(table);
        if (r == SPEADM_DONE && legend)
                print_remarks(instances);
        return r;
}
