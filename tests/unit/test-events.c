/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What followers and watchers are told, in which order, and what happens to those that do not read. */

#include "tests/unit/broker-fixture.h"

#include "broker/events.h"
#include "broker/grant.h"

static void watch(Client *client) {
        client_send(client, BROKER "Watch", true, NULL);
        assert_text(client_receive(client), "/parameters/event/kind", "snapshot");
        assert_int_equal(int_at(client->message, "/parameters/event/sequence"), 0);
        assert_false(bool_at(client->message, "/parameters/event/lost"));
}

/* The next event, which must be a change of this lease. */
static struct json_object *next_change(Client *client, LeaseId id, const char *change) {
        struct json_object *event = client_receive(client);

        assert_true(bool_at(event, "/continues"));
        assert_text(event, "/parameters/event/kind", "lease");
        assert_text(event, "/parameters/event/lease/lease/leaseId", id.text);
        assert_text(event, "/parameters/event/lease/change", change);
        return event;
}

static void test_snapshot(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watcher = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0", "guest");

        watch(watcher);
        assert_int_equal(
                json_object_array_length(at(watcher->message, "/parameters/event/snapshot/instances")), 2);
        assert_text(watcher->message, "/parameters/event/snapshot/instances/1/cpus", "4-11");
        assert_text(watcher->message, "/parameters/event/snapshot/leases/0/leaseId", id.text);
        assert_null(json_object_object_get(at(watcher->message, "/parameters/event"), "lease"));
        assert_int_equal(broker->manager->n_watches, 1);
        client_disconnect(watcher);
        assert_int_equal(broker->manager->n_watches, 0);
}

static void test_everything_is_told(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watcher = client_new(broker),
                                       *waiter = client_new(broker);
        struct json_object *event;
        LeaseId id, queued;

        watch(watcher);
        id = acquire_for(client, getpid(), "a", "0", "exclusive");
        event = next_change(watcher, id, "granted");
        assert_int_equal(int_at(event, "/parameters/event/sequence"), 1);
        assert_text(event, "/parameters/event/lease/lease/state", "granted");

        client_send(waiter, BROKER "Acquire", true,
                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"},\"waitUSec\":" LONG_USEC "}");
        queued = lease_id(client_receive(waiter));
        next_change(watcher, queued, "queued");

        client_send(client, BROKER "Acquire", false,
                    "{\"request\":{\"vm\":\"c\",\"vcpus\":1,\"cpus\":\"0\"}}");
        assert_error(client_receive(client), BROKER "Busy");
        event = client_receive(watcher);
        assert_text(event, "/parameters/event/kind", "refusal");
        assert_text(event, "/parameters/event/refusal/error", BROKER "Busy");
        assert_text(event, "/parameters/event/refusal/vm", "c");

        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        event = next_change(watcher, id, "ended");
        assert_text(event, "/parameters/event/lease/lease/reason", "it was released");
        assert_int_equal(int_at(event, "/parameters/event/lease/lease/charge"), 0);
        next_change(watcher, queued, "granted");
        assert_text(client_receive(waiter), "/parameters/change", "granted");

        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"1\",\"owner\":\"host\",\"runtime\":true}"));
        event = client_receive(watcher);
        assert_text(event, "/parameters/event/kind", "instance");
        assert_text(event, "/parameters/event/instance/assignments/0/cpus", "1");
        assert_int_equal(int_at(event, "/parameters/event/sequence"), 6);
        assert_true(client_is_silent(watcher));
}

/* A stream lasts as long as its lease; a call without 'more' gets one answer. */
static void test_streams_of_a_lease(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *stream = client_new(broker),
                                       *again = client_new(broker);
        LeaseId id;

        client_send(stream, BROKER "Acquire", true,
                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\",\"requestId\":\"r\"}}");
        id = lease_id(client_receive(stream));
        assert_text(stream->message, "/parameters/change", "granted");
        assert_true(bool_at(stream->message, "/continues"));

        /* The same request is the same lease; another one is wrong. */
        assert_string_equal(lease_id(client_call(again, BROKER "Acquire",
                                                 "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\","
                                                 "\"requestId\":\"r\"}}"))
                                    .text,
                            id.text);
        assert_null_at(again->message, "/parameters/change");
        assert_invalid(
                client_call(again, BROKER "Acquire",
                            "{\"request\":{\"vm\":\"b\",\"vcpus\":2,\"cpus\":\"0\",\"requestId\":\"r\"}}"),
                "requestId");
        assert_int_equal(broker->manager->leases.n, 1);

        client_send(again, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
        assert_text(client_receive(again), "/parameters/lease/state", "granted");
        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1\"}", id.text));
        assert_text(client_receive(stream), "/parameters/change", "updated");
        assert_text(client_receive(again), "/parameters/change", "updated");

        /* The connections go, the lease does not. */
        client_disconnect(stream);
        assert_non_null(find(broker, id));
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_text(client_receive(again), "/parameters/change", "ended");
        assert_false(json_object_object_get_ex(again->message, "continues", NULL));

        /* The request id is free again. */
        assert_string_not_equal(lease_id(client_call(again, BROKER "Acquire",
                                                     "{\"request\":{\"vm\":\"b\",\"vcpus\":2,\"cpus\":\"0\","
                                                     "\"requestId\":\"r\"}}"))
                                        .text,
                                id.text);
        assert_error((client_send(again, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text),
                      client_receive(again)),
                     BROKER "NoSuchLease");
        assert_error(client_call(again, BROKER "Follow", "{\"leaseId\":\"%s\"}", id.text),
                     SERVICE "ExpectedMore");
}

/* Two calls may wait for one lease; it waits on while one of them is there. */
static void test_two_wait_for_one(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *one = client_new(broker),
                                       *two = client_new(broker);
        LeaseId held = acquire_for(client, getpid(), "a", "0", "exclusive");
        static const char *const wait = "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\",\"requestId\":"
                                        "\"r\"},\"waitUSec\":" LONG_USEC "}";

        client_send(one, BROKER "Acquire", false, "%s", wait);
        client_send(two, BROKER "Acquire", false, "%s", wait);
        assert_int_equal(broker->manager->leases.n_waiting, 1);
        client_disconnect(one);
        assert_int_equal(broker->manager->leases.n_waiting, 1);
        assert_true(client_is_silent(two));
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", held.text));
        lease_id(client_receive(two));
}

static size_t count_updates(Broker *broker, Lease *lease, unsigned n) {
        CpuSet one = CPUSET_NULL, two = CPUSET_NULL;

        cpuset_add(&one, 0);
        cpuset_add(&two, 1);
        for (unsigned i = 0; i < n; i++) { /* as lease_move() does, but for writing each down */
                lease_hold(broker->manager, lease, i % 2 ? &one : &two);
                lease->usable = lease->cpus;
                events_lease(broker->manager, lease, LEASE_CHANGE_UPDATED);
        }
        return n;
}

/* A watcher that does not read loses events, is told so once, and has missed nothing of what holds then. */
static void test_slow_watcher(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watcher = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0", "guest");
        int64_t sequence = 0;
        unsigned n_lost = 0;
        size_t n = 0;

        watch(watcher);
        while (broker->manager->counters.watch_losses == 0)
                n += count_updates(broker, find(broker, id), 100);
        n += count_updates(broker, find(broker, id), 100000);
        assert_true(varlink_call_get_backlog(LIST_FIRST(&broker->manager->watches)->call) <
                    WATCH_BACKLOG_MAX + 4096);

        while (n_lost == 0) {
                client_receive(watcher);
                assert_int_equal(int_at(watcher->message, "/parameters/event/sequence"), ++sequence);
                n_lost += bool_at(watcher->message, "/parameters/event/lost");
        }
        assert_text(watcher->message, "/parameters/event/kind", "snapshot");
        assert_text(watcher->message, "/parameters/event/snapshot/leases/0/leaseId", id.text);
        assert_true((size_t)sequence < n);
        assert_int_equal(broker->manager->counters.watch_losses, 1);

        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        next_change(watcher, id, "ended");
        assert_int_equal(int_at(watcher->message, "/parameters/event/sequence"), sequence + 1);
}

/* The same for the follower of one lease: nothing is kept for it, and the end is always told. */
static void test_slow_follower(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *follower = client_new(broker),
                                       *other = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0", "guest");
        size_t n = 0, n_read = 0;

        client_send(follower, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
        client_receive(follower);
        client_send(other, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
        client_receive(other);
        n = count_updates(broker, find(broker, id), 100000);
        assert_true(varlink_call_get_backlog(LIST_FIRST(&find(broker, id)->streams)->call) <
                    FOLLOW_BACKLOG_MAX + 4096);

        /* What it was told, then the present. */
        do {
                client_receive(follower);
                n_read++;
        } while (at(follower->message, "/parameters/change"));
        assert_true(n_read > 10 && n_read < n);
        assert_text(follower->message, "/parameters/lease/cpus", "0");
        assert_true(client_is_silent(follower));
        count_updates(broker, find(broker, id), 1);
        assert_text(client_receive(follower), "/parameters/change", "updated");

        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_text(client_receive(follower), "/parameters/change", "ended");
        do
                client_receive(other);
        while (json_object_object_get_ex(other->message, "continues", NULL));
        assert_text(other->message, "/parameters/change", "ended");
}

/* Everybody hangs up, in any order, while things happen. */
static void test_hang_up(void **state) {
        Broker *broker = *state;
        Client *clients[12];
        LeaseId id;

        for (size_t i = 0; i < ELEMENTS_OF(clients); i++)
                clients[i] = client_new(broker);
        id = acquire_for(clients[0], getpid(), "a", "0", "exclusive");
        for (size_t i = 1; i < ELEMENTS_OF(clients); i++)
                if (i % 3 == 0)
                        client_send(clients[i], BROKER "Watch", true, NULL);
                else if (i % 3 == 1)
                        client_send(clients[i], BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
                else
                        client_send(clients[i], BROKER "Acquire", i % 2,
                                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"},"
                                    "\"waitUSec\":" LONG_USEC "}");
        assert_int_equal(broker->manager->n_watches, 3);
        assert_int_equal(broker->manager->leases.n_waiting, 4);

        /* All at once: what one's end sends to another meets a socket that is closed. */
        for (size_t i = 0; i < ELEMENTS_OF(clients); i++) {
                close(clients[i]->fd);
                clients[i]->fd = -1;
        }
        broker_pump(broker);
        assert_int_equal(broker->manager->n_watches, 0);
        assert_int_equal(broker->manager->leases.n_waiting, 0);
        assert_int_equal(broker->manager->leases.n, 1);
        assert_true(LIST_EMPTY(&find(broker, id)->streams));
        for (size_t i = 0; i < ELEMENTS_OF(clients); i++)
                client_free(clients[i]);
}

/* The daemon stops with all of that going on. */
static void test_stop(void **state) {
        Broker *broker = *state;
        Client *clients[9];
        LeaseId id;

        for (size_t i = 0; i < ELEMENTS_OF(clients); i++)
                clients[i] = client_new(broker);
        id = acquire_for(clients[0], getpid(), "a", "0", "exclusive");
        acquire_for(clients[0], getpid(), "b", "1", "guest");
        for (size_t i = 1; i < ELEMENTS_OF(clients); i++)
                if (i % 3 == 0)
                        client_send(clients[i], BROKER "Watch", true, NULL);
                else if (i % 3 == 1)
                        client_send(clients[i], BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
                else
                        client_send(clients[i], BROKER "Acquire", i % 2,
                                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"},"
                                    "\"waitUSec\":" LONG_USEC "}");
        assert_fine(client_call(clients[0], ADMIN "Revoke",
                                "{\"leaseId\":\"%s\",\"graceUSec\":" LONG_USEC "}", id.text));
        broker->manager = manager_free(broker->manager);
        for (size_t i = 0; i < ELEMENTS_OF(clients); i++) {
                char byte[4096];
                ssize_t r;

                while ((r = recv(clients[i]->fd, byte, sizeof(byte), MSG_DONTWAIT)) > 0)
                        ;
                assert_int_equal(r, 0);
                client_free(clients[i]);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_snapshot, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_everything_is_told, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_streams_of_a_lease, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_two_wait_for_one, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_slow_watcher, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_slow_follower, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_hang_up, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_stop, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
