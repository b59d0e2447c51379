/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Leases of control groups in a whole broker: found by id, claimed by the first process, and their deadlines.
 */

#include <poll.h>
#include <sys/syscall.h>

#include "tests/unit/broker-fixture.h"
#include "tests/unit/cgroup-fixture.h"

static LeaseId acquire(Client *client, const TestGroup *group, const char *more) {
        return lease_id(
                client_call(client, BROKER "Acquire",
                            "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\",\"bufferSize\":4096,"
                            "\"cgroup\":\"%s\"%s}}",
                            group->path, more));
}

static void test_claim(void **state) {
        Broker *broker = *state;
        TestGroup group = group_new("");
        Client *client = client_new(broker);
        LeaseId a = acquire(client, &group, ""), b = acquire(client, &group, "");
        LeaseOwner *owner = find(broker, a)->owner;
        uint64_t now = manager_now_monotonic(broker->manager);
        pid_t pid;

        assert_ptr_equal(find(broker, b)->owner, owner);
        assert_ptr_equal(lease_owner_find_key(&broker->manager->owners, owner->key), owner);
        assert_true(owner->key == OWNER_KEY_CGROUP(owner->owner->cgroup->id));
        assert_false(owner->claimed);
        assert_true(find(broker, a)->unclaimed_linked && find(broker, b)->unclaimed_linked);
        assert_true(lease_get_deadline(find(broker, a)) <= now + LEASE_UNCLAIMED_USEC);
        assert_true(lease_get_deadline(find(broker, a)) + DEADLINE_USEC > now + LEASE_UNCLAIMED_USEC);

        pid = group_fork(&group);
        broker_wait(broker, owner->claimed);
        assert_false(find(broker, a)->unclaimed_linked || find(broker, b)->unclaimed_linked);
        assert_int_equal(lease_get_deadline(find(broker, a)), UINT64_MAX);

        group_kill(pid);
        broker_wait(broker, broker->manager->leases.n == 0);
        assert_idle(broker);
        client_free(client);
        group_remove(&group);
}

/* One that is over ends its lease, and no other. */
static void test_deadline(void **state) {
        Broker *broker = *state;
        TestGroup group = group_new("");
        Client *client = client_new(broker);
        LeaseId over = acquire(client, &group, ""), other = acquire(client, &group, "");

        find(broker, over)->unclaimed_deadline_usec = manager_now_monotonic(broker->manager);
        manager_mark_dirty(broker->manager, DIRTY_DEADLINES);
        broker_wait(broker, !find(broker, over));
        assert_non_null(find(broker, other));

        /* The loop wakes up for it by itself. */
        find(broker, other)->unclaimed_deadline_usec = manager_now_monotonic(broker->manager) + 1000;
        manager_mark_dirty(broker->manager, DIRTY_DEADLINES);
        broker_wait(broker, !find(broker, other));
        assert_idle(broker);
        assert_true(LIST_EMPTY(&broker->manager->leases.unclaimed));
        client_free(client);
        group_remove(&group);
}

/* By its pidfd, or by its start; in it or below it, and as long as it is. */
static void test_peer(void **state) {
        Broker *broker = *state;
        TestGroup group = group_new(""), below = group_new("/below"), beside = group_new("-beside");
        Client *client = client_new(broker);
        pid_t inside = group_fork(&group), deeper = group_fork(&below), outside = group_fork(&beside);
        const LeaseOwner *owner = find(broker, acquire(client, &group, ""))->owner;
        VarlinkPeer peer = {.uid = getuid(), .pidfd = -1, .accepted_boottime_usec = UINT64_MAX};

        peer.pid = inside;
        assert_true(lease_owner_is_peer(owner, &peer));
        peer.accepted_boottime_usec = 0;
        assert_false(lease_owner_is_peer(owner, &peer)); /* started after it was accepted */
        peer.accepted_boottime_usec = UINT64_MAX;
        peer.pid = deeper;
        assert_true(lease_owner_is_peer(owner, &peer));
        peer.pid = outside;
        assert_false(lease_owner_is_peer(owner, &peer));
        group_move(&group, outside);
        assert_true(lease_owner_is_peer(owner, &peer));
        peer.pidfd = (int)syscall(SYS_pidfd_open, outside, 0);
        assert_true(lease_owner_is_peer(owner, &peer));
        group_kill(outside);
        assert_false(lease_owner_is_peer(owner, &peer));
        close(peer.pidfd);
        peer = (VarlinkPeer){.pid = 0, .uid = getuid(), .pidfd = -1};
        assert_false(lease_owner_is_peer(owner, &peer)); /* of another pid namespace */

        group_kill(inside);
        group_kill(deeper);
        broker_wait(broker, broker->manager->leases.n == 0);
        assert_idle(broker);
        client_free(client);
        group_remove(&below);
        group_remove(&group);
        group_remove(&beside);
}

/* The last process has left, and the loop has yet to hear of it: whoever asks first does not take that away.
 */
static void test_asked_before(void **state) {
        Broker *broker = *state;
        TestGroup group = group_new("");
        Client *client = client_new(broker);
        LeaseOwner *owner = find(broker, acquire(client, &group, ""))->owner;
        const VarlinkPeer peer = {
                .pid = getpid(), .uid = getuid(), .pidfd = -1, .accepted_boottime_usec = UINT64_MAX};
        struct pollfd end = {.fd = owner->owner->cgroup->events_fd, .events = POLLPRI};
        pid_t pid = group_fork(&group);

        broker_wait(broker, owner->claimed);
        group_kill(pid);
        assert_int_equal(poll(&end, 1, CGROUP_DEADLINE_MSEC), 1); /* the kernel tells it some time later */
        assert_true(owner_is_alive(owner->owner));
        assert_false(lease_owner_is_peer(owner, &peer));

        broker_wait(broker, broker->manager->leases.n == 0);
        assert_idle(broker);
        client_free(client);
        group_remove(&group);
}

/*
 * As before, and it is asked for leases of the group: the old ones have ended first, and the new one waits
 * for the next process. As long as one is in it, or none has been, it is the same owner.
 */
static void test_emptied(void **state) {
        Broker *broker = *state;
        TestGroup group = group_new("");
        Client *client = client_new(broker);
        LeaseId old = acquire(client, &group, ",\"mode\":\"exclusive\",\"requestId\":\"r\""), fresh;
        const LeaseOwner *owner = find(broker, old)->owner;
        struct pollfd end = {.fd = owner->owner->cgroup->events_fd, .events = POLLPRI};
        _cleanup_(owner_freep) Owner *now = NULL;
        pid_t pid;

        assert_int_equal(owner_new_cgroup(group.path, &now), 0);
        assert_ptr_equal(lease_owner_find(broker->manager, now), owner);
        pid = group_fork(&group);
        broker_wait(broker, owner->claimed);
        assert_ptr_equal(lease_owner_find(broker->manager, now), owner);

        assert_int_equal(sd_event_source_set_enabled(owner->exit_source, SD_EVENT_OFF), 0);
        group_kill(pid);
        assert_int_equal(poll(&end, 1, CGROUP_DEADLINE_MSEC), 1);
        fresh = acquire(client, &group, ",\"mode\":\"exclusive\",\"requestId\":\"r\"");
        assert_null(find(broker, old));
        assert_false(find(broker, fresh)->owner->claimed);
        assert_true(find(broker, fresh)->unclaimed_linked);

        client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", fresh.text);
        assert_idle(broker);
        client_free(client);
        group_remove(&group);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_claim, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_deadline, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_peer, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_asked_before, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_emptied, broker_setup, broker_teardown),
        };

        if (!cgroups_mount()) {
                puts("no control groups (cgroup2) can be made here");
                return 77;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
