/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What is on record is at all times what there is, over restarts too; and what cannot be put on record does
 * not happen.
 */

#include "tests/unit/restore-fixture.h"

#include <sys/resource.h>

#define STEPS    500U
#define CHILDREN 4U
#define CPUS     12U

/* Whatever may happen to leases, at random. */
typedef struct World {
        Broker *broker;
        Client *client;
        pid_t children[CHILDREN];
        CpuSet online;
        unsigned seed;
        unsigned n_granted;
} World;

static unsigned random_below(World *world, unsigned n) {
        world->seed = world->seed * 1103515245U + 12345U;
        return (world->seed >> 16) % n;
}

static void some_cpus(World *world, char text[static CPUSET_TEXT_MAX]) {
        unsigned first = random_below(world, 2) * 4, n = first == 0 ? 4 : 8;
        CpuSet cpus = CPUSET_NULL;

        for (unsigned i = random_below(world, 3); i < 4; i++)
                cpuset_add(&cpus, first + random_below(world, n));
        cpuset_format(&cpus, text, CPUSET_TEXT_MAX);
}

static const Lease *some_lease(World *world) {
        const LeaseTable *leases = &world->broker->manager->leases;
        unsigned n = leases->n > 0 ? random_below(world, leases->n) : 0;
        const Lease *lease = TAILQ_FIRST(&leases->all);

        while (lease && n-- > 0)
                lease = TAILQ_NEXT(lease, link);
        return lease;
}

static void write_host(const World *world, const char *name, const char *text) {
        char path[160];
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/run/spe-broker/simulated/sys/%s", world->broker->path, name);
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fprintf(f, "%s\n", text) > 0);
        assert_int_equal(fclose(f), 0);
}

static void toggle_cpu(World *world) {
        unsigned cpu = random_below(world, CPUS);
        char text[CPUSET_TEXT_MAX];

        if (cpuset_has(&world->online, cpu) && cpuset_count(&world->online) > 1)
                cpuset_remove(&world->online, cpu);
        else
                cpuset_add(&world->online, cpu);
        cpuset_format(&world->online, text, sizeof(text));
        write_host(world, "devices/system/cpu/online", text);
}

/* The directory goes, or is there again, as another PMU perhaps. */
static void toggle_instance(World *world) {
        static const char format[] = "%s/run/spe-broker/simulated/sys/bus/event_source/devices/%s_0";
        char there[128], away[128], type[16];

        (void)snprintf(there, sizeof(there), format, world->broker->path, "arm_spe");
        (void)snprintf(away, sizeof(away), format, world->broker->path, "elsewhere");
        if (rename(there, away) == 0)
                return;

        assert_int_equal(rename(away, there), 0);
        (void)snprintf(type, sizeof(type), "%u", 8 + random_below(world, 2) * 100);
        write_host(world, "bus/event_source/devices/arm_spe_0/type", type);
}

static void act_on_lease(World *world, const char *cpus) {
        const Lease *lease = some_lease(world);

        if (!lease)
                return;
        switch (random_below(world, 5)) {
        case 0:
                client_call(world->client, BROKER "Release", "{\"leaseId\":\"%s\"}", lease->id);
                break;
        case 1:
                client_call(world->client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":%s}", lease->id,
                            random_below(world, 3) == 0 ? "0" : LONG_USEC);
                break;
        case 2:
                client_call(world->client, ADMIN "Revoke",
                            "{\"leaseId\":\"%s\",\"graceUSec\":%s,\"kill\":true}", lease->id,
                            random_below(world, 8) == 0 ? "0" : LONG_USEC);
                break;
        default:
                client_call(world->client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"%s\"}", lease->id,
                            cpus);
        }
}

static void act_on_host(World *world, const char *cpus) {
        static const char *const owners[] = {"host", "guest", "any", "none"};

        switch (random_below(world, 4)) {
        case 0:
                client_call(world->client, ADMIN "Assign",
                            "{\"cpus\":\"%s\",\"owner\":\"%s\",\"runtime\":true}", cpus,
                            owners[random_below(world, ELEMENTS_OF(owners))]);
                break;
        case 1:
                client_call(world->client, ADMIN "Unassign", "{\"cpus\":\"0-11\"}");
                break;
        case 2:
                toggle_cpu(world);
                assert_fine(client_call(world->client, ADMIN "Rescan", NULL));
                break;
        default:
                toggle_instance(world);
                assert_fine(client_call(world->client, ADMIN "Rescan", NULL));
        }
}

static void act(World *world) {
        static const char *const modes[] = {"exclusive", "guest", "guest", "shared"};
        char cpus[CPUSET_TEXT_MAX];

        some_cpus(world, cpus);
        switch (random_below(world, 4)) {
        case 0:
        case 1:
                client_call(world->client, BROKER "Acquire",
                            "{\"request\":{\"vm\":\"vm%u\",\"vcpus\":%u,\"cpus\":\"%s\",\"mode\":\"%s\","
                            "\"bufferSize\":4096,\"pid\":%i}}",
                            random_below(world, 8), 1 + random_below(world, 4), cpus,
                            modes[random_below(world, ELEMENTS_OF(modes))],
                            (int)world->children[random_below(world, CHILDREN)]);
                break;
        case 2:
                act_on_lease(world, cpus);
                break;
        default:
                act_on_host(world, cpus);
        }
}

static void replace_the_dead(World *world) {
        for (size_t i = 0; i < CHILDREN; i++)
                if (waitpid(world->children[i], NULL, WNOHANG) == world->children[i])
                        world->children[i] = child_new(CHILD_IGNORES_ALL);
}

/* The simulated tree is written anew with each start, so that what has changed of the host is undone. */
static void restart_world(World *world, bool as_is) {
        struct json_object *before, *after;
        Sums sums, again;

        if (as_is) {
                broker_pump(world->broker);
                before = list(world->client);
                sum_up(world->broker, &sums);
        }
        client_free(world->client);
        restart(world->broker);
        cpuset_add_range(&world->online, 0, CPUS - 1);
        world->client = client_new(world->broker);
        if (!as_is)
                return;

        after = list(world->client);
        assert_same(before, after);
        json_object_put(before);
        json_object_put(after);
        sum_up(world->broker, &again);
        assert_memory_equal(&sums, &again, sizeof(sums));
}

/* Nothing changes that is not on record as soon as the broker has nothing more to do; whenever it is started
 * again all of it is there. */
static void test_nothing_missed(void **state) {
        Broker *broker = *state;
        World world = {.broker = broker, .client = client_new(broker), .seed = 20};

        print_message("seed %u\n", world.seed);
        cpuset_add_range(&world.online, 0, CPUS - 1);
        for (size_t i = 0; i < CHILDREN; i++)
                world.children[i] = child_new(CHILD_IGNORES_ALL);

        for (unsigned i = 0; i < STEPS; i++) {
                act(&world);
                broker_pump(broker);
                assert_on_record(broker);
                replace_the_dead(&world);
                if (i % 100 == 99) {
                        /* Once to have the host as it begins, and once to compare. */
                        restart_world(&world, false);
                        broker_pump(broker);
                        restart_world(&world, true);
                        assert_on_record(broker);
                }
                world.n_granted += broker->manager->leases.n > 0;
        }
        assert_true(world.n_granted > STEPS / 2);

        for (size_t i = 0; i < CHILDREN; i++)
                child_kill(world.children[i]);
        broker_wait(broker, broker->manager->leases.n == 0);
        assert_idle(broker);
        assert_on_record(broker);
        client_free(world.client);
}

/* Failures. */

/* Whatever is written fails with EFBIG, or works again. */
static void set_writable(bool writable) {
        struct rlimit limit;

        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        limit.rlim_cur = writable ? limit.rlim_max : 0;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int teardown_writable(void **state) {
        set_writable(true);
        return broker_teardown(state);
}

static void assert_failed(struct json_object *reply) {
        assert_error(reply, "io.systemd.System");
        assert_int_equal(int_at(reply, "/parameters/errno"), EFBIG);
}

#define ACQUIRE(cpus) "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"bufferSize\":4096,\"cpus\":\"" cpus "\"}}"

static void test_grant_fails(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        set_writable(false);
        assert_failed(client_call(client, BROKER "Acquire", ACQUIRE("0")));
        assert_idle(broker);
        assert_int_equal(broker->manager->counters.leases_granted, 0);
        client_send(client, BROKER "Acquire", true, ACQUIRE("0"));
        assert_failed(client_receive(client));
        assert_idle(broker);

        set_writable(true);
        assert_on_record(broker);
        lease_id(client_call(client, BROKER "Acquire", ACQUIRE("0")));
        assert_on_record(broker);
}

static void test_move_fails(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0-1", "exclusive");
        struct json_object *before = list(client), *after;
        Sums sums, again;

        sum_up(broker, &sums);
        set_writable(false);
        assert_failed(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1-3\"}", id.text));
        broker_pump(broker);
        after = list(client);
        assert_same(before, after);
        json_object_put(before);
        json_object_put(after);
        sum_up(broker, &again);
        assert_memory_equal(&sums, &again, sizeof(sums));
        assert_on_record(broker);
        assert_false(find(broker, id)->unsaved);

        set_writable(true);
        assert_fine(client_call(client, BROKER "Update", "{\"leaseId\":\"%s\",\"cpus\":\"1-3\"}", id.text));
        assert_on_record(broker);
        assert_fine(client_call(client, BROKER "Acquire", ACQUIRE("0")));
}

/* What is to be taken back is taken back; but as long as that is not on record, nobody gets it. */
static void test_change_fails(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0-1", "exclusive");

        set_writable(false);
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", id.text));
        broker_pump(broker);
        assert_int_equal(find(broker, id)->state, LEASE_STATE_REVOKED);
        assert_true(find(broker, id)->unsaved);
        assert_failed(client_call(client, BROKER "Acquire", ACQUIRE("0")));
        /* Nor anything else. */
        assert_failed(client_call(client, BROKER "Acquire", ACQUIRE("8")));

        /* It is tried again by itself. */
        set_writable(true);
        broker_wait(broker, !find(broker, id)->unsaved);
        assert_on_record(broker);
        assert_fine(client_call(client, BROKER "Acquire", ACQUIRE("0")));
}

/* Whoever waits goes on waiting, and is told what is the matter when the time is over. */
static void test_waiters(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *one = client_new(broker),
                                       *two = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0-1", "exclusive");

        client_send(one, BROKER "Acquire", false,
                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"},\"waitUSec\":300000}");
        client_send(two, BROKER "Acquire", false,
                    "{\"request\":{\"vm\":\"c\",\"vcpus\":1,\"cpus\":\"1\"},\"waitUSec\":" LONG_USEC "}");
        set_writable(false);
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_true(client_is_silent(one) && client_is_silent(two));
        assert_failed(client_receive(one));
        assert_true(client_is_silent(two));
        assert_int_equal(broker->manager->leases.n, 1);
        set_writable(true);
        lease_id(client_receive(two));
        assert_on_record(broker);
}

/* A file that cannot be removed: the lease has ended, but nobody gets anything until it is gone. */
static void test_end_fails(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "a", "0-1", "exclusive");
        char path[128];

        path_of(broker, id.text, path);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0); /* which unlink() does not remove */
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        assert_idle(broker);
        assert_error(client_call(client, BROKER "Acquire", ACQUIRE("8")), "io.systemd.System");

        assert_int_equal(rmdir(path), 0);
        assert_fine(client_call(client, BROKER "Acquire", ACQUIRE("0")));
        assert_on_record(broker);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_nothing_missed, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_grant_fails, broker_setup, teardown_writable),
                cmocka_unit_test_setup_teardown(test_move_fails, broker_setup, teardown_writable),
                cmocka_unit_test_setup_teardown(test_change_fails, broker_setup, teardown_writable),
                cmocka_unit_test_setup_teardown(test_waiters, broker_setup, teardown_writable),
                cmocka_unit_test_setup_teardown(test_end_fails, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
