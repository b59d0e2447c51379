/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which level there is on which kernel, and what is said of it; and how it changes. */

#include "tests/unit/broker-fixture.h"

#include <errno.h>

#include "tests/unit/arbitration-fixture.h"

/* What is there, what is named, what comes of it. */
static void test_choice(_unused_ void **none) {
        static const struct {
                ArbiterHook hook;
                int reserve; /* what a perf event of the broker's fails with */
                const char *named;
                const char *level;
                const char *reason; /* a part of it */
                bool protected;
        } table[] = {
                {ARBITER_HOOK_LSM, 0, "enforce", "enforce", NULL, true},
                {ARBITER_HOOK_LSM, 0, "reserve", "reserve", "the configuration says Level=reserve", true},
                {ARBITER_HOOK_LSM, 0, "observe", "observe", "the configuration says Level=observe", true},
                {ARBITER_HOOK_LSM, 0, "none", "none", "the configuration says Level=none", true},
                {ARBITER_HOOK_LSM, 0, "auto", "none", "this host is simulated", true},
                {ARBITER_HOOK_LSM, RESERVE_E_SHARED, "enforce", "enforce", NULL, true},
                {ARBITER_HOOK_LSM, RESERVE_E_SHARED, "reserve", "observe",
                 "level reserve cannot be had: the PMU of arm_spe_0 is no lock: it takes two events on one "
                 "CPU",
                 false},
                {ARBITER_HOOK_TRAMPOLINES, 0, "enforce", "observe",
                 "level enforce cannot be had: this kernel is a fake", false},
                {ARBITER_HOOK_TRACEPOINTS, 0, "reserve", "reserve", "Level=reserve", true},
                {ARBITER_HOOK_TRACEPOINTS, RESERVE_E_DENIED, "reserve", "observe",
                 "(Run spe-broker with CAP_PERFMON, and if kernel.perf_event_paranoid is above 2 with "
                 "CAP_SYS_ADMIN)",
                 false},
                {ARBITER_HOOK_TRACEPOINTS, RESERVE_E_OFF_LINE, "reserve", "observe",
                 "perf has no CPU 0 on the PMU of arm_spe_0 (type ", false},
                {ARBITER_HOOK_TRACEPOINTS, -EMFILE, "reserve", "observe",
                 "a perf event on CPU 0 of arm_spe_0: Too many open files", false},
                /* Somebody's event that refuses ours shows that it is a lock. */
                {ARBITER_HOOK_TRACEPOINTS, RESERVE_E_BUSY, "reserve", "reserve", "Level=reserve", true},
                {ARBITER_HOOK_NONE, 0, "reserve", "reserve", "Level=reserve", true},
                {ARBITER_HOOK_NONE, 0, "observe", "none",
                 "level observe cannot be had: this kernel is a fake", false},
                {ARBITER_HOOK_NONE, RESERVE_E_SHARED, "reserve", "none",
                 "; level observe cannot be had: this kernel is a fake", false},
                {ARBITER_HOOK_NONE, 0, "enforce", "none", "level enforce cannot be had", false},
                {ARBITER_HOOK_NONE, 0, "none", "none", "Level=none", true},
        };

        for (size_t i = 0; i < ELEMENTS_OF(table); i++) {
                Broker *broker;
                Client *client;
                void *state = NULL;

                fake_reserve = (FakeReserve){.error = table[i].reserve};
                assert_int_equal(arbitration_setup_again(&state, table[i].hook, table[i].named), 0);
                broker = state;
                if (!broker) { /* as clang's analyzer does not know that a failed assertion does not return */
                        fail();
                        return;
                }
                client = client_new(broker);
                assert_level(client, table[i].level, table[i].reason);

                fake_reserve.error = 0;
                send_acquire(client, "a", "0", "guest", "");
                if (table[i].protected) {
                        lease_id(client_receive(client));
                } else {
                        assert_error(client_receive(client), BROKER "ArbitrationUnavailable");
                        assert_non_null(
                                strstr(text_at(client->message, "/parameters/reason"), table[i].reason));
                }
                acquire_for(client, getpid(), "b", "4", "shared");

                client_free(client);
                assert_int_equal(arbitration_teardown(&state), 0);
        }
}

static int setup(void **state) {
        return arbitration_setup(state, ARBITER_HOOK_LSM, "enforce");
}

static void change_level(Client *client, const char *level) {
        write_level(client->broker, level);
        assert_fine(client_call(client, ADMIN "Reload", NULL));
        broker_pump(client->broker);
}

/* Each level after each other one; leases are kept, and protected by what there is now. */
static void test_reload(void **state) {
        static const char *const levels[] = {"none", "observe", "reserve", "enforce"};
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        acquire_for(client, getpid(), "a", "0-1", "guest");
        for (size_t i = 0; i < ELEMENTS_OF(levels); i++)
                for (size_t j = 0; j < ELEMENTS_OF(levels); j++) {
                        bool enforce, reserve;

                        change_level(client, levels[i]);
                        change_level(client, levels[j]);
                        enforce = strcmp(levels[j], "enforce") == 0;
                        reserve = strcmp(levels[j], "reserve") == 0;
                        assert_level(client, levels[j], enforce ? NULL : "the configuration says");
                        assert_closed(enforce ? "0-1" : "", "");
                        assert_owner(getpid(), enforce ? "0-1" : "");
                        assert_cpus(&fake_reserve.held, reserve ? "0-1" : "");
                        assert_int_equal(fake_arbiter.there, strcmp(levels[j], "none") != 0);
                }

        assert_int_equal(broker->manager->leases.n, 1);
}

/* Sessions that are open are seen as soon as there are eyes, and not any more without. */
static void test_sees(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        change_level(client, "none");
        fake_put(on_cpu(0));
        broker_pump(broker);
        assert_int_equal(broker->manager->sessions.n, 0);
        change_level(client, "observe");
        assert_int_equal(broker->manager->sessions.n, 1);
        assert_cpus(&broker->manager->model.sessions.cpu_wide, "0");
        change_level(client, "none");
        assert_int_equal(broker->manager->sessions.n, 0);
        assert_cpus(&broker->manager->model.sessions.cpu_wide, "");
}

/* An arbiter that cannot be made is a reason, and no end. */
static void test_not_made(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        change_level(client, "none");
        fake_arbiter.new_error = -EMFILE;
        change_level(client, "enforce");
        assert_level(client, "none", "BPF programs cannot be set up: Too many open files");
        fake_arbiter.new_error = 0;
        change_level(client, "observe");
        assert_level(client, "observe", "Level=observe");
}

/* An SPU goes and another level comes in one turn: nobody looks where the SPU's sessions were any more. */
static void test_reload_without_instance(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        ConfigFault fault = CONFIG_FAULT_NULL;
        char from[160], to[160];

        change_level(client, "observe");
        fake_put(on_thread(getppid(), 0));
        broker_pump(broker);
        assert_int_equal(broker->manager->sessions.n, 1);

        (void)snprintf(from, sizeof(from),
                       "%s/run/spe-broker/simulated/sys/bus/event_source/devices/arm_spe_0", broker->path);
        (void)snprintf(to, sizeof(to), "%s/run/spe-broker/simulated/sys/bus/event_source/devices/cpu_0",
                       broker->path);
        assert_int_equal(rename(from, to), 0);
        assert_int_equal(manager_rescan(broker->manager), 0);
        write_level(broker, "enforce");
        assert_int_equal(manager_reload(broker->manager, &fault), 0);
        broker_pump(broker);

        assert_level(client, "enforce", NULL);
        assert_int_equal(broker->manager->sessions.n, 1);
        assert_null(TAILQ_FIRST(&broker->manager->sessions.all)->instance);
        assert_true(cpuset_is_empty(&broker->manager->model.sessions.task_bound));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_choice),
                cmocka_unit_test_setup_teardown(test_reload, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_reload_without_instance, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_sees, setup, arbitration_teardown),
                cmocka_unit_test_setup_teardown(test_not_made, setup, arbitration_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
