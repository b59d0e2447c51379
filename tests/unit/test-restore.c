/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The end of one broker and the start of the next: whose leases go on, and that nothing which the kernel
 * refuses for them is let in between.
 */

#include "tests/unit/restore-fixture.h"

#include "tests/unit/arbitration-fixture.h"

/* Who is there. */

/* A lease of a process that has gone, or is another one, ends; those of others do not. */
static void test_owners(void **state) {
        Broker *broker = *state;
        Client *client = client_new(broker);
        pid_t dead = child_new(0), zombie = child_new(0), alive = child_new(0);
        LeaseId of_dead = acquire_for(client, dead, "a", "0", "exclusive"),
                of_zombie = acquire_for(client, zombie, "b", "1", "exclusive"),
                of_alive = acquire_for(client, alive, "c", "2", "exclusive");

        client_free(client);
        broker_stop(broker);
        child_kill(dead);
        assert_int_equal(kill(zombie, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t)zombie, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
        broker_start(broker);
        assert_int_equal(broker->manager->leases.n, 1);
        assert_non_null(find(broker, of_alive));
        assert_false(is_on_record(broker, of_dead) || is_on_record(broker, of_zombie));
        assert_on_record(broker);
        (void)child_wait(zombie);

        /* The owner is watched again. */
        child_kill(alive);
        broker_wait(broker, broker->manager->leases.n == 0);
        assert_idle(broker);
        assert_false(is_on_record(broker, of_alive));
}

/* A request id is its owner's, before and after. */
static void test_request_id(void **state) {
        static const char request[] =
                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\",\"requestId\":\"r\"}}";
        Broker *broker = *state;
        Client *client = client_new(broker);
        LeaseId id = lease_id(client_call(client, BROKER "Acquire", request)), again;

        client_free(client);
        restart(broker);
        client = client_new(broker);
        again = lease_id(client_call(client, BROKER "Acquire", request));
        assert_string_equal(id.text, again.text);
        assert_invalid(client_call(client, BROKER "Acquire",
                                   "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"requestId\":\"r\"}}"),
                       "requestId");
        assert_int_equal(broker->manager->leases.n, 1);
        client_free(client);
}

/* Who waits is not kept; nobody is told that the others ended. */
static void test_streams(void **state) {
        Broker *broker = *state;
        Client *follower = client_new(broker), *waiter = client_new(broker);
        LeaseId id = acquire_for(follower, getpid(), "a", "0", "exclusive");
        char byte;

        client_send(follower, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
        client_receive(follower);
        client_send(waiter, BROKER "Acquire", true,
                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"},\"waitUSec\":" LONG_USEC "}");
        client_receive(waiter);
        assert_int_equal(broker->manager->leases.n, 2);

        broker_stop(broker);
        assert_int_equal(recv(follower->fd, &byte, 1, MSG_DONTWAIT), 0);
        assert_int_equal(recv(waiter->fd, &byte, 1, MSG_DONTWAIT), 0);
        assert_true(is_on_record(broker, id));
        broker_start(broker);
        assert_int_equal(broker->manager->leases.n, 1);
        assert_int_equal(find(broker, id)->state, LEASE_STATE_GRANTED);
        client_free(follower);
        client_free(waiter);
}

/* The kernel. */

static CpuSet guarded;
static pid_t guarded_owner;
static unsigned n_changes;

/* Where there is a guest's lease, and on its owner's threads, nothing is open at any instant. */
static void assert_guarded(void) {
        n_changes++;
        assert_true(cpuset_is_subset(&guarded, &fake_arbiter.closed.cpu_wide));
        for (size_t i = 0; i < fake_arbiter.n_owners; i++)
                if (fake_arbiter.owners[i].owner == (OwnerKey)guarded_owner &&
                    cpuset_is_subset(&guarded, &fake_arbiter.owners[i].cpus))
                        return;
        fail_msg("open to sessions on the owner's threads");
}

static int setup_enforce(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_LSM, "enforce");
}

static void test_enforced_throughout(void **state) {
        Broker *broker = *state;
        Client *client = client_new(broker);
        pid_t vmm = child_new(0), gone = child_new(0);
        LeaseId id = acquire_for(client, vmm, "a", "1-2", "guest");

        acquire_for(client, gone, "b", "6", "guest");
        acquire_for(client, vmm, "c", "3", "shared");
        broker_pump(broker);
        client_free(client);
        fake_arbiter.keeps = true;
        guarded = CPUSET_NULL;
        cpuset_add_range(&guarded, 1, 2);
        guarded_owner = vmm;
        n_changes = 0;
        fake_arbiter.changed_fn = assert_guarded;

        broker_stop(broker);
        assert_int_equal(n_changes, 0);
        assert_closed("1-2,6", "");
        assert_owner(gone, "6");
        child_kill(gone);
        broker_start(broker);
        broker_pump(broker);
        assert_true(n_changes > 0);
        assert_closed("1-2", "");
        assert_owner(vmm, "1-2");
        assert_owner(gone, "");
        assert_non_null(find(broker, id));

        /* And once more, to another level and back: no change of the rule that opens is left unnoticed. */
        fake_arbiter.changed_fn = NULL;
        child_kill(vmm);
        broker_wait(broker, broker->manager->leases.n == 0);
        broker_pump(broker);
        assert_closed("", "");
        assert_int_equal(fake_arbiter.n_owners, 0);
        fake_arbiter.keeps = false;
}

static void assert_held_still(unsigned cpu) {
        n_changes++;
        assert_false(cpuset_has(&guarded, cpu));
}

static int setup_reserve(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_TRAMPOLINES, "reserve");
}

static void test_held_throughout(void **state) {
        Broker *broker = *state;
        Client *client = client_new(broker);
        pid_t vmm = child_new(0), gone = child_new(0);
        unsigned n_opens;

        acquire_for(client, vmm, "a", "1-2", "guest");
        acquire_for(client, gone, "b", "6", "guest");
        broker_pump(broker);
        client_free(client);
        fake_reserve.keeps = true;
        guarded = CPUSET_NULL;
        cpuset_add_range(&guarded, 1, 2);
        n_changes = 0;
        fake_reserve.released_fn = assert_held_still;

        broker_stop(broker);
        assert_cpus(&fake_reserve.held, "1-2,6");
        child_kill(gone);
        n_opens = fake_reserve.n_opens;
        broker_start(broker);
        broker_pump(broker);
        assert_cpus(&fake_reserve.held, "1-2");
        assert_int_equal(n_changes, 1);                   /* the other one */
        assert_true(fake_reserve.n_opens <= n_opens + 2); /* what was held is not opened anew */

        fake_reserve.released_fn = NULL;
        fake_reserve.keeps = false;
        child_kill(vmm);
        broker_wait(broker, broker->manager->leases.n == 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_owners, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_request_id, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_streams, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_enforced_throughout, setup_enforce,
                                                arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_held_throughout, setup_reserve, arbitration_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
