/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Waiting, in order; assignments that take CPUs away; instances that come and go. */

#include "tests/unit/broker-fixture.h"

#include <limits.h>

#include "broker/settle.h"

#define WAIT_LONG ",\"waitUSec\":" LONG_USEC

static void send_acquire(Client *client, bool more, const char *vm, const char *cpus, const char *mode,
                         const char *rest) {
        client_send(client, BROKER "Acquire", more,
                    "{\"request\":{\"vm\":\"%s\",\"vcpus\":1,\"cpus\":\"%s\",\"mode\":\"%s\","
                    "\"bufferSize\":4096}%s}",
                    vm, cpus, mode, rest);
}

static void release(Client *client, LeaseId id) {
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
}

/* Behind an earlier waiter, free CPUs are not free; beside it, they are. */
static void test_order(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *first = client_new(broker),
                                       *second = client_new(broker), *third = client_new(broker);
        LeaseId held = acquire_for(client, getpid(), "a", "0", "exclusive"), got;

        send_acquire(first, false, "b", "0-1", "exclusive", WAIT_LONG);
        send_acquire(second, false, "c", "1-2", "guest", WAIT_LONG);
        send_acquire(third, false, "d", "2-3", "exclusive", WAIT_LONG);
        assert_true(client_is_silent(first) && client_is_silent(second) && client_is_silent(third));
        assert_int_equal(broker->manager->leases.n_waiting, 3);
        assert_int_equal(broker->manager->model.ledger.total.n_leases, 1);

        send_acquire(client, false, "e", "2", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        assert_int_equal(json_object_array_length(at(client->message, "/parameters/holders")), 0);
        acquire_for(client, getpid(), "e", "4", "guest");

        release(client, held);
        got = lease_id(client_receive(first));
        assert_true(client_is_silent(second) && client_is_silent(third));
        /* The second goes, and the third may then have what the second claimed. */
        client_disconnect(second);
        lease_id(client_receive(third));
        assert_int_equal(broker->manager->leases.n_waiting, 0);
        assert_int_equal(find(broker, got)->deadline_usec, UINT64_MAX);
}

static void test_wait_runs_out(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker);
        LeaseId held = acquire_for(client, getpid(), "a", "0-1", "exclusive");

        send_acquire(waiter, false, "b", "1", "guest", ",\"waitUSec\":2000");
        assert_error(client_receive(waiter), BROKER "Busy");
        assert_text(waiter->message, "/parameters/holders/0/leaseId", held.text);
        assert_text(waiter->message, "/parameters/holders/0/cpus", "1");
        assert_int_equal(broker->manager->counters.requests_refused, 1);

        /* As a stream: queued, then the same refusal. */
        send_acquire(waiter, true, "b", "1", "guest", ",\"waitUSec\":2000");
        assert_text(client_receive(waiter), "/parameters/change", "queued");
        assert_true(int_at(waiter->message, "/parameters/lease/remainingUSec") <= 2000);
        assert_null_at(waiter->message, "/parameters/lease/pmuType");
        assert_error(client_receive(waiter), BROKER "Busy");

        assert_invalid(
                (send_acquire(waiter, false, "b", "1", "guest", ",\"waitUSec\":-1"), client_receive(waiter)),
                "waitUSec");
        send_acquire(waiter, false, "b", "1", "guest", ",\"waitUSec\":0");
        assert_error(client_receive(waiter), BROKER "Busy");
        release(client, held);
        assert_idle(broker);
}

/* The longest wait is a wait, not a deadline that has passed. */
static void test_longest_wait(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker);
        LeaseId held = acquire_for(client, getpid(), "a", "0", "exclusive");

        send_acquire(waiter, false, "b", "0", "guest", ",\"waitUSec\":9223372036854775807");
        assert_true(client_is_silent(waiter));
        release(client, held);
        release(waiter, lease_id(client_receive(waiter)));
        assert_idle(broker);
}

/* A waiter goes with its connection, its owner, an administrator's word, and leaves nothing. */
static void test_waiters_go(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker),
                                       *other = client_new(broker);
        LeaseId held = acquire_for(client, getpid(), "a", "0", "exclusive"), id;
        pid_t vmm = child_new(0);
        char rest[64];

        send_acquire(waiter, true, "b", "0", "guest", WAIT_LONG);
        id = lease_id(client_receive(waiter));
        client_send(other, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
        client_receive(other);
        client_disconnect(waiter);
        assert_null(find(broker, id));
        assert_text(client_receive(other), "/parameters/change", "ended");

        (void)snprintf(rest, sizeof(rest), "},\"waitUSec\":%s", LONG_USEC);
        client_send(other, BROKER "Acquire", false,
                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\",\"pid\":%i%s}", (int)vmm, rest);
        assert_int_equal(broker->manager->leases.n_waiting, 1);
        child_kill(vmm);
        assert_error(client_receive(other), BROKER "NoSuchLease");

        send_acquire(other, true, "b", "0", "guest", WAIT_LONG);
        id = lease_id(client_receive(other));
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\"}", id.text));
        assert_text(client_receive(other), "/parameters/change", "ended");
        release(client, held);
        assert_idle(broker);
}

/* Whoever waits for CPUs that are assigned to others now waits in vain, and is told at once. */
static void test_assigned_while_waiting(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker),
                                       *patient = client_new(broker);

        acquire_for(client, getpid(), "a", "0-1", "exclusive");
        send_acquire(waiter, false, "b", "0", "guest", WAIT_LONG);
        send_acquire(patient, false, "b", "1", "guest", WAIT_LONG);
        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"host\",\"runtime\":true}"));
        assert_error(client_receive(waiter), BROKER "NotAssigned");
        assert_text(waiter->message, "/parameters/owner", "host");
        assert_true(client_is_silent(patient));
}

/* Leases shrink to what is left to them, or are revoked if nothing is. */
static void test_assignments_take_cpus(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *follower = client_new(broker);
        LeaseId some = acquire_for(client, getpid(), "a", "0-2", "guest"),
                all = acquire_for(client, getpid(), "b", "0-1", "guest"),
                none = acquire_for(client, getpid(), "c", "3", "guest");
        struct json_object *reply;

        client_send(follower, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", some.text);
        client_receive(follower);
        reply = client_call(client, ADMIN "Assign", "{\"cpus\":\"0-1\",\"owner\":\"host\",\"runtime\":true}");
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 2);
        assert_text(reply, "/parameters/affected/0/leaseId", some.text);
        assert_text(reply, "/parameters/affected/0/cpus", "2");
        assert_text(reply, "/parameters/affected/1/leaseId", all.text);
        assert_text(reply, "/parameters/affected/1/state", "revoking");
        assert_int_equal(json_object_array_length(at(reply, "/parameters/draining")), 0);
        assert_text(client_receive(follower), "/parameters/change", "cpus");
        assert_text(follower->message, "/parameters/lease/cpus", "2");
        assert_int_equal(find(broker, none)->state, LEASE_STATE_GRANTED);

        /* An Assign of other CPUs affects nobody, the same one again the one that is still there. */
        reply = client_call(client, ADMIN "Assign", "{\"cpus\":\"3\",\"owner\":\"any\",\"runtime\":true}");
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 0);
        reply = client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"none\",\"runtime\":true}");
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 1);
        release(client, all);
        reply = client_call(client, ADMIN "Assign", "{\"cpus\":\"3\",\"owner\":\"guest\",\"runtime\":true}");
        assert_int_equal(json_object_array_length(at(reply, "/parameters/affected")), 0);
}

/* One call of a turn sees what the one before it did, whether the loop has come round or not. */
static void test_calls_in_one_write(void **state) {
        static const char calls[] =
                "{\"method\":\"io.spebroker.Admin.Unassign\",\"parameters\":{\"cpus\":\"0-3\"}}\0"
                "{\"method\":\"io.spebroker.Admin.Assign\",\"parameters\":{\"cpus\":\"0-3\","
                "\"owner\":\"none\",\"runtime\":true}}\0"
                "{\"method\":\"io.spebroker.Broker.Query\",\"parameters\":{\"request\":{"
                "\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\"}}}";
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        assert_int_equal(send(client->fd, calls, sizeof(calls), 0), sizeof(calls));
        assert_fine(client_receive(client));
        assert_fine(client_receive(client));
        assert_false(bool_at(client_receive(client), "/parameters/decision/granted"));
        assert_text(client->message, "/parameters/decision/refusals/0/error", BROKER "NotAssigned");
}

static void write_file(const Broker *broker, const char *name, const char *text) {
        char path[256];
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/run/spe-broker/simulated/%s", broker->path, name);
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static void rename_device(const Broker *broker, const char *from, const char *to) {
        char a[256], b[256];

        (void)snprintf(a, sizeof(a), "%s/run/spe-broker/simulated/sys/bus/event_source/devices/%s",
                       broker->path, from);
        (void)snprintf(b, sizeof(b), "%s/run/spe-broker/simulated/sys/bus/event_source/devices/%s",
                       broker->path, to);
        assert_int_equal(rename(a, b), 0);
}

/* An instance that vanishes stays for its leases, as gone, and goes with the last of them. */
static void test_instance_gone(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        InstanceTable *instances = &broker->manager->model.instances;
        LeaseId id = acquire_for(client, getpid(), "a", "0", "guest");
        struct json_object *reply;

        rename_device(broker, "arm_spe_0", "elsewhere_0");
        rename_device(broker, "arm_spe_1", "elsewhere_1");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        assert_int_equal(instances->n, 1);
        assert_int_equal(instances->entries[0]->state, INSTANCE_STATE_GONE);
        reply = client_call(client, BROKER "Update", "{\"leaseId\":\"%s\"}", id.text);
        assert_null_at(reply, "/parameters/lease/pmuType");
        assert_text(reply, "/parameters/lease/instance", "arm_spe_0");
        reply = client_call(client, BROKER "Acquire",
                            "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"instance\":\"arm_spe_0\"}}");
        assert_error(reply, BROKER "InstanceNotReady");
        assert_text(reply, "/parameters/state", "gone");
        assert_error(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1\"}", id.text),
                     BROKER "InstanceNotReady");

        release(client, id);
        broker_pump(broker);
        assert_int_equal(instances->n, 0);
        assert_error(client_call(client, BROKER "Acquire", "{\"request\":{\"vm\":\"b\",\"vcpus\":1}}"),
                     BROKER "NoSuchInstance");
        assert_idle(broker);
}

/* Another PMU type after a reload of the driver: a VM that may have had the old one must be restarted. */
static void test_instance_comes_back(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0", "guest");
        Owner *owner = find(broker, id)->owner->owner;
        struct json_object *reply;

        rename_device(broker, "arm_spe_0", "elsewhere_0");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        rename_device(broker, "elsewhere_0", "arm_spe_0");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        reply = client_call(client, BROKER "Update", "{\"leaseId\":\"%s\"}", id.text);
        assert_false(bool_at(reply, "/parameters/lease/restartRequired"));

        write_file(broker, "sys/bus/event_source/devices/arm_spe_0/type", "4711\n");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        reply = client_call(client, BROKER "Update", "{\"leaseId\":\"%s\"}", id.text);
        assert_false(bool_at(reply, "/parameters/lease/restartRequired"));
        assert_int_equal(int_at(reply, "/parameters/lease/pmuType"), 4711);

        /* A process that cannot be asked what it has locked may have enabled it. */
        owner->pid = INT_MAX;
        write_file(broker, "sys/bus/event_source/devices/arm_spe_0/type", "4712\n");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        owner->pid = getpid();
        reply = client_call(client, BROKER "Update", "{\"leaseId\":\"%s\"}", id.text);
        assert_true(bool_at(reply, "/parameters/lease/restartRequired"));
        assert_int_equal(int_at(reply, "/parameters/lease/pmuType"), 4712);

        /* Decided once: it does not become less by looking again. */
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        assert_true(find(broker, id)->restart_required);
        assert_int_equal(broker->manager->model.instances.n, 2);
}

/* A lease that is away is in the list of those until it is back, revoked, or ended; whatever comes first. */
static void test_away(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseTable *leases = &broker->manager->leases;
        LeaseId back = acquire_for(client, getpid(), "a", "0", "guest"),
                revoked = acquire_for(client, getpid(), "b", "0", "guest"),
                ended = acquire_for(client, getpid(), "c", "0", "guest"), killed;
        pid_t vmm = child_new(0);

        killed = acquire_for(client, vmm, "d", "0", "guest");
        assert_true(LIST_EMPTY(&leases->away));
        rename_device(broker, "arm_spe_0", "elsewhere_0");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        assert_true(find(broker, back)->away_linked && find(broker, revoked)->away_linked);
        assert_fine(
                client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", revoked.text));
        assert_fine(client_call(client, ADMIN "Revoke",
                                "{\"leaseId\":\"%s\",\"graceUSec\":1000,\"kill\":true}", killed.text));
        release(client, ended);
        assert_false(find(broker, revoked)->away_linked);
        assert_true(find(broker, revoked)->away);
        broker_wait(broker, !find(broker, killed));
        assert_int_equal(child_wait(vmm), SIGTERM);

        rename_device(broker, "elsewhere_0", "arm_spe_0");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        assert_true(LIST_EMPTY(&leases->away));
        assert_false(find(broker, revoked)->away);
        assert_false(find(broker, revoked)->restart_required);
        assert_int_equal(find(broker, back)->away_deadline_usec, UINT64_MAX);
        release(client, back);
        release(client, revoked);
        assert_idle(broker);
}

/* The grace of the SPU ends before that of a revocation that ends in a kill: the owner is killed all the
 * same. */
static void test_away_and_killed(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t vmm = child_new(0);
        LeaseId id = acquire_for(client, vmm, "a", "0", "guest");

        broker->manager->config->gone_grace_usec = 0;
        assert_fine(client_call(client, ADMIN "Revoke",
                                "{\"leaseId\":\"%s\",\"graceUSec\":300000,\"kill\":true}", id.text));
        rename_device(broker, "arm_spe_0", "elsewhere_0");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        assert_int_equal(find(broker, id)->state, LEASE_STATE_REVOKED);
        assert_int_equal(broker->manager->leases.n_revoked, 1);
        broker_wait(broker, !find(broker, id));
        assert_int_equal(child_wait(vmm), SIGTERM);
        assert_idle(broker);
}

/* What is waited for becomes ready again; what is not there any more is not waited for. */
static void test_waiting_for_an_instance(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker);

        acquire_for(client, getpid(), "a", "0", "exclusive");
        send_acquire(waiter, false, "b", "0", "guest", WAIT_LONG);
        rename_device(broker, "arm_spe_0", "elsewhere_0");
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        assert_error(client_receive(waiter), BROKER "InstanceNotReady");
        assert_int_equal(broker->manager->leases.n_waiting, 0);
}

/* An assignment with an end ends by itself, and what it kept waiting or away comes back. */
static void test_expiry(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        const AssignmentTable *table = &broker->manager->model.assignments;

        assert_fine(client_call(client, ADMIN "Assign",
                                "{\"cpus\":\"0\",\"owner\":\"host\",\"forUSec\":" LONG_USEC "}"));
        assert_int_equal(table->n, 1);
        assert_int_equal(table->entries[0]->origin, ASSIGNMENT_ORIGIN_RUNTIME);
        assert_error(client_call(client, BROKER "Acquire",
                                 "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"}}"),
                     BROKER "NotAssigned");
        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"none\",\"forUSec\":1000}"));
        broker_wait(broker, table->n == 0);
        acquire_for(client, getpid(), "b", "0", "guest");

        assert_invalid(client_call(client, ADMIN "Assign",
                                   "{\"cpus\":\"0\",\"owner\":\"host\",\"forUSec\":9223372036854775807}"),
                       "forUSec");
        assert_invalid(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"0\",\"owner\":\"host\",\"forUSec\":0}"),
                "forUSec");
        /* Far, but before the end of time. */
        assert_fine(client_call(client, ADMIN "Assign",
                                "{\"cpus\":\"0\",\"owner\":\"guest\",\"forUSec\":7000000000000000000}"));
        broker_pump(broker);
        assert_int_equal(table->n, 1);
}

/* Many waiters with one deadline are all refused in one run, which ends. */
static void test_many_waiters(void **state) {
        enum { N = 64 };
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId held = acquire_for(client, getpid(), "a", "0-3", "exclusive");
        Client *waiters[N];

        for (size_t i = 0; i < N; i++) {
                waiters[i] = client_new(broker);
                send_acquire(waiters[i], i % 2, "b", i % 3 ? "0-1" : "2", i % 4 ? "guest" : "exclusive",
                             i % 5 ? ",\"waitUSec\":1000" : WAIT_LONG);
        }
        broker_wait(broker, broker->manager->leases.n_waiting == (N + 4) / 5);
        release(client, held);
        broker_wait(broker, broker->manager->counters.leases_granted > 2);
        broker_wait(broker, !broker->manager->leases.next_waiter);
        assert_true(broker->manager->leases.n_waiting > 0);
        for (size_t i = 0; i < N; i++)
                client_free(waiters[i]);
        assert_int_equal(broker->manager->leases.n_waiting, 0);
}

/* A release without anybody who waits, watches or was revoked is no reason to look at anything. */
static void test_nothing_to_settle(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t generation;

        broker_pump(broker);
        generation = broker->manager->settle_generation;
        for (int i = 0; i < 10; i++)
                release(client, acquire_for(client, getpid(), "a", "0", "exclusive"));
        assert_int_equal(broker->manager->settle_generation, generation);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_order, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_wait_runs_out, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_longest_wait, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_waiters_go, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_assigned_while_waiting, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_assignments_take_cpus, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_calls_in_one_write, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_instance_gone, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_instance_comes_back, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_away, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_away_and_killed, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_waiting_for_an_instance, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_expiry, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_many_waiters, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_nothing_to_settle, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
