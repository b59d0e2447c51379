/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A whole broker at a level of arbitration, over the fake kernel of fake-arbiter.h: arm_spe_0 has CPUs 0-3,
 * arm_spe_1 has 4-11.
 */

#include "tests/unit/broker-fixture.h"
#include "tests/unit/fake-arbiter.h"

/* Starts the broker anew, at @level over a kernel with @hook. */
_unused_ static void session_restart(Broker *broker, const char *level, ArbiterHook hook) {
        char path[96];
        FILE *f;

        broker_stop(broker);
        fake_arbiter_reset(hook);
        (void)snprintf(path, sizeof(path), "%s/etc/spe-broker/spe-broker.conf.d", broker->path);
        assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
        (void)snprintf(path, sizeof(path), "%s/etc/spe-broker/spe-broker.conf.d/level.conf", broker->path);
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fprintf(f, "[Arbitration]\nLevel=%s\n", level) > 0);
        assert_int_equal(fclose(f), 0);
        broker_start(broker);
        broker_pump(broker);
}

_unused_ static int setup_observe(void **state) {
        if (broker_setup(state) < 0)
                return -1;
        session_restart(*state, "observe", ARBITER_HOOK_TRAMPOLINES);
        return 0;
}

_unused_ static int setup_enforce(void **state) {
        if (broker_setup(state) < 0)
                return -1;
        session_restart(*state, "enforce", ARBITER_HOOK_LSM);
        return 0;
}

_unused_ static int session_teardown(void **state) {
        int r = broker_teardown(state);

        fake_arbiter_reset(ARBITER_HOOK_NONE);
        return r;
}

/* An event of process 4321 ("perf", user 1000) on the SPU that has @cpu; task-bound if @thread is one. */
_unused_ static ArbiterSession an_event(int cpu, pid_t thread) {
        ArbiterSession session = {.cpu = cpu,
                                  .target_thread = thread,
                                  .target_process = thread,
                                  .pid = 4321,
                                  .uid = 1000,
                                  .command = "perf"};

        (void)snprintf(session.pmu, sizeof(session.pmu), "%s", fake_pmu_of(cpu < 0 ? 0 : (unsigned)cpu));
        return session;
}

/* Opens it, and lets the broker hear of it. */
_unused_ static uint64_t open_event(Broker *broker, int cpu, pid_t thread) {
        uint64_t id = fake_open(an_event(cpu, thread));

        broker_wait(broker, broker->manager->sessions.generation == fake_arbiter.generation);
        return id;
}

_unused_ static void close_event(Broker *broker, uint64_t id) {
        fake_close(id);
        broker_wait(broker, broker->manager->sessions.generation == fake_arbiter.generation);
}

_unused_ static struct json_object *list_sessions(Client *client) {
        return at(client_call(client, BROKER "ListSessions", NULL), "/parameters/sessions");
}

/* The next event of a Watch stream that is of @kind, those of others left out. */
_unused_ static struct json_object *next_event(Client *watch, const char *kind) {
        struct json_object *event;

        do
                event = at(client_receive(watch), "/parameters/event");
        while (strcmp(text_at(event, "/kind"), kind) != 0);

        return at(event, strcmp(kind, "lease") == 0     ? "/lease"
                         : strcmp(kind, "session") == 0 ? "/session"
                                                        : "/refusal");
}

/* A stream that has had its snapshot. */
_unused_ static Client *start_watch(Broker *broker) {
        Client *watch = client_new(broker);

        client_send(watch, BROKER "Watch", true, NULL);
        assert_text(client_receive(watch), "/parameters/event/kind", "snapshot");
        return watch;
}
