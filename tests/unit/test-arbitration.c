/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Level enforce, with the kernel as a fake: leases and sessions that are in each other's way, and that race.
 */

#include "tests/unit/broker-fixture.h"

#include <errno.h>

#include "broker/arbitration.h"
#include "broker/session.h"
#include "tests/unit/arbitration-fixture.h"
#include "tests/unit/fake-arbiter.h"

static int setup(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_LSM, "enforce");
}

/* Closed as soon as it is answered, open again as soon as it is released. */
static void test_closes(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId guest, exclusive;
        pid_t vmm = child_new(0);

        assert_closed("", "");
        guest = acquire_for(client, vmm, "a", "0-1", "guest");
        assert_closed("0-1", "");
        assert_owner(vmm, "0-1");
        exclusive = acquire_for(client, getpid(), "b", "4", "exclusive");
        assert_closed("0-1,4", "4");
        assert_owner(getpid(), "");
        acquire_for(client, getpid(), "c", "5-6", "shared");
        assert_closed("0-1,4", "4");

        release(client, exclusive);
        assert_closed("0-1", "");
        assert_fine(
                client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1-3\"}", guest.text));
        assert_closed("1-3", "");
        assert_owner(vmm, "1-3");
        child_kill(vmm);
        broker_wait(broker, !find(broker, guest));
        assert_closed("", "");
        assert_owner(vmm, "");
}

/* The owner's CPUs are those of all its guest leases. */
static void test_owner(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId a = acquire_for(client, getpid(), "a", "0-1", "guest"),
                b = acquire_for(client, getpid(), "b", "1-2", "guest");

        assert_owner(getpid(), "0-2");
        assert_int_equal(fake_open(on_thread(getpid(), 1)), 0);
        assert_int_not_equal(fake_open(on_thread(getppid(), 1)), 0);
        release(client, a);
        assert_owner(getpid(), "1-2");
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", b.text));
        broker_wait(broker, find(broker, b)->state == LEASE_STATE_REVOKED);
        assert_owner(getpid(), "");
}

/* What assignments keep free, the kernel does. */
static void test_assignments(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        assert_fine(client_call(client, ADMIN "Assign",
                                "{\"cpus\":\"0-1\",\"owner\":\"guest\",\"runtime\":true}"));
        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"2\",\"owner\":\"none\",\"runtime\":true}"));
        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"3\",\"owner\":\"host\",\"runtime\":true}"));
        assert_closed("0-2", "0-2");
        assert_fine(client_call(client, ADMIN "Unassign", "{\"cpus\":\"0,2\"}"));
        assert_closed("1", "1");
}

/* A session is Busy, by name; beside it, and for who shares, there is room. */
static void test_busy(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t session = fake_open(on_cpu(2));

        assert_int_not_equal(session, 0);
        send_acquire(client, "a", "0-3", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        assert_text(client->message, "/parameters/holders/0/kind", "session");
        assert_text(client->message, "/parameters/holders/0/cpus", "2");
        assert_closed("", "");

        acquire_for(client, getpid(), "a", "0-1,3", "guest");
        acquire_for(client, getpid(), "b", "2", "shared");
        assert_closed("0-1,3", "");
        fake_close(session);
        /* Although nobody has told the broker yet: it looks. */
        acquire_for(client, getpid(), "c", "2", "guest");
        assert_closed("0-3", "");
        assert_int_equal(fake_open(on_cpu(2)), 0);
}

static uint64_t raced;

/* The hook tested the closed sets before they were written: the session is in. */
static void get_in(void) {
        fake_arbiter.closed_fn = NULL;
        raced = fake_put(on_cpu(1));
}

/* It tested them after. */
static void come_too_late(void) {
        fake_arbiter.closed_fn = NULL;
        raced = fake_open(on_cpu(1));
}

/* Of a lease and a session that race, one wins; whoever that is, nothing is left closed for the other. */
static void test_race(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id;

        fake_arbiter.closed_fn = get_in;
        send_acquire(client, "a", "0-1", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        assert_int_not_equal(raced, 0);
        assert_closed("", "");
        assert_owner(getpid(), "");
        assert_int_equal(broker->manager->leases.n, 0);
        fake_close(raced);

        fake_arbiter.closed_fn = come_too_late;
        id = acquire_for(client, getpid(), "a", "0-1", "guest");
        assert_int_equal(raced, 0);

        /* The same for a lease that moves. */
        release(client, id);
        id = acquire_for(client, getpid(), "a", "0", "guest");
        fake_arbiter.closed_fn = get_in;
        client_send(client, BROKER "Update", false, "{\"leaseId\":\"%s\",\"cpus\":\"0-1\"}", id.text);
        assert_error(client_receive(client), BROKER "Busy");
        assert_closed("0", "");
        assert_owner(getpid(), "0");
}

/* Whoever may be anywhere goes elsewhere when its first choice is lost, and leaves nothing closed there. */
static void test_race_elsewhere(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        fake_arbiter.closed_fn = get_in;
        assert_fine(client_call(client, BROKER "Acquire",
                                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"bufferSize\":4096}}"));
        assert_text(client->message, "/parameters/lease/cpus", "4-11");
        assert_closed("4-11", "");
}

/* Nothing has changed: nothing is read. */
static void test_fast(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        unsigned n_reads, n_closes;

        fake_open(on_cpu(3));
        release(client, acquire_for(client, getpid(), "a", "0", "guest"));
        n_reads = fake_arbiter.n_reads;
        n_closes = fake_arbiter.n_closes;
        for (unsigned i = 0; i < 10; i++)
                release(client, acquire_for(client, getpid(), "a", "0", "guest"));
        assert_int_equal(fake_arbiter.n_reads, n_reads);
        assert_int_equal(fake_arbiter.n_closes, n_closes + 20);
}

static unsigned reads_left;

static void decide_later(void) {
        if (reads_left > 0 && --reads_left == 0)
                fake_decide();
}

/* What the hook is about to decide on is waited for, but not for ever. */
static void test_entering(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        unsigned n_reads;
        uint64_t id;

        fake_arbiter.entering = true;
        id = fake_open(on_cpu(0));
        n_reads = fake_arbiter.n_reads;
        send_acquire(client, "a", "0", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        assert_in_range(fake_arbiter.n_reads - n_reads, 2, 100);
        /* It is in nobody else's way. */
        release(client, acquire_for(client, getpid(), "a", "1", "guest"));

        reads_left = 3;
        fake_arbiter.read_fn = decide_later;
        n_reads = fake_arbiter.n_reads;
        send_acquire(client, "a", "0", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        assert_in_range(fake_arbiter.n_reads - n_reads, 3, 4);
        fake_close(id);
}

/* The table cannot be read: whoever asks is told so, and others stay protected. */
static void test_fails(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        acquire_for(client, getpid(), "a", "1", "guest");
        fake_open(on_cpu(5));
        fake_arbiter.read_error = -EIO;
        send_acquire(client, "a", "0", "guest", "");
        assert_error(client_receive(client), "io.systemd.System");
        broker_pump(broker);
        assert_closed("1", "");
        assert_level(client, "enforce", NULL);
        acquire_for(client, getpid(), "a", "0", "shared");

        fake_arbiter.read_error = 0;
        acquire_for(client, getpid(), "a", "0", "guest");
        assert_closed("0-1", "");
}

/* More owners than the kernel's table takes: granted all the same. */
static void test_owners_full(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t vmms[FAKE_OWNERS_MAX + 2];

        for (size_t i = 0; i < ELEMENTS_OF(vmms); i++) {
                vmms[i] = child_new(0);
                acquire_for(client, vmms[i], "a", "0", "guest");
        }
        assert_int_equal(fake_arbiter.n_owners, FAKE_OWNERS_MAX);
        for (size_t i = 0; i < ELEMENTS_OF(vmms); i++)
                child_kill(vmms[i]);
        broker_wait(broker, broker->manager->leases.n == 0);
        assert_int_equal(fake_arbiter.n_owners, 0);
}

/* What an earlier process has left closed is open, if nothing here closes it. */
static void test_left_closed(void **state) {
        Broker *broker = *state;

        broker_stop(broker);
        fake_arbiter.keeps = true;
        cpuset_add(&fake_arbiter.closed.cpu_wide, 1);
        cpuset_add(&fake_arbiter.closed.task_bound, 2);
        fake_arbiter.owners[fake_arbiter.n_owners++] = (FakeOwner){1, {{1}}};
        broker_start(broker);
        assert_closed("", "");
        assert_int_equal(fake_arbiter.n_owners, 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_closes, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_owner, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_assignments, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_busy, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_race, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_race_elsewhere, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_fast, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_entering, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_fails, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_left_closed, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_owners_full, setup, arbitration_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
