/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of the broker's errors. The wire carries fields, not sentences, so the sentences are made here:
 * what, why, and what to do about it. An error that this version does not know is told by its name.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "speadm/call.h"
#include "speadm/failure.h"
#include "speadm/field.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/words.h"
#include "util/cleanup.h"

typedef void (*SentenceFn)(FILE *file, const Speadm *speadm, const struct json_object *fields);

static const char *word(const struct json_object *fields, const char *key) {
        const char *text = field_string(fields, key);

        return text && *text ? text : "?";
}

static void tell_no_such_instance(FILE *file, _unused_ const Speadm *speadm,
                                  const struct json_object *fields) {
        const struct json_object *instances = field_array(fields, "instances");

        if (array_length(instances) == 0) {
                fputs("this host has no SPU (see 'speadm check')", file);
                return;
        }
        fprintf(file, "there is no SPU %s: this host has ", word(fields, "instance"));
        for (size_t i = 0; i < array_length(instances); i++)
                fprintf(file, "%s%s", i > 0 ? ", " : "",
                        json_object_get_string(json_object_array_get_idx(instances, i)));
}

static void tell_not_ready(FILE *file, _unused_ const Speadm *speadm, const struct json_object *fields) {
        fprintf(file, "%s cannot be leased now, it is %s: %s (see 'speadm check')", word(fields, "instance"),
                word(fields, "state"), word(fields, "reason"));
}

static void tell_guest_unsupported(FILE *file, _unused_ const Speadm *speadm,
                                   const struct json_object *fields) {
        fprintf(file, "KVM cannot give %s to a guest: %s (see 'speadm check')", word(fields, "instance"),
                word(fields, "reason"));
}

static void tell_no_instance_for_cpus(FILE *file, _unused_ const Speadm *speadm,
                                      const struct json_object *fields) {
        const struct json_object *instances = field_array(fields, "instances");

        if (array_length(instances) == 0) {
                fputs("this host has no SPU (see 'speadm check')", file);
                return;
        }
        fprintf(file, "no one SPU has CPUs %s on line: ", word(fields, "cpus"));
        for (size_t i = 0; i < array_length(instances); i++) {
                const struct json_object *instance = json_object_array_get_idx(instances, i);

                fprintf(file, "%s%s has %s", i > 0 ? ", " : "", word(instance, "name"),
                        word(instance, "cpus"));
        }
}

static void tell_not_assigned(FILE *file, _unused_ const Speadm *speadm, const struct json_object *fields) {
        const char *owner = word(fields, "owner"), *vm = field_string(fields, "vm");

        if (strcmp(owner, "none") == 0)
                fprintf(file, "CPUs %s are drained: neither host nor guests may have them",
                        word(fields, "cpus"));
        else if (strcmp(owner, "host") == 0)
                fprintf(file, "CPUs %s are assigned to the host", word(fields, "cpus"));
        else if (vm)
                fprintf(file, "CPUs %s are assigned to VM %s alone", word(fields, "cpus"), vm);
        else
                fprintf(file,
                        "an exclusive lease takes root, AdminGroup, or CPUs assigned to its VM: CPUs %s are "
                        "not",
                        word(fields, "cpus"));
        fputs(" (see 'speadm list', 'speadm assign')", file);
}

static void tell_busy(FILE *file, _unused_ const Speadm *speadm, const struct json_object *fields) {
        const struct json_object *holders = field_array(fields, "holders");

        if (array_length(holders) == 0) {
                fputs("busy: an earlier request waits for these CPUs", file);
                return;
        }
        fputs("busy: ", file);
        for (size_t i = 0; i < array_length(holders); i++) {
                if (i > 0)
                        fputs("; ", file);
                words_holder(file, json_object_array_get_idx(holders, i));
        }
}

/* Limits on numbers rather than bytes are the few that count leases. */
static bool limit_counts_leases(const char *limit) {
        return strcmp(limit, "MaxLeases") == 0 || strcmp(limit, "MaxLeasesPerUser") == 0;
}

static void tell_limit_exceeded(FILE *file, _unused_ const Speadm *speadm, const struct json_object *fields) {
        uint64_t requested = field_unsigned(fields, "requested"),
                 available = field_unsigned(fields, "available");
        const char *limit = word(fields, "limit");
        char asked[TEXT_SIZE_MAX], left[TEXT_SIZE_MAX];

        if (limit_counts_leases(limit))
                fprintf(file, "%s is reached: %" PRIu64 " asked for, %" PRIu64 " left", limit, requested,
                        available);
        else
                fprintf(file, "%s would be exceeded: %s asked for, %s left", limit,
                        text_size(requested, asked), text_size(available, left));
}

static void tell_not_representable(FILE *file, _unused_ const Speadm *speadm,
                                   const struct json_object *fields) {
        fprintf(file,
                "the hardware cannot represent a buffer limit of %" PRIu64 " bytes; the nearest is %" PRIu64,
                field_unsigned(fields, "requested"), field_unsigned(fields, "nearest"));
}

static void tell_no_such_lease(FILE *file, _unused_ const Speadm *speadm, const struct json_object *fields) {
        fprintf(file, "there is no lease %s (any more); see 'speadm leases'", word(fields, "leaseId"));
}

static void tell_no_arbitration(FILE *file, const Speadm *speadm, const struct json_object *fields) {
        fprintf(file, "host sessions cannot be %s: %s",
                strcmp(speadm->method, BROKER "ListSessions") == 0 ? "seen" : "kept off",
                word(fields, "reason"));
}

static void tell_no_such_process(FILE *file, _unused_ const Speadm *speadm,
                                 const struct json_object *fields) {
        fprintf(file, "there is no process %" PRId64, field_int(fields, "pid", 0));
}

static void tell_invalid_configuration(FILE *file, _unused_ const Speadm *speadm,
                                       const struct json_object *fields) {
        int64_t line = field_int(fields, "line", 0);

        fputs(word(fields, "file"), file);
        if (line > 0)
                fprintf(file, ":%" PRId64, line);
        fprintf(file, ": %s; the running configuration stays in force", word(fields, "message"));
}

static void tell_invalid_parameter(FILE *file, const Speadm *speadm, const struct json_object *fields) {
        const char *parameter = word(fields, "parameter");
        const char *option = arguments_option_of_parameter(parameter);

        if (strcmp(parameter, "vm") == 0 && !speadm->arguments.vm)
                fputs("the VM's name cannot be derived from its process: give --vm NAME", file);
        else if (strcmp(parameter, "cpus") == 0 && speadm->arguments.cpus)
                fprintf(file, "--cpus %s: not all of them are CPUs of %s; see 'speadm list'",
                        speadm->arguments.cpus, speadm->arguments.instance ?: "this host's SPUs");
        else if (option)
                fprintf(file, "the broker does not accept this --%s: see io.spebroker.Broker(7)", option);
        else
                fprintf(file, "the broker does not accept the parameter '%s' of %s", parameter,
                        speadm->method);
}

static void tell_permission_denied(FILE *file, const Speadm *speadm,
                                   _unused_ const struct json_object *fields) {
        if (strncmp(speadm->method, ADMIN, strlen(ADMIN)) == 0)
                fputs("permission denied: this takes root or a member of AdminGroup", file);
        else if (strcmp(speadm->method, BROKER "Release") == 0)
                fputs("permission denied: this takes the lease's owner, root or a member of AdminGroup",
                      file);
        else if (strcmp(speadm->method, BROKER "Query") == 0 || strcmp(speadm->method, BROKER "Acquire") == 0)
                fputs("permission denied: this takes root or a member of AcquireGroup, and OrchestratorGroup "
                      "for"
                      " processes of other users",
                      file);
        else
                fputs("permission denied: this takes root or a member of ReadGroup", file);
        fputs(" (see spe-broker.conf(5))", file);
}

static void tell_not_known(FILE *file, const Speadm *speadm, _unused_ const struct json_object *fields) {
        fprintf(file, "this broker does not know %s: it is of another version than speadm", speadm->method);
}

/* Nothing that the request could help: no space, a file system that is read-only. */
static void tell_system(FILE *file, const Speadm *speadm, const struct json_object *fields) {
        fprintf(file,
                "%s failed at the broker's side: %s; its journal may say more (journalctl -u spe-broker)",
                speadm->method, strerror((int)field_int(fields, "errno", EIO)));
}

static const struct Failure {
        const char *name; /* without the interface, which Broker and Admin share */
        int exit_status;
        SentenceFn sentence;
} failures[] = {
        {"NoSuchInstance", SPEADM_FAILED, tell_no_such_instance},
        {"InstanceNotReady", SPEADM_HOST_CANNOT, tell_not_ready},
        {"GuestUnsupported", SPEADM_HOST_CANNOT, tell_guest_unsupported},
        {"NoInstanceForCpus", SPEADM_FAILED, tell_no_instance_for_cpus},
        {"NotAssigned", SPEADM_REFUSED, tell_not_assigned},
        {"Busy", SPEADM_REFUSED, tell_busy},
        {"LimitExceeded", SPEADM_REFUSED, tell_limit_exceeded},
        {"BufferSizeNotRepresentable", SPEADM_REFUSED, tell_not_representable},
        {"NoSuchLease", SPEADM_FAILED, tell_no_such_lease},
        {"ArbitrationUnavailable", SPEADM_HOST_CANNOT, tell_no_arbitration},
        {"NoSuchProcess", SPEADM_FAILED, tell_no_such_process},
        {"InvalidConfiguration", SPEADM_FAILED, tell_invalid_configuration},
        {"InvalidParameter", SPEADM_USAGE, tell_invalid_parameter},
        {"PermissionDenied", SPEADM_REFUSED, tell_permission_denied},
        {"System", SPEADM_FAILED, tell_system},
        {"MethodNotFound", SPEADM_FAILED, tell_not_known},
        {"InterfaceNotFound", SPEADM_FAILED, tell_not_known},
};

const char *failure_short_name(const char *error) {
        const char *dot = strrchr(error, '.');

        return dot ? dot + 1 : error;
}

static const struct Failure *failure_find(const char *error) {
        const char *name = failure_short_name(error);

        for (size_t i = 0; i < ELEMENTS_OF(failures); i++)
                if (strcmp(failures[i].name, name) == 0)
                        return &failures[i];
        return NULL;
}

int failure_exit_status(const char *error, const struct json_object *fields) {
        const struct Failure *failure = failure_find(error);

        if (!failure)
                return SPEADM_FAILED;
        /* Without any SPU, no request could have named a better one. */
        if ((failure->sentence == tell_no_such_instance || failure->sentence == tell_no_instance_for_cpus) &&
            array_length(field_array(fields, "instances")) == 0)
                return SPEADM_HOST_CANNOT;
        return failure->exit_status;
}

/* The name is what a stranger's program said: shown only if it looks like one. */
static int complain_unknown(const Speadm *speadm, const char *name) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

        if (strspn(name, letters) != strlen(name))
                name = "an error of no proper name";
        complain("%s failed: the broker answers %s", speadm->method, name);
        return SPEADM_FAILED;
}

int failure_tell(const Speadm *speadm, const char *error, struct json_object *parameters) {
        const struct Failure *failure = failure_find(error);
        _cleanup_(freep) char *sentence = NULL;
        size_t size = 0;
        FILE *file;

        if (!failure)
                return complain_unknown(speadm, failure_short_name(error));
        file = open_memstream(&sentence, &size);
        if (!file)
                return complain_memory();
        failure->sentence(file, speadm, parameters);
        if (fclose(file) != 0)
                return complain_memory();
        complain("%s", sentence);
        return failure_exit_status(error, parameters);
}
