/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A 'no', in both shapes that the wire has: an error reply, whose sentence is made here, and the Refusal of a
 * decision, which brings its own. Fields are looked up by name when asked for, so that an error of a newer
 * broker is as good as one that is known here.
 */

#include "libspebroker/refusal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "libspebroker/fields.h"
#include "libspebroker/sentence.h"

struct spebroker_holder {
        const char *kind;
        const char *lease_id;
        const char *vm;
        int64_t pid;
        int64_t uid;
        const char *command;
        const char *cpus;
};

struct spebroker_refusal {
        char *error;
        const char *name; /* its last component */
        char *message;
        bool is_error;              /* an error reply, not the Refusal of a decision */
        struct json_object *fields; /* owns every string of the holders */
        struct spebroker_holder *holders;
        size_t n_holders;
};

/* What is needed of a Refusal object. */
typedef struct RefusalMembers {
        const char *error;
        const char *message;
} RefusalMembers;

static const Field refusal_fields[] = {
        FIELD("error", FIELD_STRING, RefusalMembers, error),
        FIELD("message", FIELD_STRING, RefusalMembers, message),
};

static const Field holder_fields[] = {
        FIELD("kind", FIELD_STRING, struct spebroker_holder, kind),
        FIELD_OR_NULL("leaseId", FIELD_STRING, struct spebroker_holder, lease_id),
        FIELD_OR_NULL("vm", FIELD_STRING, struct spebroker_holder, vm),
        FIELD_RANGE_OR_NULL("pid", struct spebroker_holder, pid, 0, INT_MAX),
        FIELD_RANGE_OR_NULL("uid", struct spebroker_holder, uid, 0, UINT32_MAX),
        FIELD_OR_NULL("command", FIELD_STRING, struct spebroker_holder, command),
        FIELD("cpus", FIELD_STRING, struct spebroker_holder, cpus),
};

static struct json_object *refusal_get_array(const struct spebroker_refusal *refusal, const char *field) {
        struct json_object *array = json_object_object_get(refusal->fields, field);

        return json_object_is_type(array, json_type_array) ? array : NULL;
}

static int refusal_read_holders(struct spebroker_refusal *refusal) {
        struct json_object *array = refusal_get_array(refusal, "holders");
        size_t n = array ? json_object_array_length(array) : 0;
        int r;

        if (n == 0)
                return 0;

        refusal->holders = calloc(n, sizeof(*refusal->holders));
        if (!refusal->holders)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                r = fields_read(json_object_array_get_idx(array, i), holder_fields,
                                ELEMENTS_OF(holder_fields), &refusal->holders[i]);
                if (r < 0)
                        return r;
        }

        refusal->n_holders = n;
        return 0;
}

static int refusal_new(const char *error, struct json_object *fields, bool is_error,
                       struct spebroker_refusal **ret_refusal) {
        _cleanup_(refusal_freep) struct spebroker_refusal *refusal = NULL;
        const char *dot;
        int r;

        refusal = calloc(1, sizeof(*refusal));
        if (!refusal)
                return -ENOMEM;

        refusal->is_error = is_error;
        refusal->fields = json_object_get(fields);
        refusal->error = strdup(error);
        if (!refusal->error)
                return -ENOMEM;

        dot = strrchr(refusal->error, '.');
        refusal->name = dot ? dot + 1 : refusal->error;

        r = refusal_read_holders(refusal);
        if (r < 0)
                return r;

        *ret_refusal = steal_ptr(refusal);
        return 0;
}

int refusal_new_error(const char *error, struct json_object *parameters,
                      struct spebroker_refusal **ret_refusal) {
        _cleanup_(refusal_freep) struct spebroker_refusal *refusal = NULL;
        int r;

        r = refusal_new(error, parameters, true, &refusal);
        if (r < 0)
                return r;

        r = sentence_new(refusal, &refusal->message);
        if (r < 0)
                return r;

        *ret_refusal = steal_ptr(refusal);
        return 0;
}

int refusal_new_object(struct json_object *object, struct spebroker_refusal **ret_refusal) {
        RefusalMembers members;
        _cleanup_(refusal_freep) struct spebroker_refusal *refusal = NULL;
        int r;

        r = fields_read(object, refusal_fields, ELEMENTS_OF(refusal_fields), &members);
        if (r < 0)
                return r;

        r = refusal_new(members.error, object, false, &refusal);
        if (r < 0)
                return r;

        refusal->message = strdup(members.message);
        if (!refusal->message)
                return -ENOMEM;
        sentence_clean(refusal->message);

        *ret_refusal = steal_ptr(refusal);
        return 0;
}

struct spebroker_refusal *refusal_free(struct spebroker_refusal *refusal) {
        if (!refusal)
                return NULL;

        json_object_put(refusal->fields);
        free(refusal->error);
        free(refusal->message);
        free(refusal->holders);
        free(refusal);
        return NULL;
}

const char *spebroker_refusal_get_name(const struct spebroker_refusal *refusal) {
        return refusal->name;
}

const char *spebroker_refusal_get_error(const struct spebroker_refusal *refusal) {
        return refusal->error;
}

const char *spebroker_refusal_get_message(const struct spebroker_refusal *refusal) {
        return refusal->message;
}

/* The one name that differs: in a Refusal, "vm" is who was refused. */
static const char *wire_name(const struct spebroker_refusal *refusal, const char *field) {
        return refusal->is_error && strcmp(field, "assignedVm") == 0 ? "vm" : field;
}

const char *spebroker_refusal_get_string(const struct spebroker_refusal *refusal, const char *field) {
        struct json_object *value = json_object_object_get(refusal->fields, wire_name(refusal, field));

        return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

bool spebroker_refusal_get_integer(const struct spebroker_refusal *refusal, const char *field,
                                   int64_t *ret_value) {
        struct json_object *value = json_object_object_get(refusal->fields, field);

        if (!json_object_is_type(value, json_type_int))
                return false;

        *ret_value = json_object_get_int64(value);
        return true;
}

/* Either a name, or an object with "name" and "cpus". */
static struct json_object *refusal_get_instance(const struct spebroker_refusal *refusal, size_t index) {
        struct json_object *array = refusal_get_array(refusal, "instances");

        return array ? json_object_array_get_idx(array, index) : NULL;
}

static const char *object_get_string(struct json_object *object, const char *field) {
        struct json_object *value;

        if (!json_object_is_type(object, json_type_object))
                return NULL;

        value = json_object_object_get(object, field);
        return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

const char *spebroker_refusal_get_instance_name(const struct spebroker_refusal *refusal, size_t index) {
        struct json_object *instance = refusal_get_instance(refusal, index);

        if (json_object_is_type(instance, json_type_string))
                return json_object_get_string(instance);

        return object_get_string(instance, "name");
}

const char *spebroker_refusal_get_instance_cpus(const struct spebroker_refusal *refusal, size_t index) {
        return object_get_string(refusal_get_instance(refusal, index), "cpus");
}

const struct spebroker_holder *spebroker_refusal_get_holder(const struct spebroker_refusal *refusal,
                                                            size_t index) {
        return index < refusal->n_holders ? &refusal->holders[index] : NULL;
}

const char *spebroker_holder_get_kind(const struct spebroker_holder *holder) {
        return holder->kind;
}

const char *spebroker_holder_get_lease_id(const struct spebroker_holder *holder) {
        return holder->lease_id;
}

const char *spebroker_holder_get_vm(const struct spebroker_holder *holder) {
        return holder->vm;
}

pid_t spebroker_holder_get_pid(const struct spebroker_holder *holder) {
        return (pid_t)holder->pid;
}

int64_t spebroker_holder_get_uid(const struct spebroker_holder *holder) {
        return holder->uid;
}

const char *spebroker_holder_get_command(const struct spebroker_holder *holder) {
        return holder->command;
}

const char *spebroker_holder_get_cpus(const struct spebroker_holder *holder) {
        return holder->cpus;
}
