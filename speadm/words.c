/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The broker's objects in words. Strings are clean already (call.h). */

#include <inttypes.h>
#include <string.h>

#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/words.h"
#include "util/cpuset.h"

#define TEXT_STATE_MAX 64U

int words_level_rank(const char *level) {
        static const char *const levels[] = {"none", "observe", "reserve", "enforce"};

        for (size_t i = 0; level && i < ELEMENTS_OF(levels); i++)
                if (strcmp(levels[i], level) == 0)
                        return (int)i;
        return -1;
}

void words_holder(FILE *file, const struct json_object *holder) {
        const char *kind = field_string(holder, "kind"), *lease_id = field_string(holder, "leaseId");
        const char *vm = field_string(holder, "vm"), *command = field_string(holder, "command");
        const char *cpus = field_string(holder, "cpus");
        int64_t pid = field_int(holder, "pid", 0);

        fputs(kind ? kind : "somebody", file);
        if (lease_id)
                fprintf(file, " %.*s", LEASE_ID_SHOWN, lease_id);
        if (vm)
                fprintf(file, " of VM %s", vm);
        if (pid > 0 && command)
                fprintf(file, " (pid %" PRId64 ", %s)", pid, command);
        else if (pid > 0)
                fprintf(file, " (pid %" PRId64 ")", pid);
        else if (kind && strcmp(kind, "session") == 0)
                fputs(" (whose, cannot be seen)", file);
        if (cpus)
                fprintf(file, " on CPUs %s", cpus);
}

static void set_int_or_none(Table *table, size_t column, const struct json_object *object, const char *key) {
        if (field_has_int(object, key))
                table_set_int(table, column, field_int(object, key, 0));
        else
                table_set(table, column, NULL);
}

enum {
        COLUMN_LEASE,
        COLUMN_VM,
        COLUMN_INSTANCE,
        COLUMN_CPUS,
        COLUMN_VCPUS,
        COLUMN_BUFFER,
        COLUMN_CHARGE,
        COLUMN_MODE,
        COLUMN_STATE,
        COLUMN_LEFT,
        COLUMN_PID,
        COLUMN_COMMAND,
};

static const TableColumn lease_columns[] = {
        [COLUMN_LEASE] = {"LEASE", TABLE_LEFT},       [COLUMN_VM] = {"VM", TABLE_TRUNC},
        [COLUMN_INSTANCE] = {"INSTANCE", TABLE_LEFT}, [COLUMN_CPUS] = {"CPUS", TABLE_TRUNC},
        [COLUMN_VCPUS] = {"VCPUS", TABLE_RIGHT},      [COLUMN_BUFFER] = {"BUFFER", TABLE_RIGHT},
        [COLUMN_CHARGE] = {"CHARGE", TABLE_RIGHT},    [COLUMN_MODE] = {"MODE", TABLE_LEFT},
        [COLUMN_STATE] = {"STATE", TABLE_LEFT},       [COLUMN_LEFT] = {"LEFT", TABLE_RIGHT},
        [COLUMN_PID] = {"PID", TABLE_RIGHT},          [COLUMN_COMMAND] = {"COMMAND", TABLE_TRUNC},
};

/* Its state, and what the operator may have to do about it. */
static const char *lease_state(const struct json_object *lease, char text[static TEXT_STATE_MAX]) {
        const char *state = field_string(lease, "state"), *more = "", *contended, *misplaced;

        if (!state)
                return NULL;
        if (field_bool(lease, "restartRequired"))
                more = ", restart";
        else if (strcmp(state, "granted") == 0 && !field_has_int(lease, "pmuType"))
                more = ", away";
        contended = field_bool(lease, "contended") ? ", contended" : "";
        misplaced = field_bool(lease, "misplaced") ? ", misplaced" : "";

        (void)snprintf(text, TEXT_STATE_MAX, "%s%s%s%s", state, more, contended, misplaced);
        return text;
}

static void add_lease(Table *table, const struct json_object *lease) {
        const struct json_object *owner = field_object(lease, "owner");
        const char *id = field_string(lease, "leaseId");
        char shown[LEASE_ID_SHOWN + 1], left[TEXT_TIME_MAX], state[TEXT_STATE_MAX];

        (void)snprintf(shown, sizeof shown, "%s", id ? id : "");
        table_add_row(table);
        table_set(table, COLUMN_LEASE, shown);
        table_set(table, COLUMN_VM, field_string(lease, "vm"));
        table_set(table, COLUMN_INSTANCE, field_string(lease, "instance"));
        table_set(table, COLUMN_CPUS, field_string(lease, "cpus"));
        table_set_int(table, COLUMN_VCPUS, field_int(lease, "vcpus", 0));
        table_set_size(table, COLUMN_BUFFER, field_unsigned(lease, "bufferSize"));
        table_set_size(table, COLUMN_CHARGE, field_unsigned(lease, "charge"));
        table_set(table, COLUMN_MODE, field_string(lease, "mode"));
        table_set(table, COLUMN_STATE, lease_state(lease, state));
        table_set(table, COLUMN_LEFT,
                  field_has_int(lease, "remainingUSec")
                          ? text_duration(field_unsigned(lease, "remainingUSec"), left)
                          : NULL);
        set_int_or_none(table, COLUMN_PID, owner, "pid");
        /* A control group has no one command. */
        table_set(table, COLUMN_COMMAND, field_string(owner, "command") ?: field_string(owner, "cgroup"));
}

/* Sentences below the table: why they are as they are. */
static void print_reasons(const struct json_object *leases) {
        bool first = true;

        for (size_t i = 0; i < array_length(leases); i++) {
                const struct json_object *lease = json_object_array_get_idx(leases, i);
                const char *id = field_string(lease, "leaseId"), *reason = field_string(lease, "reason");

                if (!reason)
                        continue;
                printf("%s%.*s: %s\n", first ? "\n" : "", LEASE_ID_SHOWN, id ? id : "?", reason);
                first = false;
        }
}

int words_lease_table(const Speadm *speadm, const struct json_object *leases) {
        bool legend = !arguments_has(&speadm->arguments, OPTION_NO_LEGEND);
        _cleanup_(table_freep) Table *table = table_new(lease_columns, ELEMENTS_OF(lease_columns), legend);
        int r;

        if (!table)
                return complain_memory();
        for (size_t i = 0; i < array_length(leases); i++)
                add_lease(table, json_object_array_get_idx(leases, i));
        r = table_print(table);
        if (r == SPEADM_DONE && legend)
                print_reasons(leases);
        return r;
}

enum {
        SESSION_KIND,
        SESSION_INSTANCE,
        SESSION_CPU,
        SESSION_TASK,
        SESSION_CPUS,
        SESSION_SINCE,
        SESSION_CONTENDED,
        SESSION_PID,
        SESSION_UID,
        SESSION_COMMAND,
};

static const TableColumn session_columns[] = {
        [SESSION_KIND] = {"KIND", TABLE_LEFT},
        [SESSION_INSTANCE] = {"INSTANCE", TABLE_LEFT},
        [SESSION_CPU] = {"CPU", TABLE_RIGHT},
        [SESSION_TASK] = {"TASK", TABLE_RIGHT},
        [SESSION_CPUS] = {"CPUS", TABLE_TRUNC},
        [SESSION_SINCE] = {"SINCE", TABLE_LEFT},
        [SESSION_CONTENDED] = {"CONTENDED", TABLE_LEFT},
        [SESSION_PID] = {"PID", TABLE_RIGHT},
        [SESSION_UID] = {"UID", TABLE_RIGHT},
        [SESSION_COMMAND] = {"COMMAND", TABLE_TRUNC},
};

static void add_session(Table *table, const struct json_object *session) {
        char since[TEXT_TIME_MAX];

        table_add_row(table);
        table_set(table, SESSION_KIND, field_string(session, "kind"));
        table_set(table, SESSION_INSTANCE, field_string(session, "instance"));
        set_int_or_none(table, SESSION_CPU, session, "cpu");
        set_int_or_none(table, SESSION_TASK, session, "task");
        table_set(table, SESSION_CPUS, field_string(session, "cpus"));
        table_set(table, SESSION_SINCE,
                  field_has_int(session, "sinceUSec") ? text_time(field_int(session, "sinceUSec", 0), since)
                                                      : NULL);
        table_set(table, SESSION_CONTENDED, field_bool(session, "contended") ? "yes" : "no");
        set_int_or_none(table, SESSION_PID, session, "pid");
        set_int_or_none(table, SESSION_UID, session, "uid");
        table_set(table, SESSION_COMMAND, field_string(session, "command"));
}

int words_session_table(const Speadm *speadm, const struct json_object *sessions) {
        bool legend = !arguments_has(&speadm->arguments, OPTION_NO_LEGEND);
        _cleanup_(table_freep) Table *table =
                table_new(session_columns, ELEMENTS_OF(session_columns), legend);

        if (!table)
                return complain_memory();
        for (size_t i = 0; i < array_length(sessions); i++)
                add_session(table, json_object_array_get_idx(sessions, i));
        return table_print(table);
}

static unsigned first_cpu(const struct json_object *assignment) {
        const char *cpus = field_string(assignment, "cpus");
        CpuSet set;

        return cpus && cpuset_parse(cpus, strlen(cpus), &set) == 0 ? cpuset_next(&set, 0) : CPUSET_MAX;
}

static int compare_assignments(const void *a, const void *b) {
        unsigned first = first_cpu(*(struct json_object *const *)a),
                 second = first_cpu(*(struct json_object *const *)b);

        return (first > second) - (first < second);
}

char *words_assignments(const struct json_object *instance) {
        struct json_object *assignments = field_array(instance, "assignments");
        const char *all = field_string(instance, "cpus");
        char *text = NULL;
        size_t size = 0;
        FILE *file;

        file = open_memstream(&text, &size);
        if (!file)
                return NULL;
        if (assignments)
                json_object_array_sort(assignments, compare_assignments);
        for (size_t i = 0; i < array_length(assignments); i++) {
                const struct json_object *assignment = json_object_array_get_idx(assignments, i);
                const char *cpus = field_string(assignment, "cpus"),
                           *owner = field_string(assignment, "owner");
                const char *vm = field_string(assignment, "vm"), *state = field_string(assignment, "state");

                if (i > 0)
                        fputs(" ", file);
                if (cpus && all && strcmp(cpus, all) != 0)
                        fprintf(file, "%s:", cpus);
                fputs(owner ? owner : "?", file);
                if (vm)
                        fprintf(file, ":%s", vm);
                if (state && strcmp(state, "active") != 0)
                        fprintf(file, "(%s)", state);
        }
        if (fclose(file) != 0) {
                free(text);
                return NULL;
        }
        return text;
}
