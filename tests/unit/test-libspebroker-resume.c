/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Streams of libspebroker over lost connections: one descriptor, what is asked again, and what has changed in
 * the meantime. The broker plays a script, and breaks connections where that says so.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <spebroker/spebroker.h>

#include "libspebroker/lease.h"
#include "libspebroker/request.h"
#include "tests/unit/broker-messages.h"
#include "tests/unit/scripted-broker.h"
#include "tests/unit/scripted-client.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define ACQUIRE_FOLLOW(id)                                                                                  \
        "{\"method\":\"io.spebroker.Broker.Acquire\",\"more\":true,\"parameters\":{\"request\":{\"vcpus\":" \
        "2,\"requestId\":\"" id "\"},\"waitUSec\":@N}}"
#define NOW(lease) "{\"continues\":true,\"parameters\":{\"lease\":" lease "}}"

/* Waits as an event loop does that asks for the descriptor once. */
static int process_on(struct spebroker *context, int fd, struct spebroker_lease **ret_lease) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        int r;

        while ((r = spebroker_process(context, ret_lease)) == SPEBROKER_AGAIN)
                assert_int_equal(poll(&pfd, 1, 10000), 1);

        assert_int_equal(spebroker_get_fd(context), fd);
        assert_int_equal(spebroker_get_events(context), POLLIN);
        return r;
}

static void assert_changes(struct spebroker *context, const char *change, const char *state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;

        assert_int_equal(process_on(context, spebroker_get_fd(context), &lease), 0);
        assert_string_equal(spebroker_lease_get_change(lease), change);
        assert_string_equal(spebroker_lease_get_state(lease), state);
}

/* The stream's connection goes and comes back. */
static void assert_resumes(struct spebroker *context) {
        struct spebroker_lease *lease = NULL;
        int fd = spebroker_get_fd(context);

        assert_int_equal(process_on(context, fd, &lease), SPEBROKER_DISCONNECTED);
        assert_int_equal(process_on(context, fd, &lease), SPEBROKER_RECONNECTED);
}

/* Follows the lease, which is there. */
static void follow(struct spebroker *context) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;

        assert_int_equal(spebroker_follow(context, ID), 0);
        assert_int_equal(process_on(context, spebroker_get_fd(context), &lease), 0);
}

/* It is refused, as the stream is to go on. */
static void assert_refused(struct spebroker *context, const char *name) {
        struct spebroker_lease *lease = NULL;
        int fd = spebroker_get_fd(context);

        assert_int_equal(process_on(context, fd, &lease), SPEBROKER_DISCONNECTED);
        assert_int_equal(process_on(context, fd, &lease), SPEBROKER_REFUSED);
        assert_string_equal(spebroker_refusal_get_name(spebroker_get_refusal(context)), name);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);
}

/* Nothing has changed, and nothing is told; the descriptor is the same throughout. */
static void test_follow(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {STOP}, {CLOSE}, {LISTEN}, {ACCEPT}, {CLOSE},
               {ACCEPT}, {HEAR, FOLLOW}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT},
               {SAY, CHANGE("revoking")}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW}, {SAY, NOW(LEASE("revoking"))},
               {SAY, ENDED}, {HEAR, RELEASE}, {SAY, "{}"}, {HEAR_NONE});
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;
        Log log = {0};
        int fd;

        context = script_play(&script, steps);
        spebroker_set_log_fn(context, log_line, &log);
        fd = spebroker_get_fd(context);
        follow(context);
        assert_resumes(context);
        assert_int_equal(spebroker_release(context, ID), -EBUSY);
        assert_changes(context, "revoking", "revoking");
        assert_resumes(context);
        assert_changes(context, "ended", "ended");
        assert_int_equal(spebroker_get_fd(context), fd);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);
        assert_string_equal(log.text, "The broker has closed the connection.\n"
                                      "The broker has closed the connection.\n"
                                      "The broker has closed the connection.\n"
                                      "Connected to the broker again.\n"
                                      "The broker has closed the connection.\n"
                                      "Connected to the broker again.\n");
        assert_int_equal(spebroker_release(context, ID), 0);
        script_end(&script, context);
}

/* While the broker is away a loop sleeps: it is not woken to find nothing. */
static void test_follow_idle(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {STOP}, {CLOSE});
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        struct pollfd pfd;
        uint64_t deadline;
        Script script;
        unsigned n = 0;

        context = script_play(&script, steps);
        pfd = (struct pollfd){.fd = spebroker_get_fd(context), .events = POLLIN};
        follow(context);
        assert_int_equal(process_on(context, pfd.fd, &lease), SPEBROKER_DISCONNECTED);
        deadline = clock_deadline(100000);
        do {
                assert_int_equal(spebroker_process(context, &lease), SPEBROKER_AGAIN);
                (void)poll(&pfd, 1, (int)(clock_left(deadline) / USEC_PER_MSEC) + 1);
                n++;
        } while (clock_left(deadline) > 0);
        /* The first attempt, and delays of 5, 10, 20, 40, 80 milliseconds at least. */
        assert_in_range(n, 1, 7);
        assert_int_equal(spebroker_set_reconnect(context, false), 0);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_DISCONNECTED);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);
        script_end(&script, context);
}

/* What has changed is told, each change with the lease as it is now. */
static void test_follow_changed(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW},
               {SAY, NOW(LEASE_WITH("9", "\"4\"", "4194304", MEMLOCK, "revoking"))}, {SAY, CHANGE("revoked")},
               {HEAR_NONE});
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        follow(context);
        assert_resumes(context);
        assert_changes(context, "cpus", "revoking");
        assert_changes(context, "revoking", "revoking");
        assert_changes(context, "revoked", "revoked");
        script_end(&script, context);
}

/* It has ended in the meantime: told with what was known of it last. */
static void test_follow_ended(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW},
               {SAY, NO_SUCH_LEASE}, {HEAR, FOLLOW}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW}, {SAY, NO_SUCH_LEASE},
               {HEAR_NONE});
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;
        int fd;

        context = script_play(&script, steps);
        fd = spebroker_get_fd(context);
        follow(context);
        assert_resumes(context);
        assert_null(spebroker_get_refusal(context));
        assert_int_equal(process_on(context, fd, &lease), 0);
        assert_string_equal(spebroker_lease_get_change(lease), "ended");
        assert_string_equal(spebroker_lease_get_state(lease), "ended");
        assert_string_equal(spebroker_lease_get_reason(lease),
                            "it ended while the broker could not be asked");
        assert_string_equal(spebroker_lease_get_id(lease), ID);
        assert_string_equal(spebroker_lease_get_cpus(lease), "4-5,8");
        assert_int_equal(spebroker_lease_get_remaining_usec(lease), -1);
        spebroker_lease_unref(lease);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);

        /* Nothing was known of it: there is no such lease. */
        assert_int_equal(spebroker_follow(context, ID), 0);
        assert_refused(context, "NoSuchLease");
        script_end(&script, context);
}

/* Not its owner's any more, for instance: a refusal like any other. */
static void test_follow_refused(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW},
               {SAY, DENIED}, {HEAR_NONE});
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        follow(context);
        assert_refused(context, "PermissionDenied");
        script_end(&script, context);
}

#define QUEUED_AGAIN                                                                                     \
        "{\"continues\":true,\"parameters\":{\"change\":\"queued\",\"lease\":{\"leaseId\":\"f\",\"vm\":" \
        "\"a\""                                                                                          \
        ",\"vmOrigin\":\"caller\",\"instance\":\"\",\"pmuType\":null,\"cpus\":\"4\",\"vcpus\":2,"        \
        "\"bufferSize\":0,\"requestedBufferSize\":8388608,\"limitedBy\":null,\"charge\":0,"              \
        "\"memlock\":" MEMLOCK                                                                           \
        ",\"interrupt\":21,\"mode\":\"guest\",\"state\":\"queued\",\"reason\":null,\"contended\":"       \
        "false,\"restartRequired\":false,\"owner\":{\"pid\":1,\"uid\":0},\"sinceUSec\":1,"               \
        "\"remainingUSec\":7}}}"

/* A request that waits is made again, for the rest of its wait, until a lease comes of it. */
static void test_acquire_and_follow(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE_FOLLOW("@J")}, {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_FOLLOW("@I")},
               {SAY, CHANGE("queued")}, {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_FOLLOW("@I")}, {SAY, QUEUED_AGAIN},
               {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_FOLLOW("@I")}, {SAY, NOW(LEASE("granted"))}, {CLOSE},
               {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        assert_int_equal(spebroker_acquire_and_follow(context, request, USEC_PER_MIN), 0);
        assert_resumes(context);
        assert_changes(context, "queued", "queued");
        assert_resumes(context);
        assert_changes(context, "queued", "queued");
        assert_resumes(context);
        assert_changes(context, "granted", "granted");
        assert_resumes(context);
        script_end(&script, context);
}

/* A wait that is over when the broker is back ends as it would have. */
static void test_acquire_and_follow_refused(_unused_ void **state) {
        static const char acquire[] =
                "{\"method\":\"io.spebroker.Broker.Acquire\",\"more\":true,\"parameters\":{\"request\":{"
                "\"vcpus\":2,\"requestId\":\"@J\"},\"waitUSec\":@N}}";
        static const char again[] =
                "{\"method\":\"io.spebroker.Broker.Acquire\",\"more\":true,\"parameters\":{\"request\":{"
                "\"vcpus\":2,\"requestId\":\"@I\"}}}";
        SCRIPT(steps, {ACCEPT}, {HEAR, acquire}, {SAY, CHANGE("queued")}, {CLOSE}, {ACCEPT}, {HEAR, again},
               {SAY, BUSY}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        assert_int_equal(spebroker_acquire_and_follow(context, request, 1), 0);
        assert_changes(context, "queued", "queued");
        assert_int_equal(process_on(context, spebroker_get_fd(context), &lease), SPEBROKER_DISCONNECTED);
        assert_int_equal(process_on(context, spebroker_get_fd(context), &lease), SPEBROKER_REFUSED);
        assert_string_equal(spebroker_refusal_get_name(spebroker_get_refusal(context)), "Busy");
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);
        script_end(&script, context);
}

/* A stream that begins where there is no broker waits for one. */
static void test_follow_disconnected(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {HEAR_NONE});
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;
        int fd;

        script_start(&script, steps);
        context = connect_to(&script);
        await_hang_up(context);
        assert_int_equal(spebroker_set_reconnect(context, true), 0);
        fd = spebroker_get_fd(context);
        assert_int_equal(spebroker_follow(context, ID), 0);
        assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000), 1);
        assert_resumes(context);
        assert_int_equal(process_on(context, fd, &lease), 0);
        assert_null(spebroker_lease_get_change(lease));
        spebroker_lease_unref(lease);
        script_end(&script, context);
}

/* After a fork() the child has the connection, too, and its end is heard all the same, and only once. */
static void test_follow_shared(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {CLOSE}, {ACCEPT}, {HEAR, FOLLOW},
               {SAY, PRESENT}, {HEAR_NONE});
        _cleanup_(closep) int shared = -1;
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        struct pollfd pfd;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        shared = fcntl(spebroker_get_fd(context), F_DUPFD_CLOEXEC, 0);
        assert_true(shared >= 0);
        assert_int_equal(spebroker_set_reconnect(context, true), 0);
        assert_int_equal(spebroker_follow(context, ID), 0);
        pfd = (struct pollfd){.fd = spebroker_get_fd(context), .events = POLLIN};
        assert_int_equal(process_on(context, pfd.fd, &lease), 0);
        spebroker_lease_unref(lease);
        assert_resumes(context);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_AGAIN);
        assert_int_equal(poll(&pfd, 1, 0), 0);
        script_end(&script, context);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_follow),
                cmocka_unit_test(test_follow_idle),
                cmocka_unit_test(test_follow_changed),
                cmocka_unit_test(test_follow_ended),
                cmocka_unit_test(test_follow_refused),
                cmocka_unit_test(test_acquire_and_follow),
                cmocka_unit_test(test_acquire_and_follow_refused),
                cmocka_unit_test(test_follow_disconnected),
                cmocka_unit_test(test_follow_shared),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
