/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Events of the broker's, a line each. */

#include "speadm/event.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "speadm/failure.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/text.h"
#include "speadm/words.h"

static const char *or_question_mark(const char *text) {
        return text && *text ? text : "?";
}

static void print_time(void) {
        char now[TEXT_TIME_MAX];

        printf("%s ", text_time((int64_t)time(NULL) * 1000000, now));
}

void event_print_lease(const char *change, const struct json_object *lease) {
        const char *reason = field_string(lease, "reason"), *instance = field_string(lease, "instance");
        char size[TEXT_SIZE_MAX], left[TEXT_TIME_MAX];

        print_time();
        printf("lease %.*s of VM %s: %s", LEASE_ID_SHOWN, or_question_mark(field_string(lease, "leaseId")),
               or_question_mark(field_string(lease, "vm")), change);
        if (instance && *instance)
                printf(", %s CPUs %s, %" PRIu64 " x %s, mode %s", instance,
                       or_question_mark(field_string(lease, "cpus")), field_unsigned(lease, "vcpus"),
                       text_size(field_unsigned(lease, "bufferSize"), size),
                       or_question_mark(field_string(lease, "mode")));
        if (field_has_int(lease, "remainingUSec"))
                printf(", %s left", text_duration(field_unsigned(lease, "remainingUSec"), left));
        if (reason)
                printf(" (%s)", reason);
        putchar('\n');
}

void event_print_instance(const struct json_object *instance) {
        const char *problem = field_string(instance, "problem"),
                   *online = field_string(instance, "onlineCpus");
        _cleanup_(freep) char *assigned = words_assignments(instance);
        char charge[TEXT_SIZE_MAX];

        print_time();
        printf("%s: %s, %s%s on line, leases: %" PRIu64 ", %s charged",
               or_question_mark(field_string(instance, "name")),
               or_question_mark(field_string(instance, "state")), online && *online ? "CPUs " : "no CPU",
               online ? online : "", field_unsigned(instance, "leases"),
               text_size(field_unsigned(instance, "charge"), charge));
        if (assigned && *assigned)
                printf(", assigned %s", assigned);
        if (problem)
                printf(" (%s)", problem);
        putchar('\n');
}

void event_print_session(const char *change, const struct json_object *session) {
        const char *cpus = field_string(session, "cpus");

        print_time();
        printf("session of %s (pid %" PRId64 "): %s, %s %s%s, kind %s",
               or_question_mark(field_string(session, "command")), field_int(session, "pid", 0), change,
               or_question_mark(field_string(session, "instance")), cpus && *cpus ? "CPUs " : "no CPU",
               cpus ? cpus : "", or_question_mark(field_string(session, "kind")));
        if (field_has_int(session, "task"))
                printf(" %" PRId64, field_int(session, "task", 0));
        if (strcmp(change, "opened") == 0 && field_bool(session, "contended"))
                printf(", contended");
        putchar('\n');
}

static void print_refusal(const struct json_object *refusal) {
        const char *error = field_string(refusal, "error"), *vm = field_string(refusal, "vm");

        print_time();
        if (vm)
                printf("refused VM %s", vm);
        else if (field_string(refusal, "instance"))
                printf("refused pid %" PRId64 " a session on %s", field_int(refusal, "pid", 0),
                       field_string(refusal, "instance"));
        else
                printf("pid %" PRId64 " and an attribute of a VCPU", field_int(refusal, "pid", 0));
        printf(": %s: %s\n", error ? failure_short_name(error) : "?",
               or_question_mark(field_string(refusal, "message")));
}

static void print_snapshot(const struct json_object *snapshot, bool lost) {
        print_time();
        printf("%sinstances: %zu, leases: %zu, host sessions: %zu\n", lost ? "events were lost; now: " : "",
               array_length(field_array(snapshot, "instances")),
               array_length(field_array(snapshot, "leases")),
               array_length(field_array(snapshot, "sessions")));
}

void event_print(const struct json_object *event) {
        const struct json_object *snapshot = field_object(event, "snapshot"),
                                 *lease = field_object(event, "lease");
        const struct json_object *instance = field_object(event, "instance"),
                                 *refusal = field_object(event, "refusal"),
                                 *session = field_object(event, "session");

        if (snapshot)
                print_snapshot(snapshot, field_bool(event, "lost"));
        else if (lease)
                event_print_lease(or_question_mark(field_string(lease, "change")),
                                  field_object(lease, "lease"));
        else if (instance)
                event_print_instance(instance);
        else if (refusal)
                print_refusal(refusal);
        else if (session)
                event_print_session(or_question_mark(field_string(session, "change")),
                                    field_object(session, "session"));
        else {
                print_time();
                printf("an event of kind %s\n", or_question_mark(field_string(event, "kind")));
        }
}
