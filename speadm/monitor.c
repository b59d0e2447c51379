/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm monitor: the broker's Watch stream, a line per event. It ends with 0 when interrupted; a broker that
 * goes away ends it with a sentence.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "speadm/call.h"
#include "speadm/failure.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/verb.h"
#include "speadm/words.h"

static const char *or_question_mark(const char *text) {
        return text && *text ? text : "?";
}

static void print_lease(const char *change, const struct json_object *lease) {
        const char *reason = field_string(lease, "reason"), *instance = field_string(lease, "instance");
        char size[TEXT_SIZE_MAX], left[TEXT_TIME_MAX];

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

static void print_instance(const struct json_object *instance) {
        const char *problem = field_string(instance, "problem"),
                   *online = field_string(instance, "onlineCpus");
        _cleanup_(freep) char *assigned = words_assignments(instance);
        char charge[TEXT_SIZE_MAX];

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

static void print_session(const char *change, const struct json_object *session) {
        const char *cpus = field_string(session, "cpus");

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

        if (vm)
                printf("refused VM %s", vm);
        else
                printf("refused pid %" PRId64 " a session on %s", field_int(refusal, "pid", 0),
                       or_question_mark(field_string(refusal, "instance")));
        printf(": %s: %s\n", error ? failure_short_name(error) : "?",
               or_question_mark(field_string(refusal, "message")));
}

static void print_event(const struct json_object *event) {
        const struct json_object *snapshot = field_object(event, "snapshot"),
                                 *lease = field_object(event, "lease");
        const struct json_object *instance = field_object(event, "instance"),
                                 *refusal = field_object(event, "refusal"),
                                 *session = field_object(event, "session");
        char now[TEXT_TIME_MAX];

        printf("%s ", text_time((int64_t)time(NULL) * 1000000, now));
        if (snapshot)
                printf("%sinstances: %zu, leases: %zu, host sessions: %zu\n",
                       field_bool(event, "lost") ? "events were lost; now: " : "",
                       array_length(field_array(snapshot, "instances")),
                       array_length(field_array(snapshot, "leases")),
                       array_length(field_array(snapshot, "sessions")));
        else if (lease)
                print_lease(or_question_mark(field_string(lease, "change")), field_object(lease, "lease"));
        else if (instance)
                print_instance(instance);
        else if (refusal)
                print_refusal(refusal);
        else if (session)
                print_session(or_question_mark(field_string(session, "change")),
                              field_object(session, "session"));
        else
                printf("an event of kind %s\n", or_question_mark(field_string(event, "kind")));
}

/* Every event that is here already. */
static int print_events(Speadm *speadm) {
        bool json = arguments_has(&speadm->arguments, OPTION_JSON);

        for (;;) {
                _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
                const struct json_object *event;
                int r;

                r = varlink_client_process(speadm->client, &reply);
                if (r == VARLINK_CLIENT_E_AGAIN)
                        return SPEADM_DONE;
                r = call_check(speadm, r, &reply);
                if (r != SPEADM_DONE)
                        return r;
                event = field_object(reply.parameters, "event");
                if (json)
                        json_print_line((struct json_object *)event);
                else
                        print_event(event);
                if (fflush(stdout) != 0)
                        return SPEADM_FAILED; /* main() tells */
                if (!reply.continues) {
                        complain("the broker ended the stream of events");
                        return SPEADM_NO_BROKER;
                }
        }
}

/* SIGINT and SIGTERM as a file descriptor: they end the loop between two events, never inside a line. */
static int open_signals(void) {
        sigset_t signals;

        if (sigemptyset(&signals) < 0 || sigaddset(&signals, SIGINT) < 0 ||
            sigaddset(&signals, SIGTERM) < 0 || sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -1;
        return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

int verb_monitor(Speadm *speadm) {
        _cleanup_(closep) int signals = -1;
        JsonWriter *writer;
        int r;

        signals = open_signals();
        if (signals < 0) {
                complain("cannot wait for signals: %m");
                return SPEADM_FAILED;
        }
        r = call_begin(speadm, BROKER "Watch", VARLINK_CALL_MORE, &writer);
        if (r != SPEADM_DONE)
                return r;
        r = varlink_client_end(speadm->client);
        if (r != 0)
                return call_check(speadm, r, NULL);
        for (;;) {
                struct pollfd fds[] = {
                        {.fd = signals, .events = POLLIN},
                        {.fd = varlink_client_get_fd(speadm->client), .events = 0},
                };

                r = print_events(speadm);
                if (r != SPEADM_DONE)
                        return r;
                fds[1].events = varlink_client_get_events(speadm->client);
                if (poll(fds, ELEMENTS_OF(fds), /* timeout= */ -1) < 0 && errno != EINTR) {
                        complain("cannot wait for events: %m");
                        return SPEADM_FAILED;
                }
                if (fds[0].revents & POLLIN)
                        return SPEADM_DONE;
        }
}
