/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Calls of libspebroker over lost connections: what is asked again, in which words, and what a caller is
 * told. The broker plays a script, and breaks connections where that says so.
 */

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <spebroker/spebroker.h>

#include "libspebroker/decision.h"
#include "libspebroker/lease.h"
#include "libspebroker/request.h"
#include "tests/unit/broker-messages.h"
#include "tests/unit/scripted-broker.h"
#include "tests/unit/scripted-client.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define ACQUIRE_WITH(id)                                                                        \
        "{\"method\":\"io.spebroker.Broker.Acquire\",\"parameters\":{\"request\":{\"vcpus\":2," \
        "\"requestId\":\"" id "\"}}}"
#define ACQUIRE_WAIT(id)                                                                        \
        "{\"method\":\"io.spebroker.Broker.Acquire\",\"parameters\":{\"request\":{\"vcpus\":2," \
        "\"requestId\":\"" id "\"},\"waitUSec\":@N}}"
#define UPDATE                                                                                 \
        "{\"method\":\"io.spebroker.Broker.Update\",\"parameters\":{\"leaseId\":\"" ID "\",\"" \
        "cpus\":\"4\"}}"
#define MISSING                                                                                \
        "{\"method\":\"io.spebroker.Broker.Update\",\"parameters\":{\"leaseId\":\"" ID "\",\"" \
        "memlockMissing\":4096}}"
#define GRANTABLE "{\"parameters\":{\"decision\":{\"granted\":true,\"offer\":" OFFER ",\"refusals\":[]}}}"

static void test_query(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, QUERY}, {CLOSE}, {ACCEPT}, {HEAR, QUERY}, {CLOSE}, {ACCEPT},
               {HEAR, QUERY}, {SAY, GRANTABLE}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_decision_unrefp) struct spebroker_decision *decision = NULL;
        struct spebroker *context;
        Script script;
        Log log = {0};

        context = script_play(&script, steps);
        spebroker_set_log_fn(context, log_line, &log);
        assert_int_equal(spebroker_query(context, request, &decision), 0);
        spebroker_unref(context);
        assert_string_equal(log.text, "The broker closed the connection before it answered.\n"
                                      "Connected to the broker again.\n"
                                      "The broker closed the connection before it answered.\n"
                                      "Connected to the broker again.\n");
        script_finish(&script);
}

/* The same request for as long as one call lasts, and another one for the next. The caller's id is its own.
 */
static void test_acquire(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE_WITH("@J")}, {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_WITH("@I")},
               {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_WITH("@I")}, {SAY, GRANTED}, {HEAR, ACQUIRE_WITH("@J")},
               {SAY, BUSY}, {HEAR, ACQUIRE_WITH("r")}, {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_WITH("r")},
               {SAY, GRANTED}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), 0);
        assert_string_equal(spebroker_lease_get_id(lease), ID);
        spebroker_lease_unref(lease);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_REFUSED);
        assert_int_equal(spebroker_request_set_request_id(request, "r"), 0);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), 0);
        spebroker_lease_unref(lease);
        script_end(&script, context);
}

/* Everything that was asked for is asked for again. */
static void test_request(_unused_ void **state) {
        static const char acquire[] =
                "{\"method\":\"io.spebroker.Broker.Acquire\",\"parameters\":{\"request\":{\"vm\":\"a\","
                "\"vcpus\":"
                "3,\"cpus\":\"0-1\",\"instance\":\"arm_spe_0\",\"bufferSize\":4096,\"exact\":true,\"mode\":"
                "\"shared\",\"pid\":7,\"requestId\":\"@J\"}}}";
        SCRIPT(steps, {ACCEPT}, {HEAR, acquire}, {SAY, GRANTED}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(3);
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;

        assert_int_equal(spebroker_request_set_vm(request, "a"), 0);
        assert_int_equal(spebroker_request_set_cpus(request, "0-1"), 0);
        assert_int_equal(spebroker_request_set_instance(request, "arm_spe_0"), 0);
        assert_int_equal(spebroker_request_set_buffer_size(request, 4096), 0);
        spebroker_request_set_exact(request, true);
        assert_int_equal(spebroker_request_set_mode(request, SPEBROKER_MODE_SHARED), 0);
        assert_int_equal(spebroker_request_set_pid(request, 7), 0);

        context = script_play(&script, steps);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), 0);
        script_end(&script, context);
}

/* What is left of the wait, not all of it again. */
static void test_wait(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE_WAIT("@J")}, {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_WAIT("@I")},
               {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_WAIT("@I")}, {SAY, GRANTED}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        assert_int_equal(spebroker_acquire(context, request, 60000000, &lease), 0);
        script_end(&script, context);
}

static void test_update(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, UPDATE}, {CLOSE}, {ACCEPT}, {HEAR, UPDATE}, {SAY, GRANTED},
               {HEAR_NONE});
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        assert_int_equal(spebroker_update_cpus(context, ID, "4", NULL), 0);
        script_end(&script, context);
}

/* It would be charged twice; what was not sent yet is sent to the broker that is there. */
static void test_update_memlock(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, MISSING}, {CLOSE}, {ACCEPT}, {HEAR, MISSING}, {SAY, GRANTED},
               {HEAR_NONE});
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        assert_int_equal(spebroker_update_memlock(context, ID, 4096, NULL), SPEBROKER_OUTCOME_UNKNOWN);
        assert_int_equal(spebroker_update_memlock(context, ID, 4096, NULL), 0);
        script_end(&script, context);
}

/* There is no such lease any more: then it is released, if this is the second time that it was asked for. */
static void test_release(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, RELEASE}, {CLOSE}, {ACCEPT}, {HEAR, RELEASE}, {SAY, NO_SUCH_LEASE},
               {HEAR, RELEASE}, {SAY, NO_SUCH_LEASE}, {HEAR, RELEASE}, {CLOSE}, {ACCEPT}, {HEAR, RELEASE},
               {SAY, DENIED}, {HEAR, RELEASE}, {CLOSE}, {ACCEPT}, {HEAR, RELEASE}, {SAY, "{}"}, {HEAR_NONE});
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        assert_int_equal(spebroker_release(context, ID), 0);
        assert_null(spebroker_get_refusal(context));
        assert_int_equal(spebroker_release(context, ID), SPEBROKER_REFUSED);
        assert_string_equal(spebroker_refusal_get_name(spebroker_get_refusal(context)), "NoSuchLease");
        assert_int_equal(spebroker_release(context, ID), SPEBROKER_REFUSED);
        assert_string_equal(spebroker_refusal_get_name(spebroker_get_refusal(context)), "PermissionDenied");
        assert_int_equal(spebroker_release(context, ID), 0);
        script_end(&script, context);
}

/* A broker that restarts while nothing is in flight leaves no doubt: it is asked once. It need not be back at
 * once. */
static void test_idle(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {STOP}, {CLOSE}, {LISTEN}, {ACCEPT}, {HEAR, RELEASE}, {SAY, NO_SUCH_LEASE},
               {HEAR_NONE});
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        await_hang_up(context);
        assert_int_equal(spebroker_set_reconnect(context, true), 0);
        assert_int_equal(spebroker_release(context, ID), SPEBROKER_REFUSED);
        script_end(&script, context);
}

/* It does not come back: as long as the timeout allows, and no longer, however long the wait is. */
static void test_in_vain(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {STOP}, {CLOSE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        struct spebroker_lease *lease = NULL;
        uint64_t begin;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        await_hang_up(context);
        assert_int_equal(spebroker_set_reconnect(context, true), 0);
        spebroker_set_timeout(context, 30000);
        begin = clock_now_usec();
        assert_int_equal(spebroker_release(context, ID), SPEBROKER_NO_BROKER);
        assert_true(clock_now_usec() - begin >= 30000);
        assert_int_equal(spebroker_acquire(context, request, USEC_PER_HOUR, &lease), SPEBROKER_NO_BROKER);
        script_finish(&script);
}

/* An acquire that nobody knows the outcome of, and then the same again: the same id, until there is an
 * answer. What is asked for is compared, and not who asks. */
static void test_in_doubt(_unused_ void **state) {
        static const char other[] =
                "{\"method\":\"io.spebroker.Broker.Acquire\",\"parameters\":{\"request\":{\"vcpus\":3,"
                "\"requestId\":\"@J\"}}}";
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE_WITH("@J")}, {HEAR_NONE}, {ACCEPT}, {HEAR, ACQUIRE_WITH("@I")},
               {HEAR_NONE}, {ACCEPT}, {HEAR, ACQUIRE_WITH("@I")}, {SAY, BUSY}, {HEAR, ACQUIRE_WITH("@J")},
               {HEAR_NONE}, {ACCEPT}, {HEAR, other}, {SAY, GRANTED}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2),
                                                                     *same = request_for(2),
                                                                     *more = request_for(3);
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;

        context = script_play(&script, steps);
        spebroker_set_timeout(context, 100000);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_TIMEOUT);
        assert_int_equal(spebroker_acquire(context, same, 0, &lease), SPEBROKER_TIMEOUT);
        spebroker_set_timeout(context, SPEBROKER_TIMEOUT_USEC);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_REFUSED);
        spebroker_set_timeout(context, 100000);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_TIMEOUT);
        spebroker_set_timeout(context, SPEBROKER_TIMEOUT_USEC);
        assert_int_equal(spebroker_acquire(context, more, 0, &lease), 0);
        spebroker_lease_unref(lease);
        script_end(&script, context);
}

typedef int (*CallFn)(struct spebroker *context, const struct spebroker_request *request);

static int call_acquire(struct spebroker *context, const struct spebroker_request *request) {
        struct spebroker_lease *lease;

        return spebroker_acquire(context, request, 0, &lease);
}

static int call_update(struct spebroker *context, _unused_ const struct spebroker_request *request) {
        return spebroker_update_cpus(context, ID, "4", NULL);
}

static int call_release(struct spebroker *context, _unused_ const struct spebroker_request *request) {
        return spebroker_release(context, ID);
}

static int call_query(struct spebroker *context, const struct spebroker_request *request) {
        struct spebroker_decision *decision;

        return spebroker_query(context, request, &decision);
}

/* Each call is sent; then the connection goes, and there is nobody to ask again, as @away says. What is
 * called after that is not even sent. */
typedef struct Lost {
        CallFn call;
        const char *heard;
        int result;
} Lost;

static void assert_lost(const Lost *lost, Action away, uint64_t then_usec, int then) {
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);

        for (; lost->call; lost++) {
                const Step steps[] = {
                        {ACCEPT, NULL}, {HEAR, lost->heard}, {away, NULL}, {CLOSE, NULL}, {END, NULL}};
                struct spebroker *context;
                Script script;

                context = script_play(&script, steps);
                spebroker_set_timeout(context, 500000);
                assert_int_equal(lost->call(context, request), lost->result);
                spebroker_set_timeout(context, then_usec);
                assert_int_equal(lost->call(context, request), then);
                script_end(&script, context);
        }
}

/* That the broker is not back says nothing about what was sent before; of what only asks there is nothing to
 * be known. */
static void test_unknown(_unused_ void **state) {
        static const Lost lost[] = {
                {call_acquire, ACQUIRE_WITH("@J"), SPEBROKER_OUTCOME_UNKNOWN},
                {call_update, UPDATE, SPEBROKER_OUTCOME_UNKNOWN},
                {call_release, RELEASE, SPEBROKER_OUTCOME_UNKNOWN},
                {call_query, QUERY, SPEBROKER_NO_BROKER},
                {NULL, NULL, 0},
        };

        assert_lost(lost, STOP, 0, SPEBROKER_NO_BROKER);
}

/* Nor does it that somebody listens, but accepts nobody in time. */
static void test_unknown_blocked(_unused_ void **state) {
        static const Lost lost[] = {
                {call_acquire, ACQUIRE_WITH("@J"), SPEBROKER_OUTCOME_UNKNOWN},
                {call_release, RELEASE, SPEBROKER_OUTCOME_UNKNOWN},
                {call_query, QUERY, SPEBROKER_TIMEOUT},
                {NULL, NULL, 0},
        };

        assert_lost(lost, BLOCK, 50000, SPEBROKER_TIMEOUT);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_query),   cmocka_unit_test(test_acquire),
                cmocka_unit_test(test_request), cmocka_unit_test(test_wait),
                cmocka_unit_test(test_update),  cmocka_unit_test(test_update_memlock),
                cmocka_unit_test(test_release), cmocka_unit_test(test_idle),
                cmocka_unit_test(test_in_vain), cmocka_unit_test(test_in_doubt),
                cmocka_unit_test(test_unknown), cmocka_unit_test(test_unknown_blocked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
