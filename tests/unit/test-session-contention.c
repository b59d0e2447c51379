/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sessions against leases and assignments: who is contended, who is in the way, who is let in afterwards. */

#include "tests/unit/session-fixture.h"

#include <errno.h>

#define WAIT_LONG ",\"waitUSec\":" LONG_USEC

static void release(Client *client, LeaseId id) {
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
}

static void assert_lease_event(Client *watch, const char *change, const char *reason) {
        struct json_object *event = next_event(watch, "lease");

        assert_text(event, "/change", change);
        if (!reason)
                assert_null_at(event, "/lease/reason");
        else if (!strstr(text_at(event, "/lease/reason"), reason))
                fail_msg("no \"%s\" in \"%s\"", reason, text_at(event, "/lease/reason"));
        assert_int_equal(bool_at(event, "/lease/contended"), reason != NULL);
}

static void assert_session_event(Client *watch, const char *change, bool contended) {
        struct json_object *event = next_event(watch, "session");

        assert_text(event, "/change", change);
        assert_int_equal(bool_at(event, "/session/contended"), contended);
}

/* What opens on a lease's CPU is told with the lease; nothing looks but for the event itself. */
static void test_cpu_wide(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;
        LeaseId id = acquire_for(client, getpid(), "a", "0-2", "guest");
        uint64_t first, second, beside;

        watch = start_watch(broker);
        beside = open_event(broker, 3, 0);
        assert_session_event(watch, "opened", false);
        first = open_event(broker, 1, 0);
        assert_lease_event(watch, "contended", "perf (pid 4321) samples CPU 1");
        assert_session_event(watch, "opened", true);
        second = open_event(broker, 2, 0);
        assert_session_event(watch, "opened", true);

        /* The one that it was told of goes: now it is the other's affair. */
        close_event(broker, first);
        assert_lease_event(watch, "contended", "samples CPU 2");
        assert_session_event(watch, "closed", false);
        close_event(broker, second);
        assert_lease_event(watch, "uncontended", NULL);
        assert_session_event(watch, "closed", false);
        close_event(broker, beside);
        assert_session_event(watch, "closed", false);

        /* The other way: the lease goes. */
        first = open_event(broker, 1, 0);
        assert_lease_event(watch, "contended", "samples CPU 1");
        assert_session_event(watch, "opened", true);
        release(client, id);
        assert_text(next_event(watch, "lease"), "/change", "ended");
        assert_session_event(watch, "uncontended", false);
        close_event(broker, first);
        assert_true(broker->manager->sessions.n == 0);
}

/* A lease that moves takes its contention along, or leaves it. */
static void test_move(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0-2", "guest");

        open_event(broker, 1, 0);
        broker_pump(broker);
        assert_true(find(broker, id)->contended);
        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"0,2\"}", id.text));
        broker_pump(broker);
        assert_false(find(broker, id)->contended);
        assert_false(bool_at(list_sessions(client), "/0/contended"));
        assert_error(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"0-2\"}", id.text),
                     BROKER "Busy");
}

static void test_shared(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;
        uint64_t id = open_event(broker, 1, 0);

        acquire_for(client, getpid(), "a", "0-2", "shared");
        watch = start_watch(broker);
        close_event(broker, id);
        assert_session_event(watch, "closed", false);
        open_event(broker, 2, 0);
        assert_session_event(watch, "opened", false);
        assert_true(client_is_silent(watch));
}

/* A task's session stands against a guest lease only if it is the owner's own, or on CPUs kept for guests. */
static void test_tasks(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;
        pid_t child = child_new(0), owner = child_new(0);
        char reason[64];
        uint64_t id;

        acquire_for(client, owner, "a", "0", "guest");
        watch = start_watch(broker);
        id = open_event(broker, 0, child);
        assert_session_event(watch, "opened", false);
        assert_true(client_is_silent(watch));

        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"guest\",\"runtime\":true}"));
        (void)snprintf(reason, sizeof(reason), "perf (pid 4321) samples thread %i on CPUs 0", (int)child);
        assert_lease_event(watch, "contended", reason);
        assert_session_event(watch, "contended", true);
        assert_fine(client_call(client, ADMIN "Unassign", "{\"cpus\":\"0\"}"));
        assert_lease_event(watch, "uncontended", NULL);
        assert_session_event(watch, "uncontended", false);
        close_event(broker, id);
        assert_session_event(watch, "closed", false);

        /* Sharing is no promise that anybody could break. */
        acquire_for(client, child, "b", "0", "shared");
        assert_text(next_event(watch, "lease"), "/change", "granted");
        id = open_event(broker, 0, child);
        assert_session_event(watch, "opened", false);
        close_event(broker, id);
        assert_session_event(watch, "closed", false);

        id = open_event(broker, -1, owner);
        (void)snprintf(reason, sizeof(reason), "samples thread %i", (int)owner);
        assert_lease_event(watch, "contended", reason);
        assert_session_event(watch, "opened", true);
        close_event(broker, id);
        assert_lease_event(watch, "uncontended", NULL);

        child_kill(child);
        child_kill(owner);
}

static void test_exclusive(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;
        pid_t child = child_new(0);
        uint64_t id;

        acquire_for(client, getpid(), "a", "0", "exclusive");
        watch = start_watch(broker);
        id = open_event(broker, 0, child);
        assert_lease_event(watch, "contended", "samples thread");
        assert_session_event(watch, "opened", true);
        child_kill(child);
        close_event(broker, id);
        assert_lease_event(watch, "uncontended", NULL);
}

/* Both causes at once: it stays contended until neither is there. */
static void test_both_causes(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;
        pid_t child = child_new(0);
        LeaseId revoked = acquire_for(client, child, "a", "0-1", "guest"), held;
        uint64_t id;

        assert_fine(
                client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", revoked.text));
        broker_wait(broker, find(broker, revoked)->state == LEASE_STATE_REVOKED);
        held = acquire_for(client, getpid(), "b", "1", "exclusive");
        broker_wait(broker, find(broker, held)->contended);
        assert_true(find(broker, revoked)->contended);

        watch = start_watch(broker);
        id = open_event(broker, 1, 0);
        assert_lease_event(watch, "contended", "samples CPU 1");
        close_event(broker, id);
        broker_pump(broker);
        assert_true(find(broker, held)->contended);
        assert_null(find(broker, held)->contention);

        child_kill(child);
        broker_wait(broker, !find(broker, held)->contended);
}

/* Leases that are revoked protect nothing, but their guests may leave CPU-wide sessions with holes as before.
 */
static void test_revoked(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;
        pid_t child = child_new(0);
        LeaseId id = acquire_for(client, child, "a", "0-1", "guest");
        LeaseId shared = acquire_for(client, child, "b", "2", "shared");
        uint64_t event;

        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", id.text));
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", shared.text));
        broker_wait(broker, find(broker, shared)->state == LEASE_STATE_REVOKED);

        watch = start_watch(broker);
        event = open_event(broker, 1, 0);
        assert_lease_event(
                watch, "contended",
                "off: 'speadm revoke --kill' ends it; perf (pid 4321) samples CPU 1: that has holes");
        assert_session_event(watch, "opened", true);
        close_event(broker, event);
        assert_text(next_event(watch, "lease"), "/change", "uncontended");
        assert_session_event(watch, "closed", false);

        /* Tasks lose nothing, and whoever shares has said so. */
        event = open_event(broker, 1, getpid());
        assert_session_event(watch, "opened", false);
        close_event(broker, event);
        assert_session_event(watch, "closed", false);
        open_event(broker, 2, 0);
        assert_session_event(watch, "opened", false);

        /* With its owner that ends, too. */
        open_event(broker, 0, 0);
        assert_lease_event(watch, "contended", "samples CPU 0");
        assert_session_event(watch, "opened", true);
        child_kill(child);
        assert_text(next_event(watch, "lease"), "/change", "ended");
        assert_text(next_event(watch, "lease"), "/change", "ended");
        assert_session_event(watch, "uncontended", false);
}

static void send_acquire(Client *client, const char *vm, const char *cpus, const char *mode,
                         const char *rest) {
        client_send(client, BROKER "Acquire", false,
                    "{\"request\":{\"vm\":\"%s\",\"vcpus\":1,\"cpus\":\"%s\",\"mode\":\"%s\","
                    "\"bufferSize\":4096}%s}",
                    vm, cpus, mode, rest);
}

static void test_busy(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t child = child_new(0);
        struct json_object *error;

        acquire_for(client, getpid(), "holder", "0", "guest");
        open_event(broker, 0, child);
        open_event(broker, 1, 0);
        open_event(broker, 3, 0);

        send_acquire(client, "a", "1-2", "guest", "");
        error = client_receive(client);
        assert_error(error, BROKER "Busy");
        assert_int_equal(json_object_array_length(at(error, "/parameters/holders")), 1);
        assert_text(error, "/parameters/holders/0/kind", "session");
        assert_null_at(error, "/parameters/holders/0/leaseId");
        assert_null_at(error, "/parameters/holders/0/vm");
        assert_int_equal(int_at(error, "/parameters/holders/0/pid"), 4321);
        assert_int_equal(int_at(error, "/parameters/holders/0/uid"), 1000);
        assert_text(error, "/parameters/holders/0/command", "perf");
        assert_text(error, "/parameters/holders/0/cpus", "1");
        assert_text(client_call(client, BROKER "ListRefusals", NULL), "/parameters/refusals/0/message",
                    "CPU 1 of arm_spe_0 is taken: perf (pid 4321) has a session there");

        /* Leases first, and all that an exclusive one cannot have. */
        send_acquire(client, "a", "0-3", "exclusive", "");
        error = client_receive(client);
        assert_int_equal(json_object_array_length(at(error, "/parameters/holders")), 4);
        assert_text(error, "/parameters/holders/0/vm", "holder");
        assert_text(error, "/parameters/holders/1/cpus", "0");
        assert_text(error, "/parameters/holders/2/cpus", "1");
        assert_text(error, "/parameters/holders/3/cpus", "3");

        /* Where nobody is, and where sharing is wanted, they are no obstacle. */
        acquire_for(client, getpid(), "a", "2", "guest");
        acquire_for(client, getpid(), "a", "1", "shared");
        child_kill(child);
}

/* It waits until the last of them has closed. */
static void test_wait(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *first = client_new(broker), *second = client_new(broker);
        uint64_t a = open_event(broker, 0, 0), b = open_event(broker, 1, 0);

        send_acquire(first, "a", "0-1", "exclusive", WAIT_LONG);
        send_acquire(second, "b", "1", "guest", WAIT_LONG);
        assert_true(client_is_silent(first) && client_is_silent(second));
        close_event(broker, a);
        assert_true(client_is_silent(first) && client_is_silent(second));
        close_event(broker, b);
        lease_id(client_receive(first));
        assert_true(client_is_silent(second));
        assert_int_equal(broker->manager->leases.n_waiting, 1);
}

/* What an assignment does not allow is listed until it closes; then the call is done. */
static void test_assign(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker);
        uint64_t a = open_event(broker, 0, 0), b = open_event(broker, 1, 0);
        struct json_object *reply;

        open_event(broker, 3, 0);
        client_send(waiter, ADMIN "Assign", true, "{\"cpus\":\"0-2\",\"owner\":\"guest\",\"runtime\":true}");
        reply = client_receive(waiter);
        assert_true(bool_at(reply, "/continues"));
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 0);
        assert_int_equal(json_object_array_length(at(reply, "/parameters/draining")), 2);
        assert_text(reply, "/parameters/draining/0/cpus", "0");
        assert_text(reply, "/parameters/draining/1/cpus", "1");
        client_call(client, BROKER "ListInstances", NULL);
        assert_text(client->message, "/parameters/instances/0/assignments/0/state", "draining");

        close_event(broker, a);
        reply = client_receive(waiter);
        assert_true(bool_at(reply, "/continues"));
        assert_text(reply, "/parameters/draining/0/cpus", "1");
        close_event(broker, b);
        reply = client_receive(waiter);
        assert_null(json_object_object_get(reply, "continues"));
        assert_int_equal(json_object_array_length(at(reply, "/parameters/draining")), 0);
        client_call(client, BROKER "ListInstances", NULL);
        assert_text(client->message, "/parameters/instances/0/assignments/0/state", "active");

        /* The host's own CPUs are for sessions. */
        client_send(waiter, ADMIN "Assign", true, "{\"cpus\":\"3\",\"owner\":\"host\",\"runtime\":true}");
        assert_null(json_object_object_get(client_receive(waiter), "continues"));
        /* And drained ones are nobody's. */
        client_send(waiter, ADMIN "Assign", true, "{\"cpus\":\"3\",\"owner\":\"none\",\"runtime\":true}");
        assert_text(client_receive(waiter), "/parameters/draining/0/cpus", "3");
}

/* Somebody is there whom nobody sees: the kernel's word is enough, but there is no name to give. */
static void test_unseen(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        struct json_object *error;

        acquire_for(client, getpid(), "holder", "3", "exclusive");
        cpuset_add_range(&broker->manager->sessions.unseen, 2, 3);
        cpuset_add(&broker->manager->sessions.unseen, 9);
        sessions_place(broker->manager);
        /* At this level the next settle() would know better. */
        assert_int_equal(sd_event_source_set_enabled(broker->manager->settle_source, SD_EVENT_OFF), 0);
        client_call(client, BROKER "Query", "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"1-2\"}}");
        error = at(client->message, "/parameters/decision/refusals/0");
        assert_error(error, BROKER "Busy");
        assert_text(
                error, "/message",
                "CPU 2 of arm_spe_0 is taken: the kernel says that somebody has a session there, whom the "
                "broker cannot see");
        assert_text(error, "/holders/0/kind", "session");
        assert_text(error, "/holders/0/cpus", "2");
        assert_null_at(error, "/holders/0/pid");
        assert_null_at(error, "/holders/0/uid");
        assert_null_at(error, "/holders/0/command");
        client_call(client, BROKER "Query", "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0-1\"}}");
        assert_true(bool_at(client->message, "/parameters/decision/granted"));

        /* To one that shares, only the lease is in the way. */
        client_call(client, BROKER "Query",
                    "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"2-3\",\"mode\":\"shared\"}}");
        error = at(client->message, "/parameters/decision/refusals/0");
        assert_int_equal(json_object_array_length(at(error, "/holders")), 1);
        assert_text(error, "/holders/0/kind", "lease");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_cpu_wide, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_move, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_shared, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_tasks, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_exclusive, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_both_causes, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_revoked, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_busy, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_wait, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_assign, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_unseen, setup_observe, session_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
