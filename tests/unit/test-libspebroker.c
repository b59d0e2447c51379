/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libspebroker against a broker that plays a script on a thread of its own: every call is compared byte for
 * byte, every answer is written out, and connections break where the script says so.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <spebroker/spebroker.h>

#include "libspebroker/decision.h"
#include "libspebroker/lease.h"
#include "libspebroker/refusal.h"
#include "libspebroker/request.h"
#include "tests/unit/broker-messages.h"
#include "tests/unit/scripted-broker.h"
#include "tests/unit/scripted-client.h"
#include "util/cleanup.h"

static void test_acquire(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE}, {SAY, GRANTED}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        struct spebroker *context;
        struct spebroker_lease *lease;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), 0);
        assert_null(spebroker_get_refusal(context));
        spebroker_unref(context);

        /* It does not need its context. */
        assert_string_equal(spebroker_lease_get_id(lease), ID);
        assert_null(spebroker_lease_get_change(lease));
        assert_string_equal(spebroker_lease_get_state(lease), "granted");
        assert_null(spebroker_lease_get_reason(lease));
        assert_string_equal(spebroker_lease_get_vm(lease), "a");
        assert_string_equal(spebroker_lease_get_vm_origin(lease), "caller");
        assert_string_equal(spebroker_lease_get_instance(lease), "arm_spe_1");
        assert_int_equal(spebroker_lease_get_pmu_type(lease), 9);
        assert_string_equal(spebroker_lease_get_cpus(lease), "4-5,8");
        assert_int_equal(spebroker_lease_get_vcpus(lease), 2);
        assert_int_equal(spebroker_lease_get_buffer_size(lease), 4194304);
        assert_int_equal(spebroker_lease_get_requested_buffer_size(lease), 8388608);
        assert_string_equal(spebroker_lease_get_limited_by(lease), "MaxBufferSize");
        assert_int_equal(spebroker_lease_get_charge(lease), 9437184);
        assert_int_equal(spebroker_lease_get_memlock_bytes(lease), 9437184);
        assert_string_equal(spebroker_lease_get_memlock_state(lease), "unmanaged");
        assert_int_equal(spebroker_lease_get_interrupt(lease), 21);
        assert_string_equal(spebroker_lease_get_mode(lease), "guest");
        assert_false(spebroker_lease_is_contended(lease));
        assert_true(spebroker_lease_is_restart_required(lease));
        assert_int_equal(spebroker_lease_get_owner_pid(lease), 1);
        assert_int_equal(spebroker_lease_get_owner_uid(lease), 0);
        assert_int_equal(spebroker_lease_get_since_usec(lease), 1);
        assert_int_equal(spebroker_lease_get_remaining_usec(lease), 7);

        assert_ptr_equal(spebroker_lease_ref(lease), lease);
        assert_null(spebroker_lease_unref(lease));
        assert_string_equal(spebroker_lease_get_id(lease), ID);
        assert_null(spebroker_lease_unref(lease));
        assert_null(spebroker_lease_unref(NULL));
        script_finish(&script);
}

static void test_update_release(_unused_ void **state) {
        static const char update[] =
                "{\"method\":\"io.spebroker.Broker.Update\",\"parameters\":{\"leaseId\":\"" ID
                "\",\"cpus\":\"4\"}}";
        SCRIPT(steps, {ACCEPT}, {HEAR, update}, {SAY, GRANTED}, {HEAR, update}, {SAY, GRANTED},
               {HEAR, RELEASE}, {SAY, "{}"});
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_update_cpus(context, ID, "4", NULL), 0);
        assert_int_equal(spebroker_update_cpus(context, ID, "4", &lease), 0);
        assert_string_equal(spebroker_lease_get_id(lease), ID);
        assert_int_equal(spebroker_release(context, ID), 0);
        script_finish(&script);
}

#define MISSING(bytes)                                                                 \
        "{\"method\":\"io.spebroker.Broker.Update\",\"parameters\":{\"leaseId\":\"" ID \
        "\",\"memlockMissing\":" bytes "}}"

static void test_update_memlock(_unused_ void **state) {
        static const char exceeded[] =
                "{\"error\":\"io.spebroker.Broker.LimitExceeded\",\"parameters\":{\"limit\":"
                "\"MaxMemoryPerVM\",\"requested\":9223372036854775807,\"available\":5}}";
        SCRIPT(steps, {ACCEPT}, {HEAR, MISSING("4096")}, {SAY, GRANTED},
               {HEAR, MISSING("9223372036854775807")}, {SAY, exceeded});
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        int64_t available;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_update_memlock(context, ID, 0, &lease), -EINVAL);
        assert_int_equal(spebroker_update_memlock(context, ID, UINT64_C(1) << 63, &lease), -EINVAL);
        assert_null(lease);
        assert_int_equal(spebroker_update_memlock(context, ID, 4096, &lease), 0);
        assert_string_equal(spebroker_lease_get_id(lease), ID);
        assert_int_equal(spebroker_update_memlock(context, ID, INT64_MAX, NULL), SPEBROKER_REFUSED);
        assert_true(spebroker_refusal_get_integer(spebroker_get_refusal(context), "available", &available));
        assert_int_equal(available, 5);
        script_finish(&script);
}

static void test_busy(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE}, {SAY, BUSY}, {HEAR, RELEASE}, {SAY, "{}"});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        const struct spebroker_refusal *refusal;
        const struct spebroker_holder *holder;
        struct spebroker_lease *lease = NULL;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_REFUSED);
        assert_null(lease);

        refusal = spebroker_get_refusal(context);
        assert_string_equal(spebroker_refusal_get_name(refusal), "Busy");
        assert_string_equal(spebroker_refusal_get_error(refusal), "io.spebroker.Broker.Busy");
        assert_string_equal(spebroker_refusal_get_message(refusal),
                            "In the way: a lease of VM b?[m of kvm (pid 77) on CPUs 4, a host session "
                            "(whose, cannot be seen) on CPUs 5.");

        holder = spebroker_refusal_get_holder(refusal, 0);
        assert_string_equal(spebroker_holder_get_kind(holder), "lease");
        assert_string_equal(spebroker_holder_get_lease_id(holder), ID);
        assert_string_equal(spebroker_holder_get_vm(holder), "b\x1b[m");
        assert_int_equal(spebroker_holder_get_pid(holder), 77);
        assert_int_equal(spebroker_holder_get_uid(holder), 1000);
        assert_string_equal(spebroker_holder_get_command(holder), "kvm");
        assert_string_equal(spebroker_holder_get_cpus(holder), "4");
        holder = spebroker_refusal_get_holder(refusal, 1);
        assert_string_equal(spebroker_holder_get_kind(holder), "session");
        assert_null(spebroker_holder_get_lease_id(holder));
        assert_null(spebroker_holder_get_vm(holder));
        assert_int_equal(spebroker_holder_get_pid(holder), -1);
        assert_int_equal(spebroker_holder_get_uid(holder), -1);
        assert_null(spebroker_holder_get_command(holder));
        assert_null(spebroker_refusal_get_holder(refusal, 2));

        /* The next call forgets it. */
        assert_int_equal(spebroker_release(context, ID), 0);
        assert_null(spebroker_get_refusal(context));
        script_finish(&script);
}

static void test_query(_unused_ void **state) {
        static const char yes[] =
                "{\"parameters\":{\"decision\":{\"granted\":true,\"offer\":" OFFER ",\"refusals\":[]}}}";
        static const char no[] =
                "{\"parameters\":{\"decision\":{\"granted\":false,\"offer\":null,\"refusals\":[" REFUSAL
                "," REFUSAL "],\"counterOffer\":" OFFER "}}}";
        SCRIPT(steps, {ACCEPT}, {HEAR, QUERY}, {SAY, yes}, {HEAR, QUERY}, {SAY, no});
        _cleanup_(spebroker_decision_unrefp) struct spebroker_decision *granted = NULL, *refused = NULL;
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        const struct spebroker_refusal *refusal;
        const struct spebroker_offer *offer;
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_query(context, request, &granted), 0);
        assert_int_equal(spebroker_query(context, request, &refused), 0);
        spebroker_unref(context);

        assert_true(spebroker_decision_is_granted(granted));
        assert_null(spebroker_decision_get_refusal(granted, 0));
        assert_null(spebroker_decision_get_counter_offer(granted));
        offer = spebroker_decision_get_offer(granted);
        assert_string_equal(spebroker_offer_get_instance(offer), "arm_spe_0");
        assert_int_equal(spebroker_offer_get_pmu_type(offer), 8);
        assert_string_equal(spebroker_offer_get_cpus(offer), "0-3");
        assert_int_equal(spebroker_offer_get_buffer_size(offer), 4096);
        assert_int_equal(spebroker_offer_get_charge(offer), 9000);
        assert_string_equal(spebroker_offer_get_mode(offer), "guest");
        assert_null(spebroker_offer_get_limited_by(offer));

        assert_false(spebroker_decision_is_granted(refused));
        assert_null(spebroker_decision_get_offer(refused));
        assert_int_equal(spebroker_offer_get_charge(spebroker_decision_get_counter_offer(refused)), 9000);
        refusal = spebroker_decision_get_refusal(refused, 1);
        assert_string_equal(spebroker_refusal_get_name(refusal), "NotAssigned");
        assert_string_equal(spebroker_refusal_get_message(refusal), "Not yours.");
        assert_string_equal(spebroker_refusal_get_string(refusal, "assignedVm"), "b");
        assert_string_equal(spebroker_refusal_get_string(refusal, "vm"), "a");
        assert_null(spebroker_decision_get_refusal(refused, 2));
        script_finish(&script);
}

/* --- Lost connections --- */

static void test_no_broker(_unused_ void **state) {
        struct spebroker *context = NULL;

        assert_int_equal(spebroker_new_from_path("/nonexistent/socket", &context), SPEBROKER_NO_BROKER);
        assert_int_equal(spebroker_new_from_path("", &context), -EINVAL);
        assert_int_equal(spebroker_new_from_fd(-1, &context), -EBADF);
        assert_null(context);
        assert_null(spebroker_unref(NULL));
}

static void test_timeout(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        struct spebroker_lease *lease = NULL;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        spebroker_set_timeout(context, 100000);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_TIMEOUT);
        assert_int_equal(spebroker_get_fd(context), -1);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_DISCONNECTED);
        script_finish(&script);
}

/* The wait in the broker's queue comes on top of the timeout. */
static void test_wait(_unused_ void **state) {
        static const char acquire[] =
                "{\"method\":\"io.spebroker.Broker.Acquire\",\"parameters\":{\"request\":{"
                "\"vcpus\":2},\"waitUSec\":60000000}}";
        SCRIPT(steps, {ACCEPT}, {HEAR, acquire}, {SAY, GRANTED});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        spebroker_set_timeout(context, 0);
        assert_int_equal(spebroker_acquire(context, request, 60000000, &lease), 0);
        script_finish(&script);
}

static void test_lost(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE}, {CLOSE}, {ACCEPT}, {HEAR, QUERY}, {CLOSE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        struct spebroker_decision *decision = NULL;
        struct spebroker_lease *lease = NULL;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_OUTCOME_UNKNOWN);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), SPEBROKER_DISCONNECTED);
        spebroker_unref(context);

        /* There is nothing to know about what changes nothing. */
        context = connect_to(&script);
        assert_int_equal(spebroker_query(context, request, &decision), SPEBROKER_DISCONNECTED);
        assert_int_equal(spebroker_query(context, request, &decision), SPEBROKER_DISCONNECTED);
        assert_int_equal(spebroker_follow(context, ID), SPEBROKER_DISCONNECTED);
        script_finish(&script);
}

/* --- Streams --- */

static void test_follow(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {SAY, CHANGE("revoking")}, {SAY, ENDED},
               {HEAR, RELEASE}, {SAY, "{}"}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        struct spebroker_lease *lease = NULL;
        struct spebroker_decision *decision = NULL;
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);
        assert_int_equal(spebroker_follow(context, ID), 0);
        assert_int_equal(spebroker_follow(context, ID), -EBUSY);
        assert_int_equal(spebroker_acquire_and_follow(context, request, 0), -EBUSY);
        assert_int_equal(spebroker_acquire(context, request, 0, &lease), -EBUSY);
        assert_int_equal(spebroker_query(context, request, &decision), -EBUSY);
        assert_int_equal(spebroker_release(context, ID), -EBUSY);
        assert_change(context, NULL);
        assert_change(context, "revoking");
        assert_change(context, "ended");
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);

        /* And it takes calls again. */
        assert_int_equal(spebroker_release(context, ID), 0);
        spebroker_unref(context);
        script_finish(&script);
}

static void test_stream_refused(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, ACQUIRE_MORE}, {SAY, CHANGE("queued")}, {SAY, BUSY}, {HEAR, RELEASE},
               {SAY, "{}"}, {HEAR_NONE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_acquire_and_follow(context, request, 60000000), 0);
        assert_change(context, "queued");
        assert_int_equal(process_wait(context, &lease), SPEBROKER_REFUSED);
        assert_string_equal(spebroker_refusal_get_name(spebroker_get_refusal(context)), "Busy");
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);
        assert_null(spebroker_get_refusal(context));
        assert_int_equal(spebroker_release(context, ID), 0);
        spebroker_unref(context);
        script_finish(&script);
}

static void test_stream_lost(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, PRESENT}, {CLOSE}, {ACCEPT}, {HEAR, ACQUIRE_MORE},
               {SAY, CHANGE("queued")}, {CLOSE});
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = request_for(2);
        _cleanup_(spebroker_unrefp) struct spebroker *followed = NULL, *waiting = NULL;
        struct spebroker_lease *lease = NULL;
        Script script;

        script_start(&script, steps);
        followed = connect_to(&script);
        assert_int_equal(spebroker_follow(followed, ID), 0);
        assert_change(followed, NULL);
        assert_int_equal(process_wait(followed, &lease), SPEBROKER_DISCONNECTED);
        assert_int_equal(spebroker_process(followed, &lease), SPEBROKER_ENDED);

        /* A request that waits ends with its connection. */
        waiting = connect_to(&script);
        assert_int_equal(spebroker_acquire_and_follow(waiting, request, 60000000), 0);
        assert_change(waiting, "queued");
        assert_int_equal(process_wait(waiting, &lease), SPEBROKER_OUTCOME_UNKNOWN);
        assert_int_equal(spebroker_process(waiting, &lease), SPEBROKER_ENDED);
        script_finish(&script);
}

static void test_stream_bad(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, FOLLOW}, {SAY, "{\"continues\":true,\"parameters\":{}}"}, {HEAR_NONE});
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        struct spebroker_lease *lease = NULL;
        Script script;

        script_start(&script, steps);
        context = connect_to(&script);
        assert_int_equal(spebroker_follow(context, ID), 0);
        assert_int_equal(process_wait(context, &lease), -EPROTO);
        assert_int_equal(spebroker_get_fd(context), -1);
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_ENDED);
        script_finish(&script);
}

static void test_fd(_unused_ void **state) {
        SCRIPT(steps, {ACCEPT}, {HEAR, RELEASE}, {SAY, "{}"}, {CLOSE});
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        Script script;
        int fd;

        script_start(&script, steps);
        memcpy(address.sun_path, script.path, strlen(script.path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(spebroker_new_from_fd(fd, &context), 0);
        assert_int_equal(spebroker_get_fd(context), fd);
        assert_int_equal(spebroker_set_reconnect(context, true), -EOPNOTSUPP);
        assert_int_equal(spebroker_set_reconnect(context, false), 0);
        assert_int_equal(spebroker_release(context, ID), 0);
        await_hang_up(context);
        assert_int_equal(spebroker_release(context, ID), SPEBROKER_DISCONNECTED);
        script_finish(&script);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_acquire),        cmocka_unit_test(test_update_release),
                cmocka_unit_test(test_update_memlock), cmocka_unit_test(test_busy),
                cmocka_unit_test(test_query),          cmocka_unit_test(test_no_broker),
                cmocka_unit_test(test_timeout),        cmocka_unit_test(test_wait),
                cmocka_unit_test(test_lost),           cmocka_unit_test(test_follow),
                cmocka_unit_test(test_stream_refused), cmocka_unit_test(test_stream_lost),
                cmocka_unit_test(test_stream_bad),     cmocka_unit_test(test_fd),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
