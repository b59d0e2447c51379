/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Error replies in words. Written with the public accessors alone: a caller could say the same. Names in it
 * come from other tenants (a VM's name, a process's), and it will be printed on somebody's terminal, so
 * what a terminal obeys is taken out at the end.
 */

#include "libspebroker/sentence.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "varlink/utf8.h"

static const char *string_of(const struct spebroker_refusal *refusal, const char *field) {
        const char *value = spebroker_refusal_get_string(refusal, field);

        return value ? value : "?";
}

static int64_t integer_of(const struct spebroker_refusal *refusal, const char *field) {
        int64_t value = -1;

        (void)spebroker_refusal_get_integer(refusal, field, &value);
        return value;
}

static void say_instances(const struct spebroker_refusal *refusal, FILE *f) {
        const char *name, *cpus;

        if (!spebroker_refusal_get_instance_name(refusal, 0)) {
                fputs("; this host has none", f);
                return;
        }

        for (size_t i = 0; (name = spebroker_refusal_get_instance_name(refusal, i)); i++) {
                cpus = spebroker_refusal_get_instance_cpus(refusal, i);
                fprintf(f, "%s%s", i == 0 ? "; there is " : ", ", name);
                if (cpus)
                        fprintf(f, " with CPUs %s", cpus);
        }
}

static void say_no_such_instance(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "There is no instance %s", string_of(refusal, "instance"));
        say_instances(refusal, f);
        fputc('.', f);
}

static void say_instance_not_ready(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "%s cannot be leased now, it is %s: %s", string_of(refusal, "instance"),
                string_of(refusal, "state"), string_of(refusal, "reason"));
}

static void say_guest_unsupported(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "KVM cannot give %s to a guest: %s", string_of(refusal, "instance"),
                string_of(refusal, "reason"));
}

static void say_no_instance_for_cpus(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "No one instance has all of CPUs %s", string_of(refusal, "cpus"));
        say_instances(refusal, f);
        fputc('.', f);
}

static void say_not_assigned(const struct spebroker_refusal *refusal, FILE *f) {
        const char *cpus = string_of(refusal, "cpus"), *owner = string_of(refusal, "owner");
        const char *vm = spebroker_refusal_get_string(refusal, "assignedVm");

        if (vm)
                fprintf(f, "CPUs %s are assigned to %s, for VM %s.", cpus, owner, vm);
        else if (strcmp(owner, "guest") == 0 || strcmp(owner, "any") == 0)
                fprintf(f,
                        "An exclusive lease needs an administrator, or CPUs assigned to its VM; CPUs %s are "
                        "not.",
                        cpus);
        else if (strcmp(owner, "none") == 0)
                fprintf(f, "CPUs %s are drained: neither host nor guests may have them.", cpus);
        else
                fprintf(f, "CPUs %s are assigned to %s.", cpus, owner);
}

/* A session without a process is one that the kernel keeps others off for, and nobody could be seen to have.
 */
static void say_holder(const struct spebroker_holder *holder, FILE *f) {
        const char *kind = spebroker_holder_get_kind(holder), *vm = spebroker_holder_get_vm(holder);
        const char *command = spebroker_holder_get_command(holder);
        bool session = strcmp(kind, "session") == 0, seen = spebroker_holder_get_pid(holder) >= 0;

        fprintf(f, " a %s%s", session ? "host " : "", kind);
        if (vm)
                fprintf(f, " of VM %s", vm);
        if (command)
                fprintf(f, " of %s", command);
        if (seen)
                fprintf(f, " (pid %d)", (int)spebroker_holder_get_pid(holder));
        else if (session)
                fputs(" (whose, cannot be seen)", f);
        fprintf(f, " on CPUs %s", spebroker_holder_get_cpus(holder));
}

static void say_busy(const struct spebroker_refusal *refusal, FILE *f) {
        const struct spebroker_holder *holder;

        if (!spebroker_refusal_get_holder(refusal, 0)) {
                fputs("An earlier request waits for the same CPUs.", f);
                return;
        }

        fputs("In the way:", f);
        for (size_t i = 0; (holder = spebroker_refusal_get_holder(refusal, i)); i++) {
                if (i > 0)
                        fputc(',', f);
                say_holder(holder, f);
        }
        fputc('.', f);
}

static void say_limit_exceeded(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "The limit %s would be exceeded: %" PRId64 " asked for, %" PRId64 " left.",
                string_of(refusal, "limit"), integer_of(refusal, "requested"),
                integer_of(refusal, "available"));
}

static void say_not_representable(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "The hardware cannot represent a buffer of %" PRId64 " bytes; the nearest is %" PRId64 ".",
                integer_of(refusal, "requested"), integer_of(refusal, "nearest"));
}

static void say_no_such_lease(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "There is no lease %s (any more).", string_of(refusal, "leaseId"));
}

static void say_arbitration_unavailable(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "Host sessions cannot be kept off: %s", string_of(refusal, "reason"));
}

static void say_no_such_process(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "There is no process %" PRId64 ".", integer_of(refusal, "pid"));
}

static void say_invalid_parameter(const struct spebroker_refusal *refusal, FILE *f) {
        fprintf(f, "The broker does not accept this value of %s.", string_of(refusal, "parameter"));
}

static void say_permission_denied(_unused_ const struct spebroker_refusal *refusal, FILE *f) {
        fputs("The broker does not permit this to this user.", f);
}

static const struct {
        const char *name;
        void (*say)(const struct spebroker_refusal *refusal, FILE *f);
} sentences[] = {
        {"NoSuchInstance", say_no_such_instance},    {"InstanceNotReady", say_instance_not_ready},
        {"GuestUnsupported", say_guest_unsupported}, {"NoInstanceForCpus", say_no_instance_for_cpus},
        {"NotAssigned", say_not_assigned},           {"Busy", say_busy},
        {"LimitExceeded", say_limit_exceeded},       {"BufferSizeNotRepresentable", say_not_representable},
        {"NoSuchLease", say_no_such_lease},          {"ArbitrationUnavailable", say_arbitration_unavailable},
        {"NoSuchProcess", say_no_such_process},      {"InvalidParameter", say_invalid_parameter},
        {"PermissionDenied", say_permission_denied},
};

static void say(const struct spebroker_refusal *refusal, FILE *f) {
        for (size_t i = 0; i < ELEMENTS_OF(sentences); i++)
                if (strcmp(sentences[i].name, spebroker_refusal_get_name(refusal)) == 0) {
                        sentences[i].say(refusal, f);
                        return;
                }

        fprintf(f, "The broker answers %s.", spebroker_refusal_get_error(refusal));
}

void sentence_clean(char *text) {
        size_t left = strlen(text), n;
        char *end = text;
        unsigned code;

        for (; left > 0; text += n, left -= n) {
                n = utf8_unsafe(text, left, &code);
                *end++ = n > 0 ? '?' : *text;
                if (n == 0)
                        n = 1;
        }
        *end = '\0';
}

int sentence_new(const struct spebroker_refusal *refusal, char **ret_text) {
        _cleanup_(freep) char *text = NULL;
        int failed;
        size_t n;
        FILE *f;

        f = open_memstream(&text, &n);
        if (!f)
                return -errno;

        say(refusal, f);
        failed = ferror(f);
        if (fclose(f) != 0 || failed || !text)
                return -ENOMEM;

        sentence_clean(text);
        *ret_text = steal_ptr(text);
        return 0;
}
