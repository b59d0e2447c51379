/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Out of memory at every single allocation of a call: it is answered with an error or its connection is
 * closed, it has done all or nothing, and the broker goes on.
 */

#include "tests/unit/failing-allocator.h"

#include <fcntl.h>

#include "tests/unit/broker-fixture.h"

#include "broker/end.h"
#include "broker/restore.h"

/* No call needs more than this. */
#define ALLOCATIONS_MAX 2000
/* More than a grant or a refusal needs. */
#define WAITER_ALLOCATIONS 12

static void release_all(Broker *broker) {
        _cleanup_(client_freep) Client *client = client_new(broker);

        while (broker->manager->leases.n > 0)
                assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}",
                                        TAILQ_FIRST(&broker->manager->leases.all)->id));
        assert_fine(client_call(client, ADMIN "Unassign", "{\"cpus\":\"0-11\"}"));
        assert_idle(broker);
}

/* Makes a call while allocations fail after @n; it must be answered if none did. True if any did. */
static bool attempt(Broker *broker, long n, const char *method, bool more, const char *parameters) {
        _cleanup_(freep) char *message = NULL;
        Client *client = client_new(broker);
        bool fine = false;
        int length;

        length = asprintf(&message, "{\"method\":\"%s\",\"parameters\":%s,\"more\":%s}", method, parameters,
                          more ? "true" : "false");
        assert_true(length > 0);
        assert_int_equal(send(client->fd, message, (size_t)length + 1, 0), length + 1);

        has_failed = false;
        allowed = n;
        broker_pump(broker);
        allowed = -1;
        broker_pump(broker);

        if (client_has_message(client)) {
                struct json_object *reply = client_receive(client);
                struct json_object *error = json_object_object_get(reply, "error");

                fine = !error || strcmp(json_object_get_string(error), "io.systemd.System") != 0;
                if (!fine)
                        assert_int_equal(int_at(reply, "/parameters/errno"), ENOMEM);
        }
        client_free(client);
        assert_true(fine || has_failed);
        return has_failed;
}

/* Fails every allocation of a call in turn, and what follows it or not; @check sees what each left behind. */
static void try_all(Broker *broker, const char *method, bool more, const char *parameters,
                    void (*check)(Broker *broker)) {
        for (int once = 0; once < 2; once++) {
                long n = 0;

                fail_once = once;
                assert_false(attempt(broker, -1, method, more, parameters));
                check(broker);
                while (attempt(broker, n, method, more, parameters)) {
                        assert_true(n++ < ALLOCATIONS_MAX);
                        check(broker);
                }
                check(broker);
                assert_true(n > 3);
        }
}

/* No lease without its charge, its CPUs, its owner; and the other way round. */
static void check_whole(Broker *broker) {
        const Manager *manager = broker->manager;
        unsigned n = 0, n_charged = 0, n_waiting = 0;
        const Lease *lease;

        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                n++;
                n_charged += lease_is_charged(lease);
                n_waiting += lease->state == LEASE_STATE_QUEUED;
                assert_true((lease->charge.ledger != NULL) == lease_is_charged(lease));
                assert_ptr_equal(lease_find(&manager->leases, lease->id), lease);
        }
        assert_int_equal(n, manager->leases.n);
        assert_int_equal(n_waiting, manager->leases.n_waiting);
        assert_int_equal(n_charged, manager->model.ledger.total.n_leases);
        assert_int_equal(manager->dirty, 0);
}

static void check_and_release(Broker *broker) {
        check_whole(broker);
        release_all(broker);
}

static void test_acquire(void **state) {
        Broker *broker = *state;

        try_all(broker, BROKER "Acquire", false,
                "{\"request\":{\"vm\":\"a\",\"vcpus\":2,\"instance\":\"arm_spe_1\",\"requestId\":\"r\"}}",
                check_and_release);
        try_all(broker, BROKER "Acquire", true, "{\"request\":{\"vm\":\"a\",\"vcpus\":2,\"cpus\":\"1-2\"}}",
                check_and_release);
}

static void test_refusals(void **state) {
        static const char *const requests[] = {
                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"instance\":\"nope\"}}",
                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"3-4\"}}",
                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"bufferSize\":4097,\"exact\":true}}",
                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"bufferSize\":1099511627776,\"exact\":true}}",
                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\"}}",
        };
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        acquire_for(client, getpid(), "b", "0", "exclusive");
        for (size_t i = 0; i < ELEMENTS_OF(requests); i++) {
                try_all(broker, BROKER "Acquire", false, requests[i], check_whole);
                try_all(broker, BROKER "Query", false, requests[i], check_whole);
        }
        assert_int_equal(broker->manager->leases.n, 1);
        try_all(broker, BROKER "ListRefusals", false, "{}", check_whole);
        release_all(broker);
}

/* The next list is made anew. */
static void check_and_forget(Broker *broker) {
        check_whole(broker);
        host_check_forget(&broker->manager->check);
}

static void test_check_host(void **state) {
        Broker *broker = *state;

        try_all(broker, BROKER "CheckHost", false, "{}", check_and_forget);
        assert_true(broker->manager->check.n > 10);
}

static void check_assigned(Broker *broker) {
        check_whole(broker);
        release_all(broker);
}

static void test_assign(void **state) {
        Broker *broker = *state;

        try_all(broker, ADMIN "Assign", true,
                "{\"cpus\":\"0-1\",\"owner\":\"guest\",\"vm\":\"a\",\"runtime\":true}", check_assigned);
        try_all(broker, ADMIN "Assign", false, "{\"instance\":\"arm_spe_0\",\"owner\":\"host\"}",
                check_assigned);
        try_all(broker, ADMIN "Rescan", false, "{}", check_whole);
        assert_int_equal(broker->manager->model.instances.n, 2);
}

/* Has the two SPUs swap their names. */
static void swap_names(const Broker *broker) {
        char devices[256];
        int fd;

        (void)snprintf(devices, sizeof(devices), "%s/run/spe-broker/simulated/sys/bus/event_source/devices",
                       broker->path);
        fd = open(devices, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(renameat2(fd, "arm_spe_0", fd, "arm_spe_1", RENAME_EXCHANGE), 0);
        close(fd);
}

static void check_and_swap(Broker *broker) {
        const InstanceTable *instances = &broker->manager->model.instances;

        check_whole(broker);
        assert_int_equal(instances->n, 2);
        assert_int_equal(instances->entries[0]->n_leases + instances->entries[1]->n_leases, 2);
        swap_names(broker);
}

/* Leases that follow their SPUs, or do not for now. */
static void test_rescan(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId first = acquire_for(client, getpid(), "a", "0-1", "exclusive"),
                second = acquire_for(client, getpid(), "b", "5", "guest");
        const Lease *lease = find(broker, first);

        try_all(broker, ADMIN "Rescan", false, "{}", check_and_swap);
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        check_whole(broker);
        assert_true(cpuset_is_subset(&lease->cpus, &lease->instance->cpus));
        assert_int_equal(cpuset_count(&lease->usable), 2);
        assert_ptr_equal(lease->charge.instance, lease->instance);
        lease = find(broker, second);
        assert_true(cpuset_is_subset(&lease->cpus, &lease->instance->cpus));
        assert_int_equal(lease->now_pmu_type, lease->instance->pmu_type);
        assert_true(LIST_EMPTY(&broker->manager->leases.away));
        release_all(broker);
}

static void test_streams(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "b", "0", "exclusive");
        char parameters[64];

        (void)snprintf(parameters, sizeof(parameters), "{\"leaseId\":\"%s\"}", id.text);
        try_all(broker, BROKER "Watch", true, "{}", check_whole);
        try_all(broker, BROKER "Follow", true, parameters, check_whole);
        try_all(broker, BROKER "Update", false, parameters, check_whole);
        assert_int_equal(broker->manager->n_watches, 0);
        assert_true(LIST_EMPTY(&find(broker, id)->streams));
        release_all(broker);
}

/* A waiter that can be granted, or that must be refused, but for which there is no memory: later, then. */
static void test_waiters(void **state) {
        Broker *broker = *state;
        Client *client, *waiter;

        client = client_new(broker);
        waiter = client_new(broker);
        fail_once = false;

        for (int refused = 0; refused < 2; refused++)
                for (long n = 0; n < WAITER_ALLOCATIONS; n++) {
                        LeaseId id = acquire_for(client, getpid(), "b", "0", "exclusive");
                        uint64_t deadline;

                        client_send(waiter, BROKER "Acquire", false,
                                    "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\"},\"waitUSec\":%s}",
                                    refused ? "300000" : LONG_USEC);
                        assert_int_equal(broker->manager->leases.n_waiting, 1);
                        deadline = TAILQ_FIRST(&broker->manager->leases.waiting)->deadline_usec;
                        if (!refused)
                                lease_end(broker->manager, find(broker, id), "the test says so");

                        allowed = n;
                        while (refused && clock_now_usec() <= deadline + 1)
                                broker_pump(broker);
                        broker_pump(broker);
                        allowed = -1;

                        if (refused)
                                assert_error(client_receive(waiter), BROKER "Busy");
                        else
                                lease_id(client_receive(waiter));
                        assert_int_equal(broker->manager->leases.n_waiting, 0);
                        release_all(broker);
                }
        client_free(waiter);
        client_free(client);
}

static unsigned count_files(const Broker *broker) {
        _cleanup_(closedirp) DIR *dir = NULL;
        struct dirent *entry;
        char path[96];
        unsigned n = 0;

        (void)snprintf(path, sizeof(path), "%s/" LEASE_STORE_PATH, broker->path);
        dir = opendir(path);
        assert_non_null(dir);
        while ((entry = readdir(dir))) {
                n += entry->d_name[0] != '.';
                assert_null(strstr(entry->d_name, ".bad"));
        }
        return n;
}

/* As if none had ever been taken over. */
static void drop_leases(Broker *broker) {
        Manager *manager = broker->manager;

        while (manager->leases.n > 0)
                lease_drop(TAILQ_FIRST(&manager->leases.all));
        manager->leases.n_revoked = 0;
        manager->model.occupancy = (Occupancy){0};
}

/* A start that has no memory for all leases fails, and has lost none of them. */
static void test_restore(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId ids[4];

        for (size_t i = 0; i < ELEMENTS_OF(ids); i++)
                ids[i] = acquire_for(client, getpid(), "a", "0-1", "guest");
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":" LONG_USEC "}",
                                ids[1].text));
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", ids[2].text));
        broker_pump(broker);

        for (int once = 0; once < 2; once++) {
                fail_once = once;
                has_failed = true;
                for (long n = 0; has_failed; n++) {
                        int r;

                        drop_leases(broker);
                        has_failed = false;
                        allowed = n;
                        r = leases_restore(broker->manager);
                        allowed = -1;
                        assert_int_equal(count_files(broker), ELEMENTS_OF(ids));
                        if (r == 0) /* it could do without */
                                assert_int_equal(broker->manager->leases.n, ELEMENTS_OF(ids));
                        else
                                assert_true(r == -ENOMEM && has_failed);
                }
                assert_int_equal(find(broker, ids[0])->state, LEASE_STATE_GRANTED);
                assert_int_equal(find(broker, ids[1])->state, LEASE_STATE_REVOKING);
                assert_int_equal(find(broker, ids[2])->state, LEASE_STATE_REVOKED);
                assert_int_equal(broker->manager->leases.n, ELEMENTS_OF(ids));
                assert_int_equal(broker->manager->model.ledger.total.n_leases, ELEMENTS_OF(ids));
                broker_pump(broker);
        }
        release_all(broker);
        assert_int_equal(count_files(broker), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_acquire, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_refusals, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_check_host, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_assign, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_rescan, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_streams, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_waiters, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_restore, broker_setup, broker_teardown),
        };

        if (!ALLOCATOR_CAN_FAIL) {
                puts("the sanitizer has its own allocator");
                return 77;
        }

        return cmocka_run_group_tests(tests, NULL, NULL);
}
