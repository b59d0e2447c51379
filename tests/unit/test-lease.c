/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The structures around a lease: ids, owners and their processes, request ids. */

#include "tests/unit/broker-fixture.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "broker/end.h"
#include "broker/lease.h"

#define DESCRIPTORS_MAX 128

/* A lease of @pid that nobody follows and nothing is charged for. */
static Lease *make(Broker *broker, pid_t pid, const char *request_id) {
        LeaseRequest request = LEASE_REQUEST_NULL;
        Lease *lease;

        request.vm = strdup("vm");
        request.id = request_id ? strdup(request_id) : NULL;
        assert_int_equal(owner_new(pid, &request.fresh), 0);
        assert_int_equal(lease_new(broker->manager, &request, &lease), 0);
        assert_null(request.vm); /* taken over */
        assert_null(request.fresh);
        return lease;
}

static void test_ids(void **state) {
        enum { N = 1000 };
        Broker *broker = *state;
        LeaseTable *table = &broker->manager->leases;
        Lease *leases[N];

        for (size_t i = 0; i < N; i++) {
                leases[i] = make(broker, getpid(), NULL);
                assert_int_equal(strspn(leases[i]->id, "0123456789abcdef"), LEASE_ID_LENGTH);
                assert_int_equal(leases[i]->state, LEASE_STATE_QUEUED);
        }
        assert_int_equal(table->n, N);
        for (size_t i = 0; i < N; i++)
                assert_ptr_equal(lease_find(table, leases[i]->id), leases[i]);
        assert_null(lease_find(table, ""));
        assert_null(lease_find(table, "0123456789abcdef0123456789abcde"));
        assert_null(lease_find(table, "0123456789abcdef0123456789abcdef0"));
        assert_null(lease_find(table, "0123456789ABCDEF0123456789ABCDEF"));

        for (size_t i = 0; i < N; i += 2) {
                char id[LEASE_ID_LENGTH + 1];

                memcpy(id, leases[i]->id, sizeof(id));
                lease_free(leases[i]);
                assert_null(lease_find(table, id));
                assert_ptr_equal(lease_find(table, leases[i + 1]->id), leases[i + 1]);
        }
        for (size_t i = 1; i < N; i += 2)
                lease_free(leases[i]);
        assert_idle(broker);
}

/* One owner per process, as long as it has leases. */
static void test_owners(void **state) {
        Broker *broker = *state;
        _cleanup_(owner_freep) Owner *self = NULL, *other = NULL;
        pid_t child = child_new(0);
        Lease *a = make(broker, getpid(), NULL), *b = make(broker, getpid(), NULL),
              *c = make(broker, child, NULL);

        assert_ptr_equal(a->owner, b->owner);
        assert_ptr_not_equal(a->owner, c->owner);
        assert_int_equal(owner_new(getpid(), &self), 0);
        assert_int_equal(owner_new(child, &other), 0);
        assert_ptr_equal(lease_owner_find(broker->manager, self), a->owner);
        assert_ptr_equal(lease_owner_find(broker->manager, other), c->owner);

        lease_free(a);
        assert_ptr_equal(lease_owner_find(broker->manager, self), b->owner);
        lease_free(b);
        assert_null(lease_owner_find(broker->manager, self));
        lease_free(c);
        assert_idle(broker);
        child_kill(child);
}

static void test_request_ids(void **state) {
        Broker *broker = *state;
        pid_t child = child_new(0);
        Lease *a = make(broker, getpid(), "a"), *none = make(broker, getpid(), NULL),
              *b = make(broker, getpid(), "b"), *other = make(broker, child, "a");
        char id_a[] = "a", id_b[] = "b", id_c[] = "c";

        assert_ptr_equal(lease_owner_find_request(a->owner, id_a), a);
        assert_ptr_equal(lease_owner_find_request(a->owner, id_b), b);
        assert_null(lease_owner_find_request(a->owner, id_c));
        assert_ptr_equal(lease_owner_find_request(other->owner, id_a), other);
        lease_free(a);
        assert_null(lease_owner_find_request(b->owner, id_a));
        assert_ptr_equal(lease_owner_find_request(b->owner, id_b), b);
        lease_free(none);
        lease_free(b);
        lease_free(other);
        assert_idle(broker);
        child_kill(child);
}

/* The pid is another process's by now, and nobody has said so yet: the old one's leases end first. */
static void test_pid_is_used_again(void **state) {
        Broker *broker = *state;
        Lease *old = make(broker, getpid(), "r"), *fresh;
        char id[LEASE_ID_LENGTH + 1], request_id[] = "r";
        _cleanup_(owner_freep) Owner *self = NULL;

        memcpy(id, old->id, sizeof(id));
        old->owner->owner->start_time--;
        assert_int_equal(owner_new(getpid(), &self), 0);
        assert_null(lease_owner_find(broker->manager, self));

        fresh = make(broker, getpid(), "r");
        assert_null(lease_find(&broker->manager->leases, id));
        assert_ptr_equal(lease_owner_find(broker->manager, self), fresh->owner);
        assert_ptr_equal(lease_owner_find_request(fresh->owner, request_id), fresh);
        lease_free(fresh);
        assert_idle(broker);
}

/* A process that has ended is no owner, even if its successor has begun in the same tick. */
static void test_dead_owner_is_not_found(void **state) {
        Broker *broker = *state;
        OwnerTable *owners = &broker->manager->owners;
        _cleanup_(owner_freep) Owner *owner = NULL;
        pid_t child = child_new(0);
        Lease *lease = make(broker, child, NULL);
        VarlinkPeer peer = {.pid = child, .uid = getuid(), .pidfd = -1, .accepted_boottime_usec = UINT64_MAX};

        assert_int_equal(owner_new(child, &owner), 0);
        assert_ptr_equal(lease_owner_find(broker->manager, owner), lease->owner);
        assert_ptr_equal(lease_owner_find_peer(owners, &peer), lease->owner);
        child_kill(child);
        assert_null(lease_owner_find_peer(owners, &peer));
        assert_int_equal(broker->manager->leases.n, 1);
        assert_null(lease_owner_find(broker->manager, owner));
        assert_idle(broker);
}

/* Who is a peer: by its pidfd if there is one, else by start and user. */
static void test_peers(void **state) {
        Broker *broker = *state;
        OwnerTable *owners = &broker->manager->owners;
        pid_t child = child_new(0), dead = child_new(0);
        Lease *lease = make(broker, child, NULL);
        _cleanup_(closep) int pidfd = (int)syscall(SYS_pidfd_open, child, 0),
                              dead_pidfd = (int)syscall(SYS_pidfd_open, dead, 0);
        VarlinkPeer peer = {.pid = child, .uid = getuid(), .pidfd = pidfd};

        child_kill(dead);
        assert_ptr_equal(lease_owner_find_peer(owners, &peer), lease->owner);
        peer.pidfd = dead_pidfd; /* it connected, died, and the owner has got its pid */
        assert_null(lease_owner_find_peer(owners, &peer));

        peer.pidfd = -1;
        assert_null(lease_owner_find_peer(owners, &peer)); /* started after it was accepted */
        peer.accepted_boottime_usec = UINT64_MAX;
        assert_ptr_equal(lease_owner_find_peer(owners, &peer), lease->owner);
        peer.uid++;
        assert_null(lease_owner_find_peer(owners, &peer));
        peer = (VarlinkPeer){.pid = 0, .uid = getuid(), .pidfd = -1};
        assert_null(lease_owner_find_peer(owners, &peer)); /* of another pid namespace */

        lease_free(lease);
        child_kill(child);
        assert_idle(broker);
}

/* Without descriptors a request is answered, and the broker goes on. */
static void test_out_of_descriptors(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t child = child_new(0);
        struct rlimit limit, low;
        int fds[DESCRIPTORS_MAX];
        size_t n = 0;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        low = (struct rlimit){.rlim_cur = DESCRIPTORS_MAX, .rlim_max = limit.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        while ((fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
                n++;
        assert_int_equal(errno, EMFILE);

        client_send(client, BROKER "Acquire", false, "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"pid\":%i}}",
                    (int)child);
        assert_error(client_receive(client), "io.systemd.System");
        assert_int_equal(int_at(client->message, "/parameters/errno"), EMFILE);
        client_send(client, BROKER "Acquire", false, "{\"request\":{\"vm\":\"a\",\"vcpus\":1}}");
        assert_error(client_receive(client), "io.systemd.System");
        assert_idle(broker);

        while (n-- > 0)
                close(fds[n]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        lease_id(client_call(client, BROKER "Acquire", "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"pid\":%i}}",
                             (int)child));
        child_kill(child);
        broker_wait(broker, broker->manager->leases.n == 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_ids, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_owners, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_request_ids, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_pid_is_used_again, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_dead_owner_is_not_found, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_peers, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_out_of_descriptors, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
