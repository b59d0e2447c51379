/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From parameters to a complete request: ranges, defaults, owners and names. */

#include "tests/unit/broker-fixture.h"

#include "broker/request.h"

/* Parses @text as the request of this process; as another user it is nobody special. */
static int parse_as(Broker *broker, uid_t uid, const char *text, LeaseRequest *ret_request,
                    RequestFault *ret_fault) {
        _cleanup_(json_object_putp) struct json_object *object = NULL;
        VarlinkPeer peer = {.pid = getpid(),
                            .uid = uid,
                            .gid = uid == getuid() ? getgid() : uid,
                            .pidfd = -1,
                            .accepted_boottime_usec = UINT64_MAX};
        RequestFault fault = {0};
        int r;

        assert_int_equal(json_read(text, strlen(text), &object, NULL), 0);
        r = request_parse(broker->manager, &peer, object, ret_request, &fault);
        *ret_fault = fault;
        return r;
}

static void assert_refused(Broker *broker, const char *text, const char *parameter) {
        LeaseRequest request = LEASE_REQUEST_NULL;
        RequestFault fault;

        assert_int_equal(parse_as(broker, getuid(), text, &request, &fault), REQUEST_E_INVALID_PARAMETER);
        assert_string_equal(fault.parameter, parameter);
        assert_null(request.vm); /* untouched */
}

static LeaseRequest parse(Broker *broker, const char *text) {
        LeaseRequest request = LEASE_REQUEST_NULL;
        RequestFault fault;

        assert_int_equal(parse_as(broker, getuid(), text, &request, &fault), 0);
        return request;
}

static void test_defaults(void **state) {
        Broker *broker = *state;
        _cleanup_(lease_request_deinit) LeaseRequest request = parse(broker, "{\"vm\":\"web\",\"vcpus\":3}");
        const PolicyRequest *policy = &request.policy;

        assert_int_equal(policy->vcpus, 3);
        assert_false(policy->has_cpus);
        assert_false(policy->has_affinity); /* the host is not this machine */
        assert_null(policy->instance);
        assert_int_equal(policy->buffer_size, broker->manager->config->limits.default_buffer_size);
        assert_false(policy->exact);
        assert_int_equal(policy->mode, LEASE_MODE_GUEST);
        assert_int_equal(policy->uid, getuid());
        assert_string_equal(policy->vm, "web");
        assert_ptr_equal(policy->vm, request.vm);
        assert_int_equal(policy->vm_origin, VM_ORIGIN_ADMINISTRATOR);
        assert_true(policy->administrator);
        assert_null(request.id);
        assert_null(request.known);
        assert_int_equal(lease_request_get_owner(&request)->pid, getpid());
}

static void test_all(void **state) {
        Broker *broker = *state;
        _cleanup_(lease_request_deinit) LeaseRequest request = parse(
                broker,
                "{\"vm\":\"web\",\"vcpus\":4096,\"cpus\":\"1,3\",\"instance\":\"arm_spe_0\",\"bufferSize\":"
                "9223372036854775807,\"exact\":true,\"mode\":\"shared\",\"requestId\":\"r\",\"pid\":null}");

        assert_int_equal(request.policy.vcpus, 4096);
        assert_int_equal(cpuset_count(&request.policy.cpus), 2);
        assert_true(cpuset_has(&request.policy.cpus, 3));
        assert_string_equal(request.policy.instance, "arm_spe_0");
        assert_int_equal(request.policy.buffer_size, INT64_MAX);
        assert_true(request.policy.exact);
        assert_int_equal(request.policy.mode, LEASE_MODE_SHARED);
        assert_string_equal(request.id, "r");
}

#define VM    "\"vm\":\"a\","
#define VCPUS "\"vcpus\":1,"

/* Every bound from both sides. */
static void test_ranges(void **state) {
        static const struct {
                const char *parameter;
                const char *rest;
                const char *bad[6], *good[4];
        } ranges[] = {
                {"vcpus", VM, {"0", "-1", "4097", "9223372036854775807"}, {"1", "4096"}},
                {"cpus",
                 VM VCPUS,
                 {"\"\"", "\"x\"", "\"4096\"", "\"1-\"", "\"-1\""},
                 {"\"0\"", "\"4095\"", "null"}},
                {"bufferSize", VM VCPUS, {"-1"}, {"0", "1", "null"}},
                {"requestId", VM VCPUS, {"\"\"", "\"a\\nb\""}, {"\"a b\"", "null"}},
                {"vm",
                 VCPUS,
                 {"\"\"", "\"a\\tb\"", "\"\\u007f\"", "\"\\u0085\""},
                 {"\"a b\"", "\"\\u00a0\"", "\"\\u4eba\""}},
                {"pid", VM VCPUS, {"0", "-1", "2147483648"}, {"null"}},
        };
        Broker *broker = *state;
        char text[256];

        for (size_t i = 0; i < ELEMENTS_OF(ranges); i++) {
                for (const char *const *bad = ranges[i].bad; *bad; bad++) {
                        (void)snprintf(text, sizeof(text), "{%s\"%s\":%s}", ranges[i].rest,
                                       ranges[i].parameter, *bad);
                        assert_refused(broker, text, ranges[i].parameter);
                }
                for (const char *const *good = ranges[i].good; *good; good++) {
                        _cleanup_(lease_request_deinit) LeaseRequest request = LEASE_REQUEST_NULL;

                        (void)snprintf(text, sizeof(text), "{%s\"%s\":%s}", ranges[i].rest,
                                       ranges[i].parameter, *good);
                        request = parse(broker, text);
                        assert_non_null(request.vm);
                }
        }
}

/* The longest names, and one byte more. */
static void test_lengths(void **state) {
        static const struct {
                const char *parameter;
                const char *rest;
                unsigned max;
        } lengths[] = {
                {"vm", VCPUS, REQUEST_VM_NAME_MAX},
                {"requestId", VM VCPUS, REQUEST_ID_LENGTH_MAX},
                {"instance", VM VCPUS, REQUEST_INSTANCE_NAME_MAX},
        };
        Broker *broker = *state;
        char name[512], text[1024];

        memset(name, 'x', sizeof(name));
        for (size_t i = 0; i < ELEMENTS_OF(lengths); i++) {
                _cleanup_(lease_request_deinit) LeaseRequest request = LEASE_REQUEST_NULL;

                (void)snprintf(text, sizeof(text), "{%s\"%s\":\"%.*s\"}", lengths[i].rest,
                               lengths[i].parameter, (int)lengths[i].max, name);
                request = parse(broker, text);
                assert_non_null(request.vm);
                (void)snprintf(text, sizeof(text), "{%s\"%s\":\"%.*s\"}", lengths[i].rest,
                               lengths[i].parameter, (int)lengths[i].max + 1, name);
                assert_refused(broker, text, lengths[i].parameter);
        }
}

/* Another process: an administrator's is anybody's, everybody's is of the same user, and it must be there. */
static void test_pid(void **state) {
        Broker *broker = *state;
        LeaseRequest request = LEASE_REQUEST_NULL;
        pid_t vmm = child_new(0);
        RequestFault fault;
        char text[128];

        (void)snprintf(text, sizeof(text), "{\"vm\":\"a\",\"vcpus\":1,\"pid\":%i}", (int)vmm);
        request = parse(broker, text);
        assert_int_equal(lease_request_get_owner(&request)->pid, vmm);
        lease_request_deinit(&request);
        assert_int_equal(parse_as(broker, getuid() + 1, text, &request, &fault), REQUEST_E_PERMISSION_DENIED);

        child_kill(vmm);
        assert_int_equal(parse_as(broker, getuid(), text, &request, &fault), REQUEST_E_NO_PROCESS);
        assert_int_equal(fault.pid, vmm);
}

/* A peer without a pidfd must fit by user and by start: here it cannot be this process. */
static void test_not_the_peer(void **state) {
        Broker *broker = *state;
        _cleanup_(json_object_putp) struct json_object *object =
                json_tokener_parse("{\"vm\":\"a\",\"vcpus\":1}");
        VarlinkPeer peer = {
                .pid = getpid(), .uid = getuid(), .gid = getgid(), .pidfd = -1, .accepted_boottime_usec = 0};
        LeaseRequest request = LEASE_REQUEST_NULL;
        RequestFault fault = {0};

        assert_int_equal(request_parse(broker->manager, &peer, object, &request, &fault),
                         REQUEST_E_NO_PROCESS);
        peer.accepted_boottime_usec = UINT64_MAX;
        assert_int_equal(request_parse(broker->manager, &peer, object, &request, &fault), 0);
        lease_request_deinit(&request);
        peer.uid = getuid() + 1;
        assert_int_equal(request_parse(broker->manager, &peer, object, &request, &fault),
                         REQUEST_E_NO_PROCESS);
}

/* The owner's machine and unit as the test wants them: of a lease that is there. */
static void set_names(Broker *broker, LeaseId id, const char *machine, const char *unit) {
        Owner *owner = find(broker, id)->owner->owner;

        free(owner->machine);
        free(owner->unit);
        owner->machine = machine ? strdup(machine) : NULL;
        owner->unit = unit ? strdup(unit) : NULL;
}

static void test_names(void **state) {
        static const struct {
                const char *machine, *unit, *said; /* NULL: not said */
                const char *name;                  /* NULL: refused */
                VmOrigin origin;
        } cases[] = {
                {NULL, NULL, "a", "a", VM_ORIGIN_CALLER},
                {NULL, NULL, NULL, NULL, 0},
                {"qemu-7-web", "machine-x.scope", NULL, "web", VM_ORIGIN_MACHINE},
                {"qemu-7-web", "machine-x.scope", "web", "web", VM_ORIGIN_MACHINE},
                {"qemu-7-web", "machine-x.scope", "machine-x.scope", "machine-x.scope", VM_ORIGIN_UNIT},
                {"qemu-7-web", NULL, "qemu-7-web", "qemu-7-web", VM_ORIGIN_CALLER},
                {NULL, "vm.service", NULL, "vm.service", VM_ORIGIN_UNIT},
                {NULL, "vm.service", "other", "other", VM_ORIGIN_CALLER},
                {NULL, "session-3.scope", NULL, NULL, 0},
                {NULL, "session-3.scope", "session-3.scope", "session-3.scope", VM_ORIGIN_CALLER},
        };
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker), *vmm = NULL;
        LeaseId id;

        if (getuid() != 0)
                skip();
        vmm = client_new_as(broker, OTHER_USER);
        id = acquire_for(client, vmm->pid, "x", "0", "guest");
        assert_int_equal(find(broker, id)->request.policy.vm_origin, VM_ORIGIN_ADMINISTRATOR);

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(lease_request_deinit) LeaseRequest request = LEASE_REQUEST_NULL;
                _cleanup_(json_object_putp) struct json_object *object = json_tokener_parse("{\"vcpus\":1}");
                VarlinkPeer peer = {.pid = vmm->pid,
                                    .uid = OTHER_USER,
                                    .gid = OTHER_USER,
                                    .pidfd = -1,
                                    .accepted_boottime_usec = UINT64_MAX};
                RequestFault fault = {0};

                set_names(broker, id, cases[i].machine, cases[i].unit);
                if (cases[i].said)
                        json_object_object_add(object, "vm", json_object_new_string(cases[i].said));
                if (!cases[i].name) {
                        assert_int_equal(request_parse(broker->manager, &peer, object, &request, &fault),
                                         REQUEST_E_INVALID_PARAMETER);
                        assert_string_equal(fault.parameter, "vm");
                        continue;
                }
                assert_int_equal(request_parse(broker->manager, &peer, object, &request, &fault), 0);
                assert_string_equal(request.vm, cases[i].name);
                assert_int_equal(request.policy.vm_origin, cases[i].origin);
                assert_ptr_equal(request.known, find(broker, id)->owner);
        }
}

static void test_equal(void **state) {
        static const char *const others[] = {
                "{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"}",
                "{\"vm\":\"a\",\"vcpus\":2,\"cpus\":\"0\"}",
                "{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"1\"}",
                "{\"vm\":\"a\",\"vcpus\":1}",
                "{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\",\"mode\":\"shared\"}",
                "{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\",\"exact\":true}",
                "{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\",\"bufferSize\":4096}",
                "{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\",\"instance\":\"arm_spe_0\"}",
        };
        Broker *broker = *state;
        _cleanup_(lease_request_deinit) LeaseRequest a =
                parse(broker, "{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0\"}");
        _cleanup_(lease_request_deinit) LeaseRequest same =
                parse(broker, "{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"0-0\",\"mode\":\"guest\",\"exact\":false,"
                              "\"requestId\":\"x\"}");

        assert_true(lease_request_equal(&a, &same));
        for (size_t i = 0; i < ELEMENTS_OF(others); i++) {
                _cleanup_(lease_request_deinit) LeaseRequest b = parse(broker, others[i]);

                assert_false(lease_request_equal(&a, &b));
                assert_false(lease_request_equal(&b, &a));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_defaults, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_all, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_ranges, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_lengths, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_pid, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_not_the_peer, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_names, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_equal, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
