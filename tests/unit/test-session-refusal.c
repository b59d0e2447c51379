/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Events that the kernel refused: what is said of them, and that a flood of them drowns nobody else. */

#include "tests/unit/session-fixture.h"

#include <errno.h>

static struct json_object *refusals(Client *client) {
        return at(client_call(client, BROKER "ListRefusals", NULL), "/parameters/refusals");
}

/* Opens what must be refused. */
static void refuse(Broker *broker, int cpu, pid_t thread) {
        assert_int_equal(open_event(broker, cpu, thread), 0);
        broker_wait(broker, fake_arbiter.n_refusals == 0);
}

static void assert_refusal(struct json_object *refusal, const char *error, const char *message,
                           const char *allowed) {
        assert_error(refusal, error);
        if (!strstr(text_at(refusal, "/message"), message))
                fail_msg("no \"%s\" in \"%s\"", message, text_at(refusal, "/message"));
        if (allowed)
                assert_text(refusal, "/allowed", allowed);
        else
                assert_null_at(refusal, "/allowed");
        assert_null_at(refusal, "/vm");
        assert_text(refusal, "/instance", "arm_spe_0");
        assert_int_equal(int_at(refusal, "/pid"), 4321);
        assert_int_equal(int_at(refusal, "/uid"), 1000);
}

static void test_lease(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;
        LeaseId id = acquire_for(client, getpid(), "web1", "0-1", "guest");
        struct json_object *refusal;

        watch = start_watch(broker);
        refuse(broker, 1, 0);
        refusal = at(refusals(client), "/0");
        assert_refusal(
                refusal, BROKER "Busy",
                "perf (pid 4321) may not sample CPU 1 of arm_spe_0: VM web1 has CPUs 1 until lease",
                "sessions of tasks are allowed (perf record -p PID, or a command), and CPU-wide ones on "
                "CPUs 2-3 of arm_spe_0");
        assert_text(refusal, "/holders/0/leaseId", id.text);
        assert_text(refusal, "/holders/0/kind", "lease");
        assert_text(refusal, "/holders/0/cpus", "1");
        refusal = next_event(watch, "refusal");
        assert_text(refusal, "/holders/0/leaseId", id.text);
        assert_true(client_is_silent(watch)); /* it was no session at any time */
        assert_int_equal(broker->manager->sessions.n, 0);

        /* The allowed twins. */
        assert_int_not_equal(open_event(broker, 2, 0), 0);
        assert_int_equal(json_object_array_length(refusals(client)), 1);
}

static void test_exclusive(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t child = child_new(0);

        acquire_for(client, getpid(), "web1", "0-1", "exclusive");
        refuse(broker, 1, 0);
        assert_refusal(at(refusals(client), "/0"), BROKER "Busy", "VM web1 has CPUs 1",
                       "CPU-wide sessions are allowed on CPUs 2-3 of arm_spe_0");
        refuse(broker, 0, child);
        assert_refusal(
                at(refusals(client), "/0"), BROKER "Busy", "may not sample thread",
                "sessions of tasks that may run on CPUs 2-3 of arm_spe_0 only are allowed (taskset -c)");
        child_kill(child);
}

/* The owner's own threads, on a lease that lets other tasks' sessions be. */
static void test_owner(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t child = child_new(0), other = child_new(0);
        LeaseId id = acquire_for(client, child, "web1", "0", "guest");

        broker_pump(broker);
        refuse(broker, 0, child);
        assert_refusal(at(refusals(client), "/0"), BROKER "Busy", "VM web1 has CPUs 0",
                       "sessions of tasks other than the lease's owner are allowed");
        assert_text(refusals(client), "/0/holders/0/leaseId", id.text);
        assert_int_not_equal(open_event(broker, 0, other), 0);
        child_kill(child);
        child_kill(other);
}

static void test_assigned(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        assert_fine(client_call(client, ADMIN "Assign",
                                "{\"cpus\":\"0-1\",\"owner\":\"guest\",\"vm\":\"web1\",\"runtime\":true}"));
        assert_fine(client_call(client, ADMIN "Assign",
                                "{\"cpus\":\"2-3\",\"owner\":\"none\",\"runtime\":true}"));
        refuse(broker, 1, 0);
        assert_refusal(at(refusals(client), "/0"), BROKER "NotAssigned",
                       "may not sample CPU 1 of arm_spe_0: CPUs 1 are assigned to VM web1", NULL);
        assert_text(refusals(client), "/0/owner", "guest");
        assert_text(refusals(client), "/0/cpus", "1");
        assert_text(refusals(client), "/0/assignedVm", "web1");
        refuse(broker, 2, 0);
        assert_refusal(at(refusals(client), "/0"), BROKER "NotAssigned", "CPUs 2 are drained", NULL);
        assert_text(refusals(client), "/0/owner", "none");
        assert_null_at(refusals(client), "/0/assignedVm");

        assert_fine(client_call(client, ADMIN "Unassign", "{\"cpus\":\"2-3\"}"));
        assert_int_not_equal(open_event(broker, 2, 0), 0);
}

/* The kernel has no room for it. */
static void test_full(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        ArbiterRefusal refusal = {.cause = ARBITER_CAUSE_FULL, .session = an_event(1, 0)};

        fake_refuse(&refusal);
        broker_wait(broker, fake_arbiter.n_refusals == 0);
        assert_refusal(at(refusals(client), "/0"), BROKER "ArbitrationUnavailable", "is full", NULL);
}

/* The same once more is the same entry. */
static void test_repeated(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = NULL;

        acquire_for(client, getpid(), "web1", "0-1", "guest");
        watch = start_watch(broker);
        for (unsigned i = 0; i < 1000; i++)
                refuse(broker, 1, 0);
        refuse(broker, 0, 0);
        assert_int_equal(json_object_array_length(refusals(client)), 2);
        assert_non_null(strstr(text_at(refusals(client), "/1/message"), "(1000 times)"));
        assert_null(strstr(text_at(refusals(client), "/0/message"), "times"));
        assert_text(next_event(watch, "refusal"), "/holders/0/cpus", "1");
        assert_text(next_event(watch, "refusal"), "/holders/0/cpus", "0");
        assert_true(client_is_silent(watch));
}

/* However many processes are refused, those of others are kept. */
static void test_flood(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        ArbiterSession session = an_event(1, 0);
        unsigned n_flood = 0;
        size_t n;

        acquire_for(client, getpid(), "web1", "0-1", "guest");
        client_call(client, BROKER "Acquire",
                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\",\"mode\":\"exclusive\"}}");
        assert_error(client->message, BROKER "Busy");
        refuse(broker, 0, 0);

        session.uid = 2000;
        for (pid_t pid = 10000; pid < 15000; pid++) {
                session.pid = pid;
                assert_int_equal(fake_open(session), 0);
        }
        broker_wait(broker, fake_arbiter.n_refusals == 0);

        n = json_object_array_length(refusals(client));
        for (size_t i = 0; i < n; i++) {
                struct json_object *refusal =
                        json_object_array_get_idx(at(client->message, "/parameters/refusals"), i);

                n_flood += int_at(refusal, "/uid") == 2000;
        }
        assert_true(n_flood > 0 && n_flood <= 64);
        assert_int_equal(n, n_flood + 2);
        assert_true(broker->manager->sessions.refusals_lost >= 5000 - 256);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_lease, setup_enforce, session_teardown),
                cmocka_unit_test_setup_teardown(test_exclusive, setup_enforce, session_teardown),
                cmocka_unit_test_setup_teardown(test_owner, setup_enforce, session_teardown),
                cmocka_unit_test_setup_teardown(test_assigned, setup_enforce, session_teardown),
                cmocka_unit_test_setup_teardown(test_full, setup_enforce, session_teardown),
                cmocka_unit_test_setup_teardown(test_repeated, setup_enforce, session_teardown),
                cmocka_unit_test_setup_teardown(test_flood, setup_enforce, session_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
