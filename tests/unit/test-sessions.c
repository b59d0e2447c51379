/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The copy of the kernel's table: what is in it, when it is made, and who is told. */

#include "tests/unit/session-fixture.h"

#include <errno.h>
#include <sched.h>

#include "broker/session-table.h"

#define MANY 10000

static void assert_session(struct json_object *session, const char *kind, const char *cpus) {
        assert_text(session, "/kind", kind);
        assert_text(session, "/cpus", cpus);
        assert_int_equal(int_at(session, "/pid"), 4321);
        assert_int_equal(int_at(session, "/uid"), 1000);
        assert_text(session, "/command", "perf");
}

/* A child that may run on CPU 0 only. */
static pid_t pinned_child(void) {
        pid_t child = child_new(0);
        cpu_set_t cpu;

        CPU_ZERO(&cpu);
        CPU_SET(0, &cpu);
        assert_int_equal(sched_setaffinity(child, sizeof(cpu), &cpu), 0);
        return child;
}

static void test_kinds(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        struct json_object *sessions;
        pid_t child = pinned_child();

        assert_int_equal(json_object_array_length(list_sessions(client)), 0);
        open_event(broker, 5, 0);
        open_event(broker, -1, child);
        open_event(broker, 0, child);
        open_event(broker, 2, child); /* where it cannot run */

        sessions = list_sessions(client);
        assert_int_equal(json_object_array_length(sessions), 4);
        assert_session(at(sessions, "/0"), "cpu", "5");
        assert_text(sessions, "/0/instance", "arm_spe_1");
        assert_int_equal(int_at(sessions, "/0/cpu"), 5);
        assert_null_at(sessions, "/0/task");
        assert_false(bool_at(sessions, "/0/contended"));
        assert_session(at(sessions, "/1"), "task", "0");
        assert_text(sessions, "/1/instance", "arm_spe_0");
        assert_null_at(sessions, "/1/cpu");
        assert_int_equal(int_at(sessions, "/1/task"), child);
        assert_session(at(sessions, "/2"), "taskcpu", "0");
        assert_int_equal(int_at(sessions, "/2/cpu"), 0);
        assert_session(at(sessions, "/3"), "taskcpu", "");

        client_call(client, BROKER "Describe", NULL);
        assert_int_equal(int_at(client->message, "/parameters/host/counts/sessions"), 4);
        client_call(client, BROKER "ListInstances", NULL);
        assert_text(client->message, "/parameters/instances/0/sessionCpus", "0");
        assert_text(client->message, "/parameters/instances/1/sessionCpus", "5");
        child_kill(child);
}

/* Now, and not when it was opened; and nowhere, when it has ended. */
static void test_affinity(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        pid_t child = child_new(0);
        CpuSet reach;
        bool changed;
        uint64_t id;

        open_event(broker, -1, child);
        child_kill(child);
        sessions_of_owner(broker->manager, &(const Owner){.pid = child}, &reach);
        assert_false(cpuset_is_empty(&reach));

        broker->manager->sessions.look_usec = 0;
        assert_int_equal(sessions_read(broker->manager, &changed), 0);
        assert_true(changed);
        sessions_of_owner(broker->manager, &(const Owner){.pid = child}, &reach);
        assert_true(cpuset_is_empty(&reach));
        assert_text(list_sessions(client), "/0/cpus", "");

        assert_int_equal(sessions_read(broker->manager, &changed), 0);
        assert_false(changed);
        id = open_event(broker, 1, 0);
        close_event(broker, id);
        assert_int_equal(json_object_array_length(list_sessions(client)), 1);
}

static void test_since(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t before = manager_now_realtime(broker->manager);
        int64_t since;

        fake_open(an_event(0, 0));
        fake_put(an_event(1, 0)); /* open before the programs were there */
        broker_wait(broker, broker->manager->sessions.n == 2);
        assert_null_at(list_sessions(client), "/0/sinceUSec"); /* so it is the oldest */
        since = int_at(list_sessions(client), "/1/sinceUSec");
        assert_true((uint64_t)since + USEC_PER_SEC > before);
        assert_true((uint64_t)since < before + DEADLINE_USEC);
}

static void test_told(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *watch = start_watch(broker), *late = NULL;
        uint64_t id = open_event(broker, 1, 0);
        struct json_object *event;

        event = next_event(watch, "session");
        assert_text(event, "/change", "opened");
        assert_session(at(event, "/session"), "cpu", "1");
        assert_true(client_is_silent(watch));

        late = client_new(broker);
        client_send(late, BROKER "Watch", true, NULL);
        assert_session(at(client_receive(late), "/parameters/event/snapshot/sessions/0"), "cpu", "1");

        close_event(broker, id);
        event = next_event(watch, "session");
        assert_text(event, "/change", "closed");
        assert_session(at(event, "/session"), "cpu", "1");
        assert_text(next_event(late, "session"), "/change", "closed");
        assert_true(client_is_silent(watch) && client_is_silent(late));
}

/* The same address, but another event. */
static void test_address_used_again(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *watch = start_watch(broker);
        struct json_object *event;

        open_event(broker, 1, 0);
        assert_text(next_event(watch, "session"), "/change", "opened");

        fake_arbiter.sessions[0].cpu = 2;
        fake_arbiter.generation++;
        fake_ring();
        event = next_event(watch, "session");
        assert_text(event, "/change", "closed");
        assert_text(event, "/session/cpus", "1");
        event = next_event(watch, "session");
        assert_text(event, "/change", "opened");
        assert_text(event, "/session/cpus", "2");
        assert_int_equal(broker->manager->sessions.n, 1);
}

/* What the kernel may still refuse counts against a lease, but is not told of. */
static void test_entering(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = start_watch(broker);

        acquire_for(client, getpid(), "a", "1", "guest");
        assert_text(next_event(watch, "lease"), "/change", "granted");
        fake_arbiter.entering = true;
        open_event(broker, 1, 0);
        assert_true(cpuset_has(&broker->manager->model.sessions.cpu_wide, 1));
        assert_int_equal(json_object_array_length(list_sessions(client)), 0);
        assert_true(client_is_silent(watch));

        /* That it is let in need not ring: as long as something is entering, it is looked at again. */
        fake_decide();
        assert_text(next_event(watch, "lease"), "/change", "contended");
        assert_text(next_event(watch, "session"), "/change", "opened");
        assert_int_equal(json_object_array_length(list_sessions(client)), 1);
}

/* A read that fails leaves the copy, is logged once, and is made up for by the next ring. */
static void test_failure(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        open_event(broker, 1, 0);
        fake_arbiter.read_error = -EIO;
        fake_open(an_event(2, 0));
        broker_wait(broker, broker->manager->sessions.failed);
        assert_int_equal(json_object_array_length(list_sessions(client)), 1);

        fake_arbiter.read_error = 0;
        fake_ring();
        broker_wait(broker, !broker->manager->sessions.failed);
        assert_int_equal(json_object_array_length(list_sessions(client)), 2);
}

static void set_online(Broker *broker, const char *cpus) {
        char path[96];
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/run/spe-broker/simulated/sys/devices/system/cpu/online",
                       broker->path);
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fprintf(f, "%s\n", cpus) > 0);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(manager_rescan(broker->manager), 0);
        broker_pump(broker);
}

/* A CPU-wide session on a CPU that was off line is dead for good; one that opens there then is not. */
static void test_off_line(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        open_event(broker, 1, 0);
        set_online(broker, "0,2-11");
        assert_text(list_sessions(client), "/0/cpus", "");
        assert_false(cpuset_has(&broker->manager->model.sessions.cpu_wide, 1));
        acquire_for(client, getpid(), "a", "0,2-3", "guest");

        set_online(broker, "0-11");
        assert_text(list_sessions(client), "/0/cpus", "");
        assert_false(cpuset_has(&broker->manager->model.sessions.cpu_wide, 1));
        open_event(broker, 1, 0);
        assert_text(list_sessions(client), "/0/cpus", "");
        assert_text(list_sessions(client), "/1/cpus", "1");
        assert_true(cpuset_has(&broker->manager->model.sessions.cpu_wide, 1));
}

/* One that is met for the first time is ahead of the news of its CPU; and a task's event is kept by its task.
 */
static void test_on_line(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        set_online(broker, "0,2-11");
        open_event(broker, 1, 0);
        open_event(broker, 1, getpid());
        assert_text(list_sessions(client), "/0/cpus", "");
        set_online(broker, "0-11");
        assert_text(list_sessions(client), "/0/cpus", "1");
        set_online(broker, "0,2-11");
        set_online(broker, "0-11");
        assert_text(list_sessions(client), "/0/cpus", "");
        assert_true(cpuset_has(&broker->manager->model.sessions.task_bound, 1));
}

/* An SPU that is not known (yet) has no CPUs that anybody could stand against. */
static void test_unknown_pmu(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        ArbiterSession session = an_event(1, 0);

        strcpy(session.pmu, "arm_spe_77");
        strcpy(session.command, "a\nb");
        fake_open(session);
        broker_wait(broker, broker->manager->sessions.n == 1);
        assert_text(list_sessions(client), "/0/instance", "arm_spe_77");
        assert_text(list_sessions(client), "/0/cpus", "");
        assert_text(list_sessions(client), "/0/command", "a?b");
}

static void test_level_none(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = NULL;

        session_restart(broker, "none", ARBITER_HOOK_LSM);
        client = client_new(broker);
        client_call(client, BROKER "ListSessions", NULL);
        assert_error(client->message, BROKER "ArbitrationUnavailable");
        assert_true(strlen(text_at(client->message, "/parameters/reason")) > 0);
        client_send(client, BROKER "Watch", true, NULL);
        assert_int_equal(
                json_object_array_length(at(client_receive(client), "/parameters/event/snapshot/sessions")),
                0);
}

/* However many come at once, and however often it rings. */
static void test_many(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = start_watch(broker);
        uint64_t ids[MANY], begin;
        unsigned reads;

        for (size_t i = 0; i < MANY; i++)
                ids[i] = fake_open(an_event((int)(i % 12), 0));
        broker_wait(broker, broker->manager->sessions.n == MANY);
        assert_int_equal(json_object_array_length(list_sessions(client)), MANY);
        (void)client_receive(watch); /* events, or a snapshot: but it goes on */

        /* One opens and closes without end: reads have their distance, and clients their answers. */
        begin = clock_now_usec();
        reads = fake_arbiter.n_reads;
        for (unsigned i = 0; i < 200; i++) {
                fake_close(fake_open(an_event(1, 0)));
                assert_fine(client_call(client, BROKER "Describe", NULL));
        }
        assert_true(fake_arbiter.n_reads - reads <= (clock_now_usec() - begin) / 10000 + 2);

        for (size_t i = 0; i < MANY; i++)
                fake_close(ids[i]);
        broker_wait(broker, broker->manager->sessions.n == 0);
        assert_int_equal(json_object_array_length(list_sessions(client)), 0);
        assert_true(cpuset_is_empty(&broker->manager->model.sessions.cpu_wide));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_kinds, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_affinity, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_since, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_told, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_address_used_again, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_entering, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_failure, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_off_line, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_on_line, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_unknown_pmu, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_level_none, setup_observe, session_teardown),
                cmocka_unit_test_setup_teardown(test_many, setup_observe, session_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
