/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Level reserve, with the kernel as a fake, and with eyes or without. */

#include "tests/unit/broker-fixture.h"

#include "tests/unit/arbitration-fixture.h"

static int setup_blind(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_NONE, "reserve");
}

static int setup_seeing(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_TRAMPOLINES, "reserve");
}

static void take(const char *text) {
        assert_int_equal(cpuset_parse(text, strlen(text), &fake_reserve.taken), 0);
}

#define assert_held(text) assert_cpus(&fake_reserve.held, text)

static void set_online(Broker *broker, Client *client, const char *cpus) {
        char name[128];
        FILE *f;

        (void)snprintf(name, sizeof(name), "%s/run/spe-broker/simulated/sys/devices/system/cpu/online",
                       broker->path);
        f = fopen(name, "we");
        assert_non_null(f);
        assert_true(fprintf(f, "%s\n", cpus) > 0);
        assert_int_equal(fclose(f), 0);
        assert_fine(client_call(client, ADMIN "Rescan", NULL));
        broker_pump(broker);
}

/* Held before it is answered, let go as soon as it is released; guests' CPUs and drained ones too. */
static void test_holds(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId a, b;

        assert_held("");
        a = acquire_for(client, getpid(), "a", "0-1", "guest");
        assert_held("0-1");
        b = acquire_for(client, getpid(), "b", "1-2", "guest");
        acquire_for(client, getpid(), "c", "5", "shared");
        assert_held("0-2");
        release(client, a);
        assert_held("1-2");
        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"6\",\"owner\":\"guest\",\"runtime\":true}"));
        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"8\",\"owner\":\"none\",\"runtime\":true}"));
        assert_held("1-2,6,8");
        release(client, b);
        assert_fine(client_call(client, ADMIN "Unassign", "{\"cpus\":\"6,8\"}"));
        assert_held("");
}

/* Whoever is there is Busy, although nobody sees who; nothing is held then. */
static void test_taken(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        take("1");
        send_acquire(client, "a", "0-3", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        assert_text(client->message, "/parameters/holders/0/kind", "session");
        assert_null_at(client->message, "/parameters/holders/0/pid");
        assert_text(client->message, "/parameters/holders/0/cpus", "1");
        assert_held("");

        acquire_for(client, getpid(), "a", "2-3", "guest");
        /* When it has gone, that is found out by who asks. */
        take("");
        acquire_for(client, getpid(), "b", "0-1", "guest");
        assert_held("0-3");
}

/* Who waits is let in when it is found that nobody is there any more. The first pause is short. */
static void test_waits(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        take("1");
        send_acquire(client, "a", "0-1", "guest", ",\"waitUSec\":" LONG_USEC);
        assert_true(client_is_silent(client));
        assert_held("0"); /* kept free, for a while */
        take("");
        lease_id(client_receive(client));
        assert_held("0-1");
}

/* The pauses become longer: there is no polling at a pace. */
static void test_pauses(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t begin = clock_now_usec();
        unsigned n;

        take("1");
        send_acquire(client, "a", "1", "guest", ",\"waitUSec\":" LONG_USEC);
        broker_pump(broker);
        n = fake_reserve.n_opens;
        broker_wait(broker, fake_reserve.n_opens >= n + 2);
        assert_true(clock_now_usec() - begin >= 300000); /* 100 ms and 200 ms */
}

/* CPUs that are off line are let go, and held again when they are back; whoever is there first is told of. */
static void test_off_line(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0-3", "guest");

        set_online(broker, client, "0-1,3-11");
        assert_held("0-1,3");
        set_online(broker, client, "0-11");
        assert_held("0-3");
        assert_false(find(broker, id)->contended);

        set_online(broker, client, "0-1,3-11");
        take("2");
        set_online(broker, client, "0-11");
        assert_held("0-1,3");
        assert_true(find(broker, id)->contended);
        take("");
        broker_wait(broker, !find(broker, id)->contended);
        assert_held("0-3");
}

/* CPUs may be gone for perf before they are off line here: that does not take the level from all leases. */
static void test_goes_off_line(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        acquire_for(client, getpid(), "a", "2-3", "guest");
        assert_int_equal(cpuset_parse("0", 1, &fake_reserve.absent), 0);
        assert_fine(client_call(client, ADMIN "Reload", NULL));
        broker_pump(broker);
        assert_level(client, "reserve", "Level=reserve");
        assert_held("2-3");

        assert_int_equal(cpuset_parse("0-3", 3, &fake_reserve.absent), 0);
        acquire_for(client, getpid(), "b", "4", "guest");
        assert_fine(client_call(client, ADMIN "Reload", NULL));
        broker_pump(broker);
        assert_level(client, "reserve", "Level=reserve");
        assert_true(cpuset_has(&fake_reserve.held, 4));
}

/* Whoever got to a CPU of a lease first does not keep the lease from giving others up, and there is an
 * answer.
 */
static void test_shrinks(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0-3", "guest");

        set_online(broker, client, "0-1,3-11");
        take("2");
        set_online(broker, client, "0-11");
        assert_held("0-1,3");
        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"2-3\"}", id.text));
        assert_held("3");
        assert_true(find(broker, id)->contended);

        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1-3\"}", id.text));
        assert_held("1,3");
}

/* A session that is seen is named, and nobody unseen beside it. */
static void test_seen(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t id = fake_put(on_cpu(1));

        take("1");
        send_acquire(client, "a", "0-3", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        assert_int_equal(int_at(client->message, "/parameters/holders/0/pid"), getpid());
        assert_int_equal(json_object_array_length(at(client->message, "/parameters/holders")), 1);

        send_acquire(client, "a", "0-3", "guest", ",\"waitUSec\":" LONG_USEC);
        assert_true(client_is_silent(client));
        take("");
        fake_close(id);
        lease_id(client_receive(client));
        assert_held("0-3");
}

/* One of a task keeps the whole SPU from being held, wherever that task is. */
static void test_task(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        fake_put(on_thread(getppid(), 0));
        take("0-3");
        send_acquire(client, "a", "2", "guest", "");
        assert_error(client_receive(client), BROKER "Busy");
        acquire_for(client, getpid(), "a", "4", "guest");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_holds, setup_blind, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_taken, setup_blind, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_waits, setup_blind, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_pauses, setup_blind, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_off_line, setup_blind, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_goes_off_line, setup_blind, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_shrinks, setup_blind, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_holds, setup_seeing, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_seen, setup_seeing, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_task, setup_seeing, arbitration_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
