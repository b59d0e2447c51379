/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The life of a lease: granted, moved, revoked, ended, with every account along the way. */

#include "tests/unit/broker-fixture.h"

static void assert_held(Broker *broker, LeaseMode mode, const char *cpus) {
        char text[CPUSET_TEXT_MAX];

        cpuset_format(&broker->manager->model.occupancy.held[mode], text, sizeof(text));
        assert_string_equal(text, cpus);
}

static void test_grant_and_release(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        struct json_object *reply;
        uint64_t charge;
        LeaseId id;

        reply = client_call(
                client, BROKER "Acquire",
                "{\"request\":{\"vm\":\"web\",\"vcpus\":2,\"cpus\":\"1-2\",\"bufferSize\":1048576}}");
        id = lease_id(reply);
        assert_text(reply, "/parameters/lease/state", "granted");
        assert_text(reply, "/parameters/lease/cpus", "1-2");
        assert_text(reply, "/parameters/lease/instance", "arm_spe_0");
        assert_int_equal(int_at(reply, "/parameters/lease/bufferSize"), 1048576);
        charge = (uint64_t)int_at(reply, "/parameters/lease/charge");
        assert_true(charge > 2 * 1048576);
        assert_int_equal(broker->manager->model.ledger.total.bytes, charge);
        assert_int_equal(ledger_get_vm(&broker->manager->model.ledger, getuid(), "web").bytes, charge);
        assert_held(broker, LEASE_MODE_GUEST, "1-2");

        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_idle(broker);
        assert_int_equal(broker->manager->counters.leases_ended, 1);
        assert_error(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text),
                     BROKER "NoSuchLease");
}

static void test_who_may_release(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *admin = client_new(broker), *other = NULL;
        pid_t vmm = child_new(0);
        LeaseId id = acquire_for(admin, vmm, "web", "0", "guest");

        if (getuid() == 0) {
                other = client_new_as(broker, OTHER_USER);
                assert_error(client_call(other, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text),
                             SERVICE "PermissionDenied");
                assert_error(client_call(other, BROKER "Update", "{\"leaseId\":\"%s\"}", id.text),
                             SERVICE "PermissionDenied");
                client_send(other, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
                assert_error(client_receive(other), SERVICE "PermissionDenied");
                assert_non_null(find(broker, id));
        }
        /* An administrator may, although it is not the owner. */
        assert_fine(client_call(admin, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_idle(broker);
        child_kill(vmm);
}

/* The owner itself, who is nobody special; and a lease whose owner is the same user but another process. */
static void test_owner_may_release(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *admin = client_new(broker), *vmm = NULL, *brother = NULL;
        LeaseId id;

        if (getuid() != 0)
                skip();

        vmm = client_new_as(broker, OTHER_USER);
        brother = client_new_as(broker, OTHER_USER);
        id = acquire_for(admin, vmm->pid, "web", "0", "guest");
        assert_int_equal(find(broker, id)->request.policy.uid, OTHER_USER);
        assert_error(client_call(brother, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text),
                     SERVICE "PermissionDenied");
        assert_fine(client_call(vmm, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_idle(broker);
}

static void test_owner_dies(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *admin = client_new(broker), *follower = client_new(broker);
        pid_t vmm = child_new(0);
        LeaseId first = acquire_for(admin, vmm, "web", "0-1", "guest");

        acquire_for(admin, vmm, "web", "1-3", "shared");
        acquire_for(admin, vmm, "db", "4-7", "exclusive");
        client_send(follower, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", first.text);
        assert_null_at(client_receive(follower), "/parameters/change");

        child_kill(vmm);
        broker_wait(broker, broker->manager->leases.n == 0);
        assert_text(client_receive(follower), "/parameters/change", "ended");
        assert_text(follower->message, "/parameters/lease/reason", "its owner is gone");
        assert_false(json_object_object_get_ex(follower->message, "continues", NULL));
        assert_idle(broker);
}

static void test_update(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "web", "0-1", "exclusive");
        struct json_object *reply;

        acquire_for(client, getpid(), "db", "3", "guest");
        /* To where it overlaps itself, but not to another's CPUs, nor to another instance's. */
        reply = client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1-2\"}", id.text);
        assert_text(reply, "/parameters/lease/cpus", "1-2");
        assert_held(broker, LEASE_MODE_EXCLUSIVE, "1-2");
        assert_error(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"2-3\"}", id.text),
                     BROKER "Busy");
        assert_error(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"4\"}", id.text),
                     BROKER "NoInstanceForCpus");
        assert_invalid(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"\"}", id.text),
                       "cpus");
        assert_held(broker, LEASE_MODE_EXCLUSIVE, "1-2");
        assert_held(broker, LEASE_MODE_GUEST, "3");
        /* Without cpus it is a question. */
        reply = client_call(client, BROKER "Update", "{\"leaseId\":\"%s\"}", id.text);
        assert_text(reply, "/parameters/lease/cpus", "1-2");
}

static void take_back(Client *client, LeaseId id, const char *rest) {
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\"%s}", id.text, rest));
}

static void test_revoke(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *follower = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "web", "0-1", "guest");
        Lease *lease = find(broker, id);
        struct json_object *told;

        client_send(follower, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
        client_receive(follower);

        take_back(client, id, ",\"graceUSec\":" LONG_USEC ",\"reason\":\"maintenance\"");
        told = client_receive(follower);
        assert_text(told, "/parameters/change", "revoking");
        assert_text(told, "/parameters/lease/reason", "maintenance");
        assert_true(int_at(told, "/parameters/lease/remainingUSec") > 3000000000);
        /* It still holds, and may still be moved. */
        assert_held(broker, LEASE_MODE_GUEST, "0-1");
        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"0\"}", id.text));
        assert_text(client_receive(follower), "/parameters/change", "updated");

        /* The shorter grace counts, a longer one does not. */
        take_back(client, id, ",\"graceUSec\":9000000000000000000");
        assert_true(int_at(client_receive(follower), "/parameters/lease/remainingUSec") < 3600000001);
        take_back(client, id, ",\"graceUSec\":0");
        assert_text(client_receive(follower), "/parameters/change", "revoking");
        told = client_receive(follower);
        assert_text(told, "/parameters/change", "revoked");
        assert_null_at(told, "/parameters/lease/remainingUSec");
        assert_true(int_at(told, "/parameters/lease/charge") > 0);

        assert_int_equal(lease->state, LEASE_STATE_REVOKED);
        assert_held(broker, LEASE_MODE_GUEST, "");
        assert_int_equal(broker->manager->model.ledger.total.n_leases, 1);
        assert_int_equal(broker->manager->leases.n_revoked, 1);
        assert_true(LIST_EMPTY(&broker->manager->leases.revoking));
        assert_invalid(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"0\"}", id.text),
                       "leaseId");

        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_text(client_receive(follower), "/parameters/change", "ended");
        assert_idle(broker);
}

/* The end of time is no time at all if it is computed carelessly. */
static void test_longest_grace(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "web", "0", "guest");
        struct json_object *reply;

        take_back(client, id, ",\"graceUSec\":9223372036854775807");
        reply = client_call(client, BROKER "Update", "{\"leaseId\":\"%s\"}", id.text);
        assert_text(reply, "/parameters/lease/state", "revoking");
        assert_true(int_at(reply, "/parameters/lease/remainingUSec") > INT64_MAX - 1000000000);
        assert_invalid(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":-1}", id.text),
                       "graceUSec");
}

static void test_kill(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t gentle = child_new(0), stubborn = child_new(CHILD_IGNORES_ALL);
        LeaseId ids[] = {acquire_for(client, gentle, "web", "0", "guest"),
                         acquire_for(client, stubborn, "db", "0", "guest")};

        /* The second grace is long enough to die of the first signal, on a slow and busy machine too. */
        take_back(client, ids[0], ",\"graceUSec\":300000,\"kill\":true");
        broker_wait(broker, broker->manager->leases.n == 1);
        assert_int_equal(child_wait(gentle), SIGTERM);

        take_back(client, ids[1], ",\"graceUSec\":1000,\"kill\":true");
        broker_wait(broker, broker->manager->leases.n == 0);
        assert_int_equal(child_wait(stubborn), SIGKILL);
        assert_idle(broker);
}

static void assert_reason(Client *client, const char *part) {
        const char *reason = text_at(client->message, "/parameters/lease/reason");

        if (!strstr(reason, part))
                fail_msg("no \"%s\" in \"%s\"", part, reason);
}

/* A lease that is revoked already has no grace to wait for, but its owner can still be killed. */
static void test_kill_revoked(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watcher = client_new(broker);
        pid_t vmm = child_new(CHILD_IGNORES_ALL);
        LeaseId id = acquire_for(client, vmm, "web", "0", "guest");

        client_send(watcher, BROKER "Follow", true, "{\"leaseId\":\"%s\"}", id.text);
        client_receive(watcher);
        take_back(client, id, ",\"graceUSec\":0");
        assert_text(client_receive(watcher), "/parameters/change", "revoking");
        assert_text(client_receive(watcher), "/parameters/change", "revoked");
        take_back(client, id, "");
        assert_true(client_is_silent(watcher));

        take_back(client, id, ",\"graceUSec\":1000,\"kill\":true");
        assert_text(client_receive(watcher), "/parameters/change", "revoked");
        assert_reason(watcher, "is killed when the time is over");
        assert_text(client_receive(watcher), "/parameters/change", "updated");
        assert_reason(watcher, "has been sent SIGTERM, and SIGKILL follows");
        assert_true(int_at(watcher->message, "/parameters/lease/remainingUSec") <= 1000);
        assert_text(client_receive(watcher), "/parameters/change", "updated");
        assert_reason(watcher, "has been sent SIGKILL");
        assert_null_at(watcher->message, "/parameters/lease/remainingUSec");
        assert_text(client_receive(watcher), "/parameters/change", "ended");
        assert_int_equal(child_wait(vmm), SIGKILL);
        assert_idle(broker);
}

/* Contention is told while a revoked lease and an exclusive one meet, and only then. */
static void test_contention(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId revoked = acquire_for(client, getpid(), "web", "0-1", "guest"), exclusive, again;

        take_back(client, revoked, ",\"graceUSec\":0");
        broker_pump(broker);
        acquire_for(client, getpid(), "guest", "0", "guest");
        broker_pump(broker);
        assert_false(find(broker, revoked)->contended);

        exclusive = acquire_for(client, getpid(), "db", "1-2", "exclusive");
        broker_pump(broker);
        assert_true(find(broker, revoked)->contended);
        assert_true(find(broker, exclusive)->contended);

        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"2-3\"}",
                                exclusive.text));
        broker_pump(broker);
        assert_false(find(broker, revoked)->contended);
        assert_false(find(broker, exclusive)->contended);

        again = acquire_for(client, getpid(), "db", "1", "exclusive");
        broker_pump(broker);
        assert_true(find(broker, revoked)->contended);
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", again.text));
        broker_pump(broker);
        assert_false(find(broker, revoked)->contended);

        again = acquire_for(client, getpid(), "db", "1", "exclusive");
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", revoked.text));
        broker_pump(broker);
        assert_false(find(broker, again)->contended);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_grant_and_release, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_who_may_release, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_owner_may_release, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_owner_dies, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_update, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_revoke, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_longest_grace, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_kill, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_kill_revoked, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_contention, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
