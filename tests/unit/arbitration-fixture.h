/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A broker (tests/unit/broker-fixture.h) whose configuration names a level, on a kernel that is a fake.
 */

#include "tests/unit/broker-fixture.h"

#include "tests/unit/fake-arbiter.h"
#include "tests/unit/fake-reserve.h"

/* From the next reload on. */
static inline void write_level(const Broker *broker, const char *level) {
        char name[128];
        FILE *f;

        (void)snprintf(name, sizeof(name), "%s/etc/spe-broker/spe-broker.conf.d", broker->path);
        (void)mkdir(name, 0755);
        (void)snprintf(name, sizeof(name), "%s/etc/spe-broker/spe-broker.conf.d/level.conf", broker->path);
        f = fopen(name, "we");
        assert_non_null(f);
        assert_true(fprintf(f, "[Arbitration]\nLevel=%s\n", level) > 0);
        assert_int_equal(fclose(f), 0);
}

/* What the fake of bpf/reserve.h is, stays. */
_unused_ static int arbitration_setup_again(void **state, ArbiterHook hook, const char *level) {
        Broker *broker;

        fake_arbiter_reset(hook);
        if (broker_setup(state) < 0)
                return -1;

        broker = *state;
        broker_stop(broker);
        write_level(broker, level);
        broker_start(broker);
        return 0;
}

_unused_ static int arbitration_setup(void **state, ArbiterHook hook, const char *level) {
        fake_reserve = (FakeReserve){0};
        return arbitration_setup_again(state, hook, level);
}

_unused_ static int arbitration_teardown(void **state) {
        int r = broker_teardown(state);

        fake_arbiter_reset(ARBITER_HOOK_NONE);
        return r;
}

/* A CPU-wide event, of whoever runs the test. */
_unused_ static ArbiterSession on_cpu(unsigned cpu) {
        ArbiterSession session = {.cpu = (int)cpu, .pid = getpid(), .uid = getuid(), .command = "perf"};

        (void)strcpy(session.pmu, fake_pmu_of(cpu));
        return session;
}

/* One on process @pid's first thread, while it is on @cpu. */
_unused_ static ArbiterSession on_thread(pid_t pid, unsigned cpu) {
        ArbiterSession session = on_cpu(cpu);

        session.target_thread = session.target_process = pid;
        return session;
}

#define assert_cpus(set, text)                              \
        do {                                                \
                char _text[CPUSET_TEXT_MAX];                \
                                                            \
                cpuset_format((set), _text, sizeof(_text)); \
                assert_string_equal(_text, text);           \
        } while (0)

#define assert_closed(cpu_wide_text, task_bound_text)                          \
        do {                                                                   \
                assert_cpus(&fake_arbiter.closed.cpu_wide, cpu_wide_text);     \
                assert_cpus(&fake_arbiter.closed.task_bound, task_bound_text); \
        } while (0)

/* Where sessions on @process's threads are refused. */
_unused_ static void assert_owner(OwnerKey process, const char *text) {
        CpuSet cpus = CPUSET_NULL;

        for (size_t i = 0; i < fake_arbiter.n_owners; i++)
                if (fake_arbiter.owners[i].owner == process)
                        cpus = fake_arbiter.owners[i].cpus;
        assert_cpus(&cpus, text);
}

/* What Describe says; @reason: a part of it, or NULL. */
_unused_ static void assert_level(Client *client, const char *level, const char *reason) {
        const char *told;

        assert_fine(client_call(client, BROKER "Describe", NULL));
        assert_text(client->message, "/parameters/host/level", level);
        told = text_at(client->message, "/parameters/host/levelReason");
        if (!reason)
                assert_null(told);
        else if (!told || !strstr(told, reason))
                fail_msg("no '%s' in '%s'", reason, told ?: "");
}

_unused_ static void release(Client *client, LeaseId id) {
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
}

_unused_ static void send_acquire(Client *client, const char *vm, const char *cpus, const char *mode,
                                  const char *rest) {
        client_send(client, BROKER "Acquire", false,
                    "{\"request\":{\"vm\":\"%s\",\"vcpus\":1,\"cpus\":\"%s\",\"mode\":\"%s\","
                    "\"bufferSize\":4096}%s}",
                    vm, cpus, mode, rest);
}
