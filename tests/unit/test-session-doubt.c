/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Sessions that may be dead, in a whole broker: whom its iterator does not meet is this test's to say, and
 * what the kernel lets be opened beside whom, the model's of perf_event_open(). Real ones:
 * tests/daemon/test_observe_closes.py, tests/vm/guest/test_doubt.py.
 */

#include "tests/unit/broker-fixture.h"
#include "tests/unit/fake-arbiter.h"
#include "tests/unit/perf-model.h"

#include "broker/session-doubt.h"

#define CPU            1
#define LEVEL          "[Arbitration]\nLevel=observe\n"
#define PAUSE_MAX_USEC USEC_PER_SEC /* session-doubt.c's */

/* Nobody that the iterator meets has these. */
static uint64_t unmet[8];
static size_t n_unmet;

static void iterate(void) {
        for (size_t i = 0; i < fake_arbiter.n_sessions; i++) {
                ArbiterSession *session = &fake_arbiter.sessions[i];

                session->unseen = false;
                for (size_t j = 0; j < n_unmet; j++)
                        session->unseen |= session->id == unmet[j];
        }
}

static int setup(void **state, ArbiterHook hook) {
        Broker *broker = calloc(1, sizeof(*broker));
        char name[64];
        FILE *f;

        if (!broker)
                return -1;
        strcpy(broker->path, "/tmp/spe-test-XXXXXX");
        if (!mkdtemp(broker->path) || broker_write_config(broker->path) < 0)
                return -1;
        (void)snprintf(name, sizeof(name), "%s/etc/spe-broker/spe-broker.conf", broker->path);
        f = fopen(name, "ae");
        if (!f || fputs(LEVEL, f) < 0 || fclose(f) != 0)
                return -1;

        (void)signal(SIGPIPE, SIG_IGN);
        kernel = (struct Kernel){0};
        fake_arbiter_reset(hook);
        fake_arbiter.iterate_fn = iterate;
        n_unmet = 0;
        broker_start(broker);
        broker_pump(broker);
        *state = broker;
        return 0;
}

static int setup_hints(void **state) {
        return setup(state, ARBITER_HOOK_TRACEPOINTS);
}

static int setup_exact(void **state) {
        return setup(state, ARBITER_HOOK_TRAMPOLINES);
}

/* An event that is open to the kernel's table; at perf, only what open_foreign() has opened. */
static uint64_t put(int cpu, pid_t thread) {
        ArbiterSession session = {.cpu = cpu,
                                  .target_thread = thread,
                                  .target_process = thread,
                                  .pid = getpid(),
                                  .command = "perf"};

        (void)snprintf(session.pmu, sizeof(session.pmu), "%s", fake_pmu_of(0));
        return fake_open(session);
}

static void lose(uint64_t id) {
        unmet[n_unmet++] = id;
        fake_ring();
}

static const Session *only_session(const Broker *broker) {
        assert_int_equal(broker->manager->sessions.n, 1);
        return TAILQ_FIRST(&broker->manager->sessions.all);
}

static void test_closed(void **state) {
        Broker *broker = *state;
        uint64_t id = put(CPU, 0);

        broker_pump(broker);
        assert_false(only_session(broker)->suspected);
        assert_int_equal(fake_arbiter.counters.drifted, 0);

        lose(id);
        broker_wait(broker, broker->manager->sessions.n == 0);
        assert_int_equal(fake_count(), 0);
        assert_int_equal(fake_arbiter.counters.drifted, 1);
        assert_int_equal(count_open(), 0);
}

/* Closed, and still there for a moment; nothing rings when it is not. */
static void test_closed_late(void **state) {
        Broker *broker = *state;
        uint64_t id = put(CPU, 0);
        int event = open_foreign(SPU, CPU);

        broker_pump(broker);
        lose(id);
        broker_wait(broker, only_session(broker)->suspected);
        broker_pump(broker);
        assert_int_equal(fake_count(), 1);

        close(event);
        broker_wait(broker, broker->manager->sessions.n == 0);
        assert_int_equal(fake_arbiter.counters.drifted, 1);
}

/* Mapped, and nobody waits for it: it is suspected, and left alone in the end. */
static void test_mapped(void **state) {
        Broker *broker = *state;
        int event = open_foreign(SPU, CPU);
        uint64_t deadline = clock_deadline(DEADLINE_USEC);
        unsigned n;

        lose(put(CPU, 0));
        while (sd_event_run(broker->event, PAUSE_MAX_USEC * 3 / 2) > 0)
                assert_true(clock_now_usec() < deadline);
        assert_true(only_session(broker)->suspected);
        n = fake_arbiter.n_iterations;
        assert_in_range(n, 3, 12);

        /* Who comes with a lease has the kernel asked, and nobody else looked at. */
        assert_false(session_doubt_ask(broker->manager, &only_session(broker)->reach));
        assert_int_equal(broker->manager->sessions.n, 1);
        close(event);
        assert_false(session_doubt_ask(broker->manager, &(CpuSet){{1}}));
        assert_true(session_doubt_ask(broker->manager, &only_session(broker)->reach));
        assert_int_equal(broker->manager->sessions.n, 0);
        assert_int_equal(fake_arbiter.n_iterations, n);
}

/* In a lease's way: asked before it is refused. */
static void test_in_the_way(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        int event = open_foreign(SPU, CPU);
        pid_t vmm = child_new(0);

        lose(put(CPU, 0));
        broker_wait(broker, only_session(broker)->suspected);
        assert_error(client_call(client, BROKER "Acquire",
                                 "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"1\",\"pid\":%d}}",
                                 (int)vmm),
                     BROKER "Busy");
        close(event);
        assert_fine(client_call(client, BROKER "Acquire",
                                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"1\",\"pid\":%d}}",
                                (int)vmm));
        assert_int_equal(broker->manager->sessions.n, 0);
        child_kill(vmm);
}

/* A lease waits, the session ends, and nothing at all tells. */
static void test_waited_for(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        int event = open_foreign(SPU, CPU);
        pid_t vmm = child_new(0);

        unmet[n_unmet] = put(CPU, 0);
        broker_pump(broker);
        assert_false(only_session(broker)->suspected);
        client_send(
                client, BROKER "Acquire", true,
                "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"1\",\"pid\":%d},\"waitUSec\":" LONG_USEC
                "}",
                (int)vmm);
        assert_text(client_receive(client), "/parameters/change", "queued");
        n_unmet++;
        broker_wait(broker, only_session(broker)->suspected);
        assert_true(client_is_silent(client));
        close(event);
        assert_text(client_receive(client), "/parameters/change", "granted");
        child_kill(vmm);
}

/* Where PMUs do not exclude: not met twice in a row. */
static void test_not_exclusive(void **state) {
        Broker *broker = *state;
        int event = open_foreign(SPU, CPU);
        uint64_t id;
        unsigned n;

        kernel.shared = true;
        id = put(CPU, 0);
        broker_pump(broker);
        lose(id);
        broker_wait(broker, only_session(broker)->doubted);

        /* Met again: it had only changed hands. */
        n_unmet = 0;
        broker_wait(broker, !only_session(broker)->doubted);
        assert_int_equal(fake_count(), 1);

        n = fake_arbiter.n_iterations;
        lose(id);
        broker_wait(broker, broker->manager->sessions.n == 0);
        assert_true(fake_arbiter.n_iterations >= n + 2);
        close(event);
}

/* Several threads have one each, so that asking for a CPU says nothing. */
static void test_threads(void **state) {
        Broker *broker = *state;
        uint64_t dead, alive;

        kernel.task_bound = true;
        kernel.thread = THREAD;
        alive = put(-1, THREAD);
        dead = put(-1, THREAD + 10);
        lose(put(-1, THREAD_GONE));
        lose(dead);
        lose(alive);
        broker_wait(broker, broker->manager->sessions.n == 1);
        assert_int_equal(only_session(broker)->facts.target_thread, THREAD);
        assert_true(only_session(broker)->suspected);

        kernel.task_bound = false;
        broker_wait(broker, broker->manager->sessions.n == 0);
        assert_int_equal(fake_arbiter.counters.drifted, 3);
}

/* The kernel has let another one in since, so that it cannot be: though it refuses ours, on account of that.
 */
static void test_superseded(void **state) {
        Broker *broker = *state;
        uint64_t first = put(CPU, 0), second;
        int event = open_foreign(SPU, CPU);

        broker_pump(broker);
        second = put(CPU, 0);
        lose(first);
        broker_wait(broker, TAILQ_FIRST(&broker->manager->sessions.all)->facts.id == second);
        assert_false(only_session(broker)->suspected);
        close(event);
}

/* Off line, or its PMU has gone: there is nobody to ask. */
static void test_nobody_to_ask(void **state) {
        Broker *broker = *state;

        lose(put(300, 0));
        broker_wait(broker, only_session(broker)->suspected);
        kernel.n_calls = 0;
        session_doubt_settle(broker->manager);
        assert_int_equal(kernel.n_calls, 0);
        assert_int_equal(fake_count(), 1);
}

/* A process that had a session ends: also one that did not open it. */
static void test_holder_ends(void **state) {
        Broker *broker = *state;
        pid_t child = child_new(0), other = child_new(0);
        uint64_t id = put(CPU, 0);
        unsigned n;

        fake_arbiter.holders[0] = child;
        fake_arbiter.holders[1] = other;
        fake_arbiter.n_holders = 2;
        broker_pump(broker);
        n = fake_arbiter.n_iterations;
        assert_true(n > 0);

        child_kill(other);
        broker_wait(broker, fake_arbiter.n_iterations > n);
        assert_int_equal(fake_arbiter.n_holders, 1);
        assert_int_equal(fake_count(), 1);

        unmet[n_unmet++] = id;
        assert_int_equal(kill(child, SIGKILL), 0); /* and nobody reaps it */
        broker_wait(broker, broker->manager->sessions.n == 0);
        assert_int_equal(fake_arbiter.n_holders, 0);
        assert_int_equal(child_wait(child), SIGKILL);
}

/* Where ends are seen nobody is looked for, however often it rings. */
static void test_exact(void **state) {
        ArbiterSession session = {.cpu = CPU, .pid = getpid(), .command = "perf"};
        Broker *broker = *state;
        uint64_t id = put(CPU, 0);

        broker_pump(broker);
        fake_ring();
        broker_pump(broker);
        session_doubt_settle(broker->manager);
        assert_int_equal(fake_arbiter.n_iterations, 0);

        /* Nor is the kernel asked about what the hook has seen coming, */
        unmet[n_unmet++] = id;
        iterate();
        fake_arbiter.generation++;
        session_doubt_settle(broker->manager);
        assert_true(only_session(broker)->suspected);
        assert_int_equal(fake_count(), 1);
        fake_close(id);

        /* but about what was there before. */
        (void)snprintf(session.pmu, sizeof(session.pmu), "%s", fake_pmu_of(0));
        unmet[0] = fake_put(session);
        iterate();
        session_doubt_settle(broker->manager);
        assert_int_equal(broker->manager->sessions.n, 0);
        assert_int_equal(fake_arbiter.n_iterations, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_closed, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_closed_late, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_mapped, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_in_the_way, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_waited_for, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_not_exclusive, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_threads, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_superseded, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_nobody_to_ask, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_holder_ends, setup_hints, broker_teardown),
                cmocka_unit_test_setup_teardown(test_exact, setup_exact, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
