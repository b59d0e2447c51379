/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Leases that wait for sessions, on a kernel that is a fake. */

#include "tests/unit/broker-fixture.h"

#include "broker/end.h"
#include "broker/grant.h"
#include "broker/settle.h"
#include "tests/unit/arbitration-fixture.h"

#define WAIT_LONG ",\"waitUSec\":" LONG_USEC

static int setup(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_LSM, "enforce");
}

static int setup_observing(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_TRACEPOINTS, "observe");
}

/* Granted when the session closes, by the bell and nothing else, in the order in which they asked. */
static void test_order(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *first = client_new(broker), *second = client_new(broker),
                                       *third = client_new(broker);
        uint64_t a = fake_open(on_cpu(1)), b = fake_open(on_cpu(2));
        LeaseId id;

        send_acquire(first, "a", "0-1", "exclusive", WAIT_LONG);
        send_acquire(second, "b", "1-2", "guest", WAIT_LONG);
        send_acquire(third, "c", "2-3", "guest", WAIT_LONG);
        assert_true(client_is_silent(first) && client_is_silent(second) && client_is_silent(third));
        assert_int_equal(broker->manager->leases.n_waiting, 3);

        fake_close(a);
        id = lease_id(client_receive(first));
        assert_true(client_is_silent(second) && client_is_silent(third));
        fake_close(b);
        lease_id(client_receive(third)); /* the second waits for the first, which was there before it */
        assert_true(client_is_silent(second));
        release(first, id);
        lease_id(client_receive(second));
        assert_closed("1-3", "");
}

/* The kernel has been told before anybody is. */
static void test_keeps_at_once(void **state) {
        Broker *broker = *state;
        Offer offer = {.instance = broker->manager->model.instances.entries[0], .mode = LEASE_MODE_GUEST};
        LeaseRequest request = LEASE_REQUEST_NULL;
        Lease *lease;

        assert_int_equal(owner_new(getpid(), &request.fresh), 0);
        request.vm = strdup("a");
        assert_non_null(request.vm);
        request.policy = (PolicyRequest){.vcpus = 1, .vm = request.vm, .mode = LEASE_MODE_GUEST};
        assert_int_equal(lease_new(broker->manager, &request, &lease), 0);
        cpuset_add(&offer.cpus, 2);
        lease_enqueue(broker->manager, lease, &offer, UINT64_MAX - 1, &(QuotaToken){0});
        assert_closed("2", "");
        lease_end(broker->manager, lease, "the test is over");
        broker_pump(broker);
        assert_closed("", "");
}

/* What a waiter waits for is closed to others meanwhile; a close and an open race for it in vain. */
static void test_keeps(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t session = fake_open(on_cpu(1));

        send_acquire(client, "a", "0-1", "exclusive", WAIT_LONG);
        assert_true(client_is_silent(client));
        assert_closed("0-1", "0-1");
        assert_int_equal(fake_open(on_cpu(0)), 0);
        assert_int_not_equal(fake_open(on_cpu(2)), 0);
        fake_close(session);
        assert_int_equal(fake_open(on_cpu(1)), 0);
        lease_id(client_receive(client));

        /* With its connection goes what it kept. */
        send_acquire(client, "b", "2-3", "guest", WAIT_LONG);
        assert_true(client_is_silent(client));
        assert_closed("0-3", "0-1");
        client_disconnect(client);
        assert_closed("0-1", "0-1");
}

/* For so long, and no longer; then it is told, once, and still waits. */
static void test_keeps_for_a_while(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t session = fake_open(on_cpu(1)), other, now = manager_now_monotonic(broker->manager);
        Lease *lease;

        send_acquire(client, "a", "0-1", "guest", WAIT_LONG);
        assert_true(client_is_silent(client));
        lease = TAILQ_FIRST(&broker->manager->leases.waiting);
        assert_in_range(lease->keep_usec, now, now + ARBITRATION_KEEP_USEC + DEADLINE_USEC);
        assert_closed("0-1", "");
        assert_false(lease->told_kept);

        lease->keep_usec = manager_now_monotonic(broker->manager) + 1000;
        manager_mark_dirty(broker->manager, DIRTY_DEADLINES);
        broker_wait(broker, lease->told_kept);
        assert_closed("", "");
        other = fake_open(on_cpu(0));
        assert_int_not_equal(other, 0);

        fake_close(session);
        assert_true(client_is_silent(client));
        fake_close(other);
        lease_id(client_receive(client));
        assert_closed("0-1", "");
}

/* One that waits for another lease is nothing to tell. */
static void test_waits_for_lease(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0", "exclusive");
        Lease *lease;

        send_acquire(waiter, "b", "0-1", "guest", WAIT_LONG);
        assert_true(client_is_silent(waiter));
        assert_closed("0-1", "0");
        lease = TAILQ_FIRST(&broker->manager->leases.waiting);
        lease->keep_usec = 0;
        manager_mark_dirty(broker->manager, DIRTY_DEADLINES);
        broker_pump(broker);
        assert_closed("0", "0");
        assert_false(lease->told_kept);

        /* But the session that gets in then is. */
        assert_int_not_equal(fake_open(on_cpu(1)), 0);
        broker_wait(broker, lease->told_kept);
        release(client, id);
        assert_true(client_is_silent(waiter));
        assert_closed("", "");
}

/* Someone who opens and closes all the time cannot keep the broker from anything else. */
static void open_and_close(void) {
        fake_close(fake_put(on_cpu(3)));
        fake_put(on_cpu(3));
        fake_close(fake_arbiter.sessions[0].id);
}

static void test_flood(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker);
        unsigned n_reads;

        fake_put(on_cpu(3));
        send_acquire(waiter, "a", "2-3", "guest", WAIT_LONG);
        assert_true(client_is_silent(waiter));
        fake_arbiter.read_fn = open_and_close;
        n_reads = fake_arbiter.n_reads;
        fake_close(fake_put(on_cpu(3)));
        for (unsigned i = 0; i < 20; i++)
                release(client, acquire_for(client, getpid(), "b", "0", "guest"));
        assert_true(fake_arbiter.n_reads >= n_reads + 20);
        assert_int_equal(broker->manager->leases.n_waiting, 1);
        fake_arbiter.read_fn = NULL;
        fake_close(fake_arbiter.sessions[0].id);
        lease_id(client_receive(waiter));
}

/* However many wait, the table is read for all of them, and not for each. */
static void test_flood_of_waiters(void **state) {
        Broker *broker = *state;
        Client *waiters[8];
        unsigned n_reads;

        fake_put(on_cpu(3));
        for (size_t i = 0; i < ELEMENTS_OF(waiters); i++) {
                waiters[i] = client_new(broker);
                send_acquire(waiters[i], "a", "2-3", "guest", WAIT_LONG);
                assert_true(client_is_silent(waiters[i]));
        }

        fake_arbiter.read_fn = open_and_close;
        fake_close(fake_put(on_cpu(3)));
        n_reads = fake_arbiter.n_reads;
        manager_mark_dirty(broker->manager, DIRTY_QUEUE);
        settle(broker->manager);
        assert_in_range(fake_arbiter.n_reads, n_reads + 1, n_reads + 3);

        fake_arbiter.read_fn = NULL;
        fake_close(fake_arbiter.sessions[0].id);
        for (size_t i = 0; i < ELEMENTS_OF(waiters); i++) {
                lease_id(client_receive(waiters[i]));
                client_free(waiters[i]);
        }
}

/* Without a hand, too: seen and waited for, although nothing is kept free. */
static void test_observing(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t session = fake_open(on_cpu(0));

        send_acquire(client, "a", "0-1", "guest", WAIT_LONG);
        assert_true(client_is_silent(client));
        assert_closed("", "");
        fake_close(session);
        lease_id(client_receive(client));
        assert_closed("", "");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_order, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_keeps_at_once, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_keeps, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_keeps_for_a_while, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_waits_for_lease, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_flood, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_flood_of_waiters, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_observing, setup_observing, arbitration_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
