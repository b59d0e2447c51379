/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The gate as the broker keeps it, over a kernel that is a fake: at which level, who is admitted to what and
 * when, and what is said of those who are not. arm_spe_0 has CPUs 0-3 and PMU type 8, arm_spe_1 has 4-11.
 */

#include "tests/unit/broker-fixture.h"

#include <errno.h>

#include "tests/unit/cgroup-fixture.h"
#include "tests/unit/fake-gate.h"

#define NUMBERS    "[KVM]\nCapability=300\nFeature=9\nGroup=3\nAttributeIrq=0\nAttributeSpu=2\nAttributeInit=1\n"
#define SIZE       "AttributeMaxBufferSize=5\n"
#define BUFFER     4096U
#define NOT_THERE  4242
#define SPU        2
#define SIZE_LIMIT 5

static void write_config(const Broker *broker, const char *gate, const char *numbers) {
        char path[96];
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/etc/spe-broker/spe-broker.conf.d", broker->path);
        assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
        (void)snprintf(path, sizeof(path), "%s/etc/spe-broker/spe-broker.conf.d/gate.conf", broker->path);
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fprintf(f, "[Arbitration]\nGate=%s\n%s", gate, numbers) > 0);
        assert_int_equal(fclose(f), 0);
}

static void reload(Client *client, const char *gate, const char *numbers) {
        write_config(client->broker, gate, numbers);
        assert_fine(client_call(client, ADMIN "Reload", NULL));
}

static int setup(void **state) {
        Broker *broker;

        fake_gate_reset(NULL);
        if (broker_setup(state) < 0)
                return -1;
        broker = *state;
        broker_stop(broker);
        write_config(broker, "enforce", NUMBERS SIZE);
        broker_start(broker);
        return 0;
}

static int teardown(void **state) {
        int r = broker_teardown(state);

        fake_gate_reset(NULL);
        closep(&fake_gate.fd);
        fake_gate.fd = -1;
        return r;
}

/* What Describe says; @reason: a part of it, or NULL. */
static void assert_gate(Client *client, const char *level, const char *reason) {
        const char *told;

        assert_fine(client_call(client, BROKER "Describe", NULL));
        assert_text(client->message, "/parameters/host/gate", level);
        told = text_at(client->message, "/parameters/host/gateReason");
        if (!reason)
                assert_null(told);
        else if (!told || !strstr(told, reason))
                fail_msg("no '%s' in '%s'", reason, told ?: "");
}

static void assert_admitted(pid_t pid, uint64_t pmu_type, uint64_t size) {
        const GateGrant *grant = fake_gate_find(pid, pmu_type);

        if (size == 0) {
                assert_null(grant);
                return;
        }
        assert_non_null(grant);
        assert_true(grant->start_ticks > 0);
        assert_int_equal(grant->buffer_size, size);
}

static uint64_t type_of(const Broker *broker, const char *name) {
        return instance_table_find(&broker->manager->model.instances, name)->pmu_type;
}

static void release(Client *client, LeaseId id) {
        assert_fine(client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
}

static LeaseId acquire_size(Client *client, pid_t pid, const char *cpus, unsigned size) {
        return lease_id(client_call(client, BROKER "Acquire",
                                    "{\"request\":{\"vm\":\"web1\",\"vcpus\":1,\"cpus\":\"%s\","
                                    "\"bufferSize\":%u,\"pid\":%i}}",
                                    cpus, size, (int)pid));
}

static void test_levels(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        assert_gate(client, "enforce", NULL);
        assert_int_equal(fake_gate.rule.action, GATE_ACTION_REFUSE);
        assert_int_equal(fake_gate.rule.group, 3);
        assert_int_equal(fake_gate.rule.attribute_spu, SPU);
        assert_true(fake_gate.rule.knows_size);
        assert_int_equal(fake_gate.rule.attribute_size, SIZE_LIMIT);

        reload(client, "log", NUMBERS);
        assert_gate(client, "log", "the configuration says Gate=log");
        assert_int_equal(fake_gate.rule.action, GATE_ACTION_REPORT);
        assert_false(fake_gate.rule.knows_size);
        assert_int_equal(fake_gate.n_made, 1);

        reload(client, "off", NUMBERS);
        assert_gate(client, "off", "the configuration says Gate=off");
        assert_false(fake_gate.there);
        assert_int_equal(fake_gate.rule.action, GATE_ACTION_NONE); /* whoever may have a copy */

        reload(client, "auto", NUMBERS SIZE);
        assert_gate(client, "off", "this host is simulated");

        reload(client, "enforce", NUMBERS SIZE);
        assert_gate(client, "enforce", NULL);
        assert_int_equal(fake_gate.n_made, 2);
}

/* On numbers that are guesses, there is no gate. */
static void test_guesses(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        reload(client, "enforce", "");
        assert_gate(client, "off", "are guesses");
        assert_false(fake_gate.there);
        reload(client, "log", "[KVM]\nCapability=300\nFeature=9\nGroup=3\nAttributeIrq=0\nAttributeSpu=2\n");
        assert_gate(client, "off", "are guesses");
}

static void test_no_hook(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        reload(client, "off", NUMBERS);
        fake_gate.reason = "There is none.";
        fake_gate.advice = "Boot another kernel.";
        reload(client, "enforce", NUMBERS);
        assert_gate(client, "off", "level enforce cannot be had: There is none (Boot another kernel)");
        (void)acquire_for(client, getpid(), "vm", "0", "guest");
        assert_int_equal(fake_gate.n_grants, 0);

        reload(client, "off", NUMBERS);
        fake_gate.new_error = -EMFILE;
        reload(client, "log", NUMBERS);
        assert_gate(client, "off",
                    "level log cannot be had: its BPF program cannot be set up: Too many open");
}

static unsigned n_counted;

static void count_change(void) {
        n_counted++;
}

static void test_admission(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t first = type_of(broker, "arm_spe_0"), second = type_of(broker, "arm_spe_1");
        LeaseId small, large, other;
        pid_t pid = getpid();

        small = acquire_size(client, pid, "0", BUFFER);
        assert_admitted(pid, GATE_SPU_ANY, BUFFER);
        assert_admitted(pid, first, BUFFER);
        assert_admitted(pid, second, 0);

        /* The largest counts; what is the same is not told again. */
        large = acquire_size(client, pid, "1", 2 * BUFFER);
        assert_admitted(pid, GATE_SPU_ANY, 2 * BUFFER);
        assert_admitted(pid, first, 2 * BUFFER);
        fake_gate.n_changes = 0;
        fake_gate.changed_fn = count_change;
        other = acquire_size(client, pid, "4", BUFFER);
        assert_admitted(pid, second, BUFFER);
        assert_int_equal(fake_gate.n_changes, 1);
        assert_int_equal(n_counted, 1);
        fake_gate.changed_fn = NULL;

        release(client, large);
        assert_admitted(pid, first, BUFFER);
        release(client, small);
        assert_admitted(pid, first, 0);
        assert_admitted(pid, second, BUFFER);
        assert_admitted(pid, GATE_SPU_ANY, BUFFER);
        release(client, other);
        assert_int_equal(fake_gate.n_grants, 0);
}

static bool replied;
static Client *asking;

/* As the kernel is told, nobody has been told. */
static void look_for_reply(void) {
        char byte;

        replied = replied || recv(asking->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void test_before_the_reply(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id;

        replied = false;
        asking = client;
        fake_gate.changed_fn = look_for_reply;
        id = acquire_size(client, getpid(), "0", BUFFER);
        release(client, id);
        assert_false(replied);
        assert_true(fake_gate.n_changes >= 4);
}

static void test_waiting(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *waiting = client_new(broker);
        pid_t child = child_new(0);
        LeaseId id = acquire_for(client, getpid(), "vm", "0", "exclusive");

        client_send(
                waiting, BROKER "Acquire", false,
                "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\",\"mode\":\"exclusive\",\"pid\":%i},"
                "\"waitUSec\":" LONG_USEC "}",
                (int)child);
        assert_true(client_is_silent(waiting));
        assert_admitted(child, GATE_SPU_ANY, 0);
        release(client, id);
        assert_fine(client_receive(waiting));
        assert_non_null(fake_gate_find(child, GATE_SPU_ANY));
        assert_admitted(getpid(), GATE_SPU_ANY, 0);

        child_kill(child);
        broker_wait(broker, fake_gate.n_grants == 0);
}

/* It permits until the grace is over. */
static void test_revoked(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_size(client, getpid(), "0", BUFFER);

        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":" LONG_USEC "}",
                                id.text));
        assert_admitted(getpid(), GATE_SPU_ANY, BUFFER);
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", id.text));
        broker_wait(broker, find(broker, id)->state == LEASE_STATE_REVOKED);
        assert_int_equal(fake_gate.n_grants, 0);
}

/* A new broker, and a new gate, know the leases that there are, and forget others. */
static void test_again(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        uint64_t first = type_of(broker, "arm_spe_0");

        (void)acquire_size(client, getpid(), "0", BUFFER);
        client_disconnect(client);
        broker_stop(broker);
        assert_admitted(getpid(), first, BUFFER); /* as it is kept */
        fake_gate.grants[fake_gate.n_grants++] = (GateGrant){.owner = NOT_THERE, .pmu_type = 7};
        fake_gate.n_changes = 0;
        broker_start(broker);
        broker_pump(broker);
        assert_admitted(getpid(), first, BUFFER);
        assert_admitted(getpid(), GATE_SPU_ANY, BUFFER);
        assert_int_equal(fake_gate.n_grants, 2);

        client_free(client);
        client = client_new(broker);
        reload(client, "off", NUMBERS);
        fake_gate.n_grants = 0;
        reload(client, "log", NUMBERS);
        assert_admitted(getpid(), first, BUFFER);
        assert_admitted(getpid(), GATE_SPU_ANY, BUFFER);
}

/* What could not be put in force is tried again. */
static void test_full(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        fake_gate.allow_error = -E2BIG;
        (void)acquire_size(client, getpid(), "0", BUFFER);
        assert_int_equal(fake_gate.n_grants, 0);
        fake_gate.allow_error = 0;
        (void)acquire_size(client, getpid(), "1", BUFFER);
        assert_admitted(getpid(), GATE_SPU_ANY, BUFFER);
}

static GateRefusal refusal_of(GateCause cause, pid_t pid, uint64_t value) {
        return (GateRefusal){.cause = cause,
                             .refused = true,
                             .pid = pid,
                             .uid = 1000,
                             .command = "qemu",
                             .attribute = cause == GATE_CAUSE_OTHER_SPU   ? SPU
                                          : cause == GATE_CAUSE_TOO_LARGE ? SIZE_LIMIT
                                                                          : 1,
                             .value = value,
                             .allowed = BUFFER};
}

static struct json_object *list(Client *client) {
        return at(client_call(client, BROKER "ListRefusals", NULL), "/parameters/refusals");
}

static struct json_object *refuse(Client *client, GateRefusal refusal) {
        fake_gate_refuse(&refusal);
        broker_wait(client->broker, fake_gate.n_refusals == 0);
        return at(list(client), "/0");
}

static void assert_said(struct json_object *refusal, const char *error, const char *message,
                        const char *allowed) {
        assert_error(refusal, error);
        assert_text(refusal, "/message", message);
        assert_text(refusal, "/allowed", allowed);
        assert_int_equal(int_at(refusal, "/uid"), 1000);
}

static void test_no_lease(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *watch = client_new(broker);
        GateRefusal facts = refusal_of(GATE_CAUSE_NO_LEASE, NOT_THERE, 0);
        struct json_object *refusal;

        client_send(watch, BROKER "Watch", true, NULL);
        (void)client_receive(watch);
        refusal = refuse(client, facts);
        assert_said(refusal, BROKER "NoSuchLease",
                    "qemu (pid 4242) may not set INIT of SPE on a VCPU: the process has no lease",
                    "a VMM that has a lease may (speadm run, or libspebroker(3))");
        assert_null_at(refusal, "/vm");
        assert_text(client_receive(watch), "/parameters/event/refusal/error", BROKER "NoSuchLease");

        /* The same again is counted; let through, it is something else. */
        refusal = refuse(client, facts);
        assert_text(refusal, "/message",
                    "qemu (pid 4242) may not set INIT of SPE on a VCPU: the process has no lease (2 times)");
        facts.refused = false;
        facts.attribute = 77;
        strcpy(facts.command, "q\ne");
        refusal = refuse(client, facts);
        assert_text(refusal, "/message",
                    "q?e (pid 4242) has set attribute 77 of SPE on a VCPU, which is only reported here: the "
                    "process has no lease");
        assert_int_equal(json_object_array_length(list(client)), 2);
}

static void test_with_lease(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_size(client, getpid(), "0-1", BUFFER);
        LeaseId second = acquire_size(client, getpid(), "2", BUFFER);
        _cleanup_(freep) char *message = NULL, *allowed = NULL;
        struct json_object *refusal;

        assert_true(asprintf(&message,
                             "qemu (pid %i) may not set SPU of SPE on a VCPU: arm_spe_1 is not the SPU of "
                             "its lease %s, which is arm_spe_0",
                             (int)getpid(), id.text) > 0);
        assert_true(asprintf(&allowed, "arm_spe_0 is allowed, PMU type %u",
                             (unsigned)type_of(broker, "arm_spe_0")) > 0);
        refusal = refuse(client, refusal_of(GATE_CAUSE_OTHER_SPU, getpid(), type_of(broker, "arm_spe_1")));
        assert_said(refusal, BROKER "NoSuchInstance", message, allowed);
        assert_text(refusal, "/vm", "web1");
        assert_text(refusal, "/instance", "arm_spe_1");
        assert_text(refusal, "/instances/0/name", "arm_spe_0");
        assert_text(refusal, "/instances/0/cpus", "0-2");
        assert_int_equal(json_object_array_length(at(refusal, "/instances")), 1);
        refusal = refuse(client, refusal_of(GATE_CAUSE_OTHER_SPU, getpid(), 4000000000));
        assert_text(refusal, "/instance", "PMU type 4000000000");

        refusal = refuse(client, refusal_of(GATE_CAUSE_TOO_LARGE, getpid(), 2 * BUFFER));
        assert_error(refusal, BROKER "LimitExceeded");
        assert_true(strstr(text_at(refusal, "/message"),
                           "MAX_BUFFER_SIZE of SPE on a VCPU: 8192 bytes is more than the 4096 bytes"));
        assert_text(refusal, "/allowed", "4096 bytes and less are allowed");
        assert_text(refusal, "/limit", "lease");
        assert_int_equal(int_at(refusal, "/requested"), 2 * BUFFER);
        assert_int_equal(int_at(refusal, "/available"), BUFFER);
        refusal = refuse(client, refusal_of(GATE_CAUSE_TOO_LARGE, getpid(), 0));
        assert_true(strstr(text_at(refusal, "/message"), "no limit is more than the 4096 bytes"));
        assert_int_equal(int_at(refusal, "/requested"), 0);
        refusal = refuse(client, refusal_of(GATE_CAUSE_TOO_LARGE, getpid(), UINT64_MAX));
        assert_int_equal(int_at(refusal, "/requested"), INT64_MAX);

        /* What was compared has ended by the time that it is told. */
        release(client, id);
        release(client, second);
        refusal = refuse(client, refusal_of(GATE_CAUSE_OTHER_SPU, getpid(), 4));
        assert_error(refusal, BROKER "NoSuchLease");
        assert_null_at(refusal, "/vm");
}

static LeaseId acquire_group(Client *client, const TestGroup *group, const char *cpus) {
        return lease_id(client_call(client, BROKER "Acquire",
                                    "{\"request\":{\"vm\":\"web1\",\"vcpus\":1,\"cpus\":\"%s\","
                                    "\"bufferSize\":4096,\"cgroup\":\"%s\"}}",
                                    cpus, group->path));
}

static void end_grace(Client *client, LeaseId id) {
        assert_fine(client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", id.text));
        broker_wait(client->broker, find(client->broker, id)->state == LEASE_STATE_REVOKED);
}

/* @why, then the lease's id, then @more is what is said. */
static void assert_by(struct json_object *refusal, const char *error, const char *why, LeaseId id,
                      const char *more) {
        char text[128];

        assert_error(refusal, error);
        (void)snprintf(text, sizeof(text), "%s its lease %s%s", why, id.text, more);
        if (!strstr(text_at(refusal, "/message"), text))
                fail_msg("no '%s' in '%s'", text, text_at(refusal, "/message"));
}

/* Of groups in each other it is the innermost by which the kernel goes, of those that may anything; of groups
 * whose leases are revoked, it is told. */
static void test_groups(void **state) {
        Broker *broker = *state;
        TestGroup outer = group_new(""), inner = group_new("/inner");
        pid_t deep = group_fork(&inner), above = group_fork(&outer);
        Client *client = client_new(broker);
        LeaseId narrow = acquire_group(client, &inner, "4"), wide = acquire_group(client, &outer, "0");

        assert_by(refuse(client, refusal_of(GATE_CAUSE_OTHER_SPU, deep, 1001)), BROKER "NoSuchInstance",
                  "is not the SPU of", narrow, ", which is arm_spe_1");
        assert_by(refuse(client, refusal_of(GATE_CAUSE_OTHER_SPU, above, 1002)), BROKER "NoSuchInstance",
                  "is not the SPU of", wide, ", which is arm_spe_0");

        end_grace(client, narrow);
        assert_by(refuse(client, refusal_of(GATE_CAUSE_OTHER_SPU, deep, 1003)), BROKER "NoSuchInstance",
                  "is not the SPU of", wide, ", which is arm_spe_0");
        end_grace(client, wide);
        assert_by(refuse(client, refusal_of(GATE_CAUSE_NO_LEASE, deep, 0)), BROKER "NoSuchLease", ":", narrow,
                  " is revoked");
        assert_by(refuse(client, refusal_of(GATE_CAUSE_NO_LEASE, above, 0)), BROKER "NoSuchLease", ":", wide,
                  " is revoked");
        assert_null_at(refuse(client, refusal_of(GATE_CAUSE_NO_LEASE, getpid(), 0)), "/vm");

        group_kill(deep);
        group_kill(above);
        broker_wait(broker, broker->manager->leases.n == 0);
        client_free(client);
        group_remove(&inner);
        group_remove(&outer);
}

/* A user who is refused in all ways keeps nobody else's out of the list. */
static void test_many(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        GateRefusal other = refusal_of(GATE_CAUSE_NO_LEASE, NOT_THERE, 0);

        other.uid = 1001;
        (void)refuse(client, other);
        for (unsigned i = 0; i < 80; i++)
                (void)refuse(client, refusal_of(GATE_CAUSE_TOO_LARGE, NOT_THERE, i));
        assert_int_equal(json_object_array_length(list(client)), 65);
        assert_int_equal(int_at(at(list(client), "/64"), "/uid"), 1001);
        assert_int_equal(int_at(at(list(client), "/0"), "/requested"), 79);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
                cmocka_unit_test_setup_teardown(test_guesses, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_hook, setup, teardown),
                cmocka_unit_test_setup_teardown(test_admission, setup, teardown),
                cmocka_unit_test_setup_teardown(test_before_the_reply, setup, teardown),
                cmocka_unit_test_setup_teardown(test_waiting, setup, teardown),
                cmocka_unit_test_setup_teardown(test_revoked, setup, teardown),
                cmocka_unit_test_setup_teardown(test_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_full, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_lease, setup, teardown),
                cmocka_unit_test_setup_teardown(test_with_lease, setup, teardown),
                cmocka_unit_test_setup_teardown(test_groups, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
