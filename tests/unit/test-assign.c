/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Assign and Unassign: what they take, what they change, and waiting until nothing is in the way. */

#include "tests/unit/broker-fixture.h"

#include "broker/assign.h"

static const AssignmentTable *table(const Broker *broker) {
        return &broker->manager->model.assignments;
}

static void assert_assigned(const Broker *broker, unsigned cpu, AssignmentOwner owner,
                            AssignmentOrigin origin) {
        const Assignment *assignment = assignment_table_lookup(table(broker), cpu);

        assert_non_null(assignment);
        assert_int_equal(assignment->owner, owner);
        assert_int_equal(assignment->origin, origin);
}

static void test_cpus(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        struct json_object *reply;

        /* By instance, by CPUs, by both. */
        assert_fine(client_call(client, ADMIN "Assign", "{\"instance\":\"arm_spe_0\",\"owner\":\"host\"}"));
        assert_assigned(broker, 0, ASSIGNMENT_OWNER_HOST, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_assigned(broker, 3, ASSIGNMENT_OWNER_HOST, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_null(assignment_table_lookup(table(broker), 4));
        assert_fine(client_call(client, ADMIN "Assign", "{\"cpus\":\"3-4\",\"owner\":\"none\"}"));
        assert_assigned(broker, 4, ASSIGNMENT_OWNER_NONE, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_assigned(broker, 2, ASSIGNMENT_OWNER_HOST, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_fine(client_call(
                client, ADMIN "Assign",
                "{\"cpus\":\"1\",\"instance\":\"arm_spe_0\",\"owner\":\"guest\",\"runtime\":true}"));
        assert_assigned(broker, 1, ASSIGNMENT_OWNER_GUEST, ASSIGNMENT_ORIGIN_RUNTIME);

        /* Neither, none, no instance's, another instance's, no instance. */
        assert_invalid(client_call(client, ADMIN "Assign", "{\"owner\":\"host\"}"), "cpus");
        assert_invalid(client_call(client, ADMIN "Assign", "{\"cpus\":\"\",\"owner\":\"host\"}"), "cpus");
        assert_invalid(client_call(client, ADMIN "Assign", "{\"cpus\":\"11-12\",\"owner\":\"host\"}"),
                       "cpus");
        assert_invalid(client_call(client, ADMIN "Assign",
                                   "{\"cpus\":\"4\",\"instance\":\"arm_spe_0\",\"owner\":\"host\"}"),
                       "cpus");
        reply = client_call(client, ADMIN "Assign", "{\"instance\":\"arm_spe_7\",\"owner\":\"host\"}");
        assert_error(reply, ADMIN "NoSuchInstance");
        assert_text(reply, "/parameters/instance", "arm_spe_7");
        assert_text(reply, "/parameters/instances/1", "arm_spe_1");
        assert_invalid(client_call(client, ADMIN "Unassign", NULL), "cpus");

        /* Away with both origins, on these CPUs alone. */
        assert_fine(client_call(client, ADMIN "Unassign", "{\"cpus\":\"0-1\"}"));
        assert_null(assignment_table_lookup(table(broker), 0));
        assert_null(assignment_table_lookup(table(broker), 1));
        assert_assigned(broker, 2, ASSIGNMENT_OWNER_HOST, ASSIGNMENT_ORIGIN_PERSISTENT);
}

static void test_vm(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        assert_invalid(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"host\",\"vm\":\"a\"}"),
                "vm");
        assert_invalid(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"none\",\"vm\":\"a\"}"),
                "vm");
        assert_invalid(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"guest\",\"vm\":\"\"}"),
                "vm");
        assert_int_equal(table(broker)->n, 0);
        assert_fine(client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"guest\",\"vm\":\"a\"}"));
        assert_string_equal(assignment_table_lookup(table(broker), 0)->vm, "a");
        acquire_for(client, getpid(), "a", "0", "guest");
        assert_error(client_call(client, BROKER "Acquire",
                                 "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"}}"),
                     BROKER "NotAssigned");
        assert_text(client->message, "/parameters/vm", "a");
        assert_text(client->message, "/parameters/owner", "guest");
}

static void test_who_may(void **state) {
        static const char *const calls[][2] = {
                {"Assign", "{\"cpus\":\"0\",\"owner\":\"host\"}"},
                {"Unassign", "{\"cpus\":\"0\"}"},
                {"Revoke", "{\"leaseId\":\"00000000000000000000000000000000\"}"},
                {"Reload", "{}"},
                {"Rescan", "{}"},
        };
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = NULL;

        if (getuid() != 0)
                skip();
        client = client_new_as(broker, OTHER_USER);
        for (size_t i = 0; i < ELEMENTS_OF(calls); i++) {
                char method[64];

                (void)snprintf(method, sizeof(method), ADMIN "%s", calls[i][0]);
                assert_error(client_call(client, method, "%s", calls[i][1]), SERVICE "PermissionDenied");
        }
        assert_int_equal(table(broker)->n, 0);
        assert_int_equal(broker->manager->counters.reloads, 0);
        assert_fine(client_call(client, BROKER "ListInstances", NULL));
}

/* A wait says at once what is in the way, then each step, then that nothing is. */
static void test_wait(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *admin = client_new(broker);
        pid_t vmm = child_new(0);
        LeaseId one = acquire_for(client, getpid(), "a", "0", "guest");
        struct json_object *reply;

        acquire_for(client, vmm, "b", "1", "guest");
        acquire_for(client, getpid(), "c", "2-3", "guest");
        client_send(admin, ADMIN "Assign", true, "{\"cpus\":\"0-2\",\"owner\":\"host\",\"runtime\":true}");
        reply = client_receive(admin);
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 3);
        assert_text(reply, "/parameters/affected/2/cpus", "3");
        assert_true(bool_at(reply, "/continues"));
        assert_true(client_is_silent(admin));
        reply = client_call(client, BROKER "ListInstances", NULL);
        assert_text(reply, "/parameters/instances/0/assignments/0/state", "draining");

        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", one.text));
        reply = client_receive(admin);
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 1);
        assert_text(reply, "/parameters/affected/0/vm", "b");
        assert_true(bool_at(reply, "/continues"));

        child_kill(vmm);
        reply = client_receive(admin);
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 0);
        assert_false(json_object_object_get_ex(reply, "continues", NULL));
        assert_true(LIST_EMPTY(&broker->manager->assign_waits));
        reply = client_call(client, BROKER "ListInstances", NULL);
        assert_text(reply, "/parameters/instances/0/assignments/0/state", "active");

        /* Nothing in the way: one reply. */
        client_send(admin, ADMIN "Assign", true, "{\"cpus\":\"5\",\"owner\":\"host\",\"runtime\":true}");
        assert_false(json_object_object_get_ex(client_receive(admin), "continues", NULL));
}

/* What is waited for may move away instead, or the assignment may end, or whoever waits. */
static void test_wait_ends_otherwise(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *admin = client_new(broker),
                                       *gone = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0", "guest");
        static const char *const assign = "{\"cpus\":\"0\",\"owner\":\"host\",\"runtime\":true}";

        client_send(gone, ADMIN "Assign", true, "%s", assign);
        client_receive(gone);
        client_send(admin, ADMIN "Assign", true, "%s", assign);
        client_receive(admin);
        client_disconnect(gone);
        assert_non_null(LIST_FIRST(&broker->manager->assign_waits));
        assert_null(LIST_NEXT(LIST_FIRST(&broker->manager->assign_waits), link));

        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1\"}", id.text));
        assert_int_equal(json_object_array_length(at(client_receive(admin), "/parameters/affected")), 0);

        client_send(admin, ADMIN "Assign", true, "{\"cpus\":\"1\",\"owner\":\"host\",\"runtime\":true}");
        assert_true(bool_at(client_receive(admin), "/continues"));
        assert_fine(client_call(client, ADMIN "Unassign", "{\"cpus\":\"1\"}"));
        assert_false(json_object_object_get_ex(client_receive(admin), "continues", NULL));
}

/* What was assigned until reboot and for good is there again after a restart. */
static void test_restart(void **state) {
        Broker *broker = *state;
        Client *client = client_new(broker);

        assert_fine(client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"host\"}"));
        assert_fine(client_call(client, ADMIN "Assign",
                                "{\"cpus\":\"1\",\"owner\":\"any\",\"vm\":\"a\",\"runtime\":true}"));
        client_free(client);
        broker_stop(broker);
        broker_start(broker);
        assert_assigned(broker, 0, ASSIGNMENT_OWNER_HOST, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_assigned(broker, 1, ASSIGNMENT_OWNER_ANY, ASSIGNMENT_ORIGIN_RUNTIME);
        assert_string_equal(assignment_table_lookup(table(broker), 1)->vm, "a");
        assert_int_equal(table(broker)->n, 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_cpus, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_vm, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_who_may, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_wait, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_wait_ends_otherwise, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_restart, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
