/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Refusals as JSON: as an object with every field, and as the error of the interface with its own fields
 * only.
 */

#include <stdio.h>

#include "broker/encode.h"

#define ERROR_NAME_MAX 64U

static const char *error_name(const Refusal *refusal, char name[static ERROR_NAME_MAX]) {
        snprintf(name, ERROR_NAME_MAX, BROKER_ERROR_PREFIX "%s", refusal_get_error(refusal));
        return name;
}

static void encode_instance_cpus(JsonWriter *w, const Refusal *refusal) {
        json_write_array_begin(w, "instances");
        for (size_t i = 0; i < refusal->n_instances; i++) {
                json_write_object_begin(w, NULL);
                json_write_string(w, "name", refusal->instances[i].name);
                json_write_string(w, "cpus", refusal->instances[i].cpus);
                json_write_object_end(w);
        }
        json_write_array_end(w);
}

static void encode_holders(JsonWriter *w, const Refusal *refusal) {
        json_write_array_begin(w, "holders");
        for (size_t i = 0; i < refusal->n_holders; i++) {
                const RefusalHolder *holder = &refusal->holders[i];

                json_write_object_begin(w, NULL);
                json_write_string(w, "kind", holder->session ? "session" : "lease");
                json_write_string(w, "leaseId", holder->session ? NULL : holder->lease_id);
                json_write_string(w, "vm", holder->vm);
                encode_int_or_null(w, "pid", holder->pid > 0, (uint64_t)holder->pid);
                encode_int_or_null(w, "uid", holder->pid > 0 || !holder->session, holder->uid);
                json_write_string(w, "command", holder->command && *holder->command ? holder->command : NULL);
                json_write_string(w, "cpus", holder->cpus);
                json_write_object_end(w);
        }
        json_write_array_end(w);
}

void encode_refusal(JsonWriter *w, const char *key, const Refusal *refusal) {
        bool limit = refusal->kind == REFUSAL_LIMIT_EXCEEDED;
        bool size = refusal->kind == REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE;
        unsigned times = refusal->open.times + refusal->attribute.times;
        _cleanup_(freep) char *counted = NULL;
        char name[ERROR_NAME_MAX];

        if (times > 1 && asprintf(&counted, "%s (%u times)", refusal->message, times) < 0)
                counted = NULL;

        json_write_object_begin(w, key);
        json_write_string(w, "id", refusal->id);
        json_write_string(w, "error", error_name(refusal, name));
        json_write_string(w, "message", counted ?: refusal->message);
        json_write_int(w, "whenUSec", (int64_t)refusal->when_usec);
        json_write_string(w, "vm", refusal->vm);
        encode_int_or_null(w, "pid", refusal->pid > 0, (uint64_t)refusal->pid);
        json_write_int(w, "uid", refusal->uid);
        json_write_string(w, "instance", refusal->instance);
        if (refusal->instances)
                encode_instance_cpus(w, refusal);
        else
                json_write_null(w, "instances");
        json_write_string(w, "state", refusal->state);
        json_write_string(w, "reason", refusal->reason);
        json_write_string(w, "cpus", refusal->cpus);
        json_write_string(w, "owner", refusal->owner);
        json_write_string(w, "assignedVm", refusal->assigned_vm);
        json_write_string(w, "limit", refusal->limit);
        encode_int_or_null(w, "requested", limit || size, refusal->requested);
        encode_int_or_null(w, "available", limit, refusal->available);
        encode_int_or_null(w, "nearest", size, refusal->nearest);
        if (refusal->kind == REFUSAL_BUSY)
                encode_holders(w, refusal);
        else
                json_write_null(w, "holders");
        json_write_string(w, "allowed", refusal->allowed);
        json_write_object_end(w);
}

static void encode_error_fields(JsonWriter *w, const Refusal *refusal) {
        switch (refusal->kind) {
        case REFUSAL_NO_SUCH_INSTANCE:
                json_write_string(w, "instance", refusal->instance);
                json_write_array_begin(w, "instances");
                for (size_t i = 0; i < refusal->n_instances; i++)
                        json_write_string(w, NULL, refusal->instances[i].name);
                json_write_array_end(w);
                break;
        case REFUSAL_INSTANCE_NOT_READY:
                json_write_string(w, "instance", refusal->instance);
                json_write_string(w, "state", refusal->state);
                json_write_string(w, "reason", refusal->reason);
                break;
        case REFUSAL_GUEST_UNSUPPORTED:
                json_write_string(w, "instance", refusal->instance);
                json_write_string(w, "reason", refusal->reason);
                break;
        case REFUSAL_NO_INSTANCE_FOR_CPUS:
                json_write_string(w, "cpus", refusal->cpus);
                encode_instance_cpus(w, refusal);
                break;
        case REFUSAL_NOT_ASSIGNED:
                json_write_string(w, "cpus", refusal->cpus);
                json_write_string(w, "owner", refusal->owner);
                json_write_string(w, "vm", refusal->assigned_vm);
                break;
        case REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE:
                json_write_int(w, "requested", (int64_t)refusal->requested);
                json_write_int(w, "nearest", (int64_t)refusal->nearest);
                break;
        case REFUSAL_LIMIT_EXCEEDED:
                json_write_string(w, "limit", refusal->limit);
                json_write_int(w, "requested", (int64_t)refusal->requested);
                json_write_int(w, "available", (int64_t)refusal->available);
                break;
        case REFUSAL_ARBITRATION_UNAVAILABLE:
                json_write_string(w, "reason", refusal->reason);
                break;
        case REFUSAL_BUSY:
                encode_holders(w, refusal);
                break;
        case _REFUSAL_MAX:
                break;
        }
}

void encode_refusal_error(VarlinkCall *call, const Refusal *refusal) {
        char name[ERROR_NAME_MAX];

        encode_error_fields(varlink_call_error(call, error_name(refusal, name)), refusal);
        varlink_call_send(call);
}

void encode_none_left(VarlinkCall *call, const char *limit) {
        JsonWriter *w = varlink_call_error(call, BROKER_ERROR_PREFIX "LimitExceeded");

        json_write_string(w, "limit", limit);
        json_write_int(w, "requested", 1);
        json_write_int(w, "available", 0);
        varlink_call_send(call);
}

void encode_no_such_lease(VarlinkCall *call, const char *id) {
        json_write_string(varlink_call_error(call, BROKER_ERROR_PREFIX "NoSuchLease"), "leaseId", id);
        varlink_call_send(call);
}
