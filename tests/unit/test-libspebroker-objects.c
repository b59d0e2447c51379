/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What libspebroker makes of the objects on the wire: leases, decisions and refusals that are whole or are
 * nothing, and requests byte for byte. And of a broker whose part the test plays itself, without a script.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <spebroker/spebroker.h>

#include "libspebroker/decision.h"
#include "libspebroker/lease.h"
#include "libspebroker/refusal.h"
#include "libspebroker/request.h"
#include "tests/unit/broker-messages.h"
#include "util/cleanup.h"

static void test_cpu_set(_unused_ void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        struct json_object *parameters;
        cpu_set_t set, small;

        parameters = json_tokener_parse(
                "{\"lease\":" LEASE_WITH("9", "\"4-5,64\"", "4096", MEMLOCK, "granted") "}");
        assert_int_equal(lease_new(parameters, &lease), 0);
        json_object_put(parameters);

        CPU_ZERO(&set);
        CPU_SET(3, &set);
        assert_int_equal(spebroker_lease_get_cpu_set(lease, sizeof(set), &set), 0);
        assert_int_equal(CPU_COUNT(&set), 3);
        assert_true(CPU_ISSET(4, &set) && CPU_ISSET(5, &set) && CPU_ISSET(64, &set));

        CPU_ZERO(&small);
        CPU_SET(3, &small);
        assert_int_equal(spebroker_lease_get_cpu_set(lease, CPU_ALLOC_SIZE(64), &small), -ERANGE);
        assert_true(CPU_COUNT(&small) == 1 && CPU_ISSET(3, &small));
        assert_int_equal(spebroker_lease_get_cpu_set(lease, CPU_ALLOC_SIZE(65) - 1, &small), -EINVAL);
        assert_true(CPU_COUNT(&small) == 1 && CPU_ISSET(3, &small));
}

static void test_owner(_unused_ void **state) {
        static const struct {
                const char *owner;
                int r;
                pid_t pid;
                int64_t uid;
                const char *cgroup;
        } cases[] = {
                {"{\"pid\":7,\"uid\":4294967295}", 0, 7, UINT32_MAX},
                {"{\"pid\":null,\"uid\":5}", 0, -1, 5}, /* of a broker that is older */
                {"{\"pid\":7,\"cgroup\":null,\"uid\":5}", 0, 7, 5},
                {"{\"pid\":null,\"cgroup\":\"/a\",\"uid\":5}", 0, -1, 5, "/a"},
                {"{\"pid\":null,\"cgroup\":5,\"uid\":5}", -EPROTO, 0, 0},
                {"{\"pid\":2147483648,\"uid\":5}", -EPROTO, 0, 0},
                {"{\"pid\":-1,\"uid\":5}", -EPROTO, 0, 0},
                {"{\"pid\":7,\"uid\":4294967296}", -EPROTO, 0, 0},
                {"{\"pid\":7}", -EPROTO, 0, 0},
                {"null", -EPROTO, 0, 0},
        };

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
                struct json_object *parameters = json_tokener_parse("{\"lease\":" LEASE("granted") "}");

                json_object_object_add(json_object_object_get(parameters, "lease"), "owner",
                                       json_tokener_parse(cases[i].owner));
                assert_int_equal(lease_new(parameters, &lease), cases[i].r);
                json_object_put(parameters);
                if (cases[i].r != 0)
                        continue;
                assert_int_equal(spebroker_lease_get_owner_pid(lease), cases[i].pid);
                assert_int_equal(spebroker_lease_get_owner_uid(lease), cases[i].uid);
                if (cases[i].cgroup)
                        assert_string_equal(spebroker_lease_get_owner_cgroup(lease), cases[i].cgroup);
                else
                        assert_null(spebroker_lease_get_owner_cgroup(lease));
        }
}

/* What a VMM would hand to the kernel is right, or there is no lease. */
static void test_bad_lease(_unused_ void **state) {
        static const char *const bad[] = {
                "{}",
                "{\"lease\":null}",
                "{\"lease\":[]}",
                "{\"lease\":{}}",
                "{\"lease\":" LEASE("granted") ",\"change\":7}",
                "{\"lease\":" LEASE_WITH("\"9\"", "\"4\"", "4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("-1", "\"4\"", "4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("2147483648", "\"4\"", "4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9.0", "\"4\"", "4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "null", "4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "\"all\"", "4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "\"4096\"", "4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "\"4\"", "0", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "\"4\"", "-4096", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "\"4\"", "true", MEMLOCK, "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "\"4\"", "4096", "null", "granted") "}",
                "{\"lease\":" LEASE_WITH("9", "\"4\"", "4096", "{\"bytes\":1}", "granted") "}",
        };
        static const char *const good[] = {
                "{\"lease\":" LEASE("granted") ",\"change\":\"granted\"}",
                "{\"lease\":" LEASE("some-newer-word") "}",
                "{\"lease\":" LEASE_WITH("null", "\"\"", "0", MEMLOCK, "queued") "}",
        };
        struct spebroker_lease *lease = NULL;

        for (size_t i = 0; i < ELEMENTS_OF(bad); i++) {
                struct json_object *parameters = json_tokener_parse(bad[i]);

                assert_non_null(parameters);
                assert_int_equal(lease_new(parameters, &lease), -EPROTO);
                assert_null(lease);
                json_object_put(parameters);
        }
        for (size_t i = 0; i < ELEMENTS_OF(good); i++) {
                struct json_object *parameters = json_tokener_parse(good[i]);

                assert_non_null(parameters);
                assert_int_equal(lease_new(parameters, &lease), 0);
                lease = spebroker_lease_unref(lease);
                json_object_put(parameters);
        }
}

static const char *write_request(const struct spebroker_request *request, Buffer *buffer) {
        JsonWriter writer;

        json_writer_init(&writer, buffer);
        json_write_object_begin(&writer, NULL);
        request_write(request, &writer);
        json_write_object_end(&writer);
        assert_int_equal(json_writer_finish(&writer), 0);
        assert_int_equal(buffer_append(buffer, "", 1), 0);
        return buffer->data + buffer->start;
}

static void assert_written(const struct spebroker_request *request, const char *expected) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(4096);

        assert_string_equal(write_request(request, &buffer), expected);
}

/* A copy says the same; one that is repeatable has an id, the same or one of its own. */
static void assert_copied(const struct spebroker_request *request, bool has_id) {
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *copy = NULL, *repeatable = NULL;
        _cleanup_(buffer_deinit) Buffer text = BUFFER_INIT(4096), copied = BUFFER_INIT(4096);

        assert_int_equal(request_copy(request, false, &copy), 0);
        assert_written(copy, write_request(request, &text));
        assert_int_equal(request_copy(request, true, &repeatable), 0);
        if (has_id)
                assert_written(repeatable, text.data + text.start);
        else
                assert_non_null(strstr(write_request(repeatable, &copied), ",\"requestId\":\""));
}

static void test_request(_unused_ void **state) {
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *request = NULL;

        assert_int_equal(spebroker_request_new(4, &request), 0);
        assert_written(request, "{\"request\":{\"vcpus\":4}}");
        assert_copied(request, false);

        assert_int_equal(spebroker_request_set_vm(request, "x"), 0);
        assert_int_equal(spebroker_request_set_vm(request, "\xc3\xa4 \"b\""), 0);
        assert_int_equal(spebroker_request_set_cpus(request, "0-3"), 0);
        assert_int_equal(spebroker_request_set_instance(request, "arm_spe_0"), 0);
        assert_int_equal(spebroker_request_set_buffer_size(request, INT64_MAX), 0);
        spebroker_request_set_exact(request, true);
        assert_int_equal(spebroker_request_set_mode(request, SPEBROKER_MODE_EXCLUSIVE), 0);
        assert_int_equal(spebroker_request_set_pid(request, 17), 0);
        assert_int_equal(spebroker_request_set_cgroup(request, "/a"), 0);
        assert_int_equal(spebroker_request_set_request_id(request, "r"), 0);
        assert_written(request,
                       "{\"request\":{\"vm\":\"\xc3\xa4 \\\"b\\\"\",\"vcpus\":4,\"cpus\":\"0-3\","
                       "\"instance\":\"arm_spe_0\",\"bufferSize\":9223372036854775807,\"exact\":true,"
                       "\"mode\":\"exclusive\",\"pid\":17,\"cgroup\":\"/a\",\"requestId\":\"r\"}}");
        assert_copied(request, true);
        assert_int_equal(spebroker_request_set_cgroup(request, "\xff"), -EINVAL);
        assert_int_equal(spebroker_request_set_cgroup(request, NULL), 0);

        /* What is refused leaves what was set. */
        assert_int_equal(spebroker_request_set_vm(request, "\xff"), -EINVAL);
        assert_int_equal(spebroker_request_set_buffer_size(request, (uint64_t)INT64_MAX + 1), -EINVAL);
        assert_int_equal(spebroker_request_set_mode(request, (enum spebroker_mode)4), -EINVAL);
        assert_int_equal(spebroker_request_set_pid(request, -1), -EINVAL);
        assert_int_equal(spebroker_request_set_cpus(request, NULL), 0);
        assert_int_equal(spebroker_request_set_instance(request, NULL), 0);
        assert_int_equal(spebroker_request_set_buffer_size(request, 0), 0);
        spebroker_request_set_exact(request, false);
        assert_written(request,
                       "{\"request\":{\"vm\":\"\xc3\xa4 \\\"b\\\"\",\"vcpus\":4,\"mode\":\"exclusive\","
                       "\"pid\":17,\"requestId\":\"r\"}}");

        assert_int_equal(spebroker_request_set_vm(request, NULL), 0);
        assert_int_equal(spebroker_request_set_mode(request, SPEBROKER_MODE_SHARED), 0);
        assert_int_equal(spebroker_request_set_pid(request, 0), 0);
        assert_int_equal(spebroker_request_set_request_id(request, NULL), 0);
        assert_written(request, "{\"request\":{\"vcpus\":4,\"mode\":\"shared\"}}");
        assert_int_equal(spebroker_request_set_mode(request, SPEBROKER_MODE_GUEST), 0);
        assert_written(request, "{\"request\":{\"vcpus\":4,\"mode\":\"guest\"}}");
}

/* Every error in words, with its fields. */
static void test_sentences(_unused_ void **state) {
        static const struct {
                const char *error;
                const char *parameters;
                const char *message;
        } cases[] = {
                {"NoSuchInstance", "{\"instance\":\"arm_spe_9\",\"instances\":[\"arm_spe_0\",\"arm_spe_1\"]}",
                 "There is no instance arm_spe_9; there is arm_spe_0, arm_spe_1."},
                {"NoSuchInstance", "{\"instance\":\"arm_spe_9\",\"instances\":[]}",
                 "There is no instance arm_spe_9; this host has none."},
                {"InstanceNotReady",
                 "{\"instance\":\"arm_spe_1\",\"state\":\"partial\",\"reason\":\"No type.\"}",
                 "arm_spe_1 cannot be leased now, it is partial: No type."},
                {"GuestUnsupported", "{\"instance\":\"arm_spe_1\",\"reason\":\"nVHE.\"}",
                 "KVM cannot give arm_spe_1 to a guest: nVHE."},
                {"NoInstanceForCpus",
                 "{\"cpus\":\"3-4\",\"instances\":[{\"name\":\"arm_spe_0\",\"cpus\":\"0-3\"},"
                 "{\"name\":\"arm_spe_1\",\"cpus\":\"4-11\"}]}",
                 "No one instance has all of CPUs 3-4; there is arm_spe_0 with CPUs 0-3, arm_spe_1 with CPUs "
                 "4-11."},
                {"NotAssigned", "{\"cpus\":\"0-3\",\"owner\":\"host\",\"vm\":null}",
                 "CPUs 0-3 are assigned to host."},
                {"NotAssigned", "{\"cpus\":\"0-3\",\"owner\":\"guest\",\"vm\":\"b\"}",
                 "CPUs 0-3 are assigned to guest, for VM b."},
                {"NotAssigned", "{\"cpus\":\"0-3\",\"owner\":\"any\",\"vm\":null}",
                 "An exclusive lease needs an administrator, or CPUs assigned to its VM; CPUs 0-3 are not."},
                {"NotAssigned", "{\"cpus\":\"0-3\",\"owner\":\"none\",\"vm\":null}",
                 "CPUs 0-3 are drained: neither host nor guests may have them."},
                {"NotAssigned",
                 "{\"cpus\":\"0\",\"owner\":\"guest\",\"vm\":\"\\u001b[m\\u009b\\u202e\\u00e9\"}",
                 "CPUs 0 are assigned to guest, for VM ?[m??\u00e9."},
                {"Busy", "{\"holders\":[]}", "An earlier request waits for the same CPUs."},
                {"Busy",
                 "{\"holders\":[{\"kind\":\"session\",\"leaseId\":null,\"vm\":null,\"pid\":77,\"uid\":0,"
                 "\"command\":\"perf\",\"cpus\":\"2\"},{\"kind\":\"novelty\",\"cpus\":\"3\"}]}",
                 "In the way: a host session of perf (pid 77) on CPUs 2, a novelty on CPUs 3."},
                {"LimitExceeded", "{\"limit\":\"MaxMemory\",\"requested\":8,\"available\":7}",
                 "The limit MaxMemory would be exceeded: 8 asked for, 7 left."},
                {"BufferSizeNotRepresentable", "{\"requested\":5000,\"nearest\":4096}",
                 "The hardware cannot represent a buffer of 5000 bytes; the nearest is 4096."},
                {"NoSuchLease", "{\"leaseId\":\"ab\"}", "There is no lease ab (any more)."},
                {"ArbitrationUnavailable", "{\"reason\":\"No BPF.\"}",
                 "Host sessions cannot be kept off: No BPF."},
                {"NoSuchProcess", "{\"pid\":12}", "There is no process 12."},
                {"InvalidParameter", "{\"parameter\":\"vcpus\"}",
                 "The broker does not accept this value of vcpus."},
                {"PermissionDenied", "{}", "The broker does not permit this to this user."},
                {"Novelty", "{\"limit\":7}", "The broker answers io.spebroker.Broker.Novelty."},
        };

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(refusal_freep) struct spebroker_refusal *refusal = NULL;
                struct json_object *parameters = json_tokener_parse(cases[i].parameters);
                char error[128];

                assert_non_null(parameters);
                snprintf(error, sizeof(error), "io.spebroker.Broker.%s", cases[i].error);
                assert_int_equal(refusal_new_error(error, parameters, &refusal), 0);
                json_object_put(parameters);
                assert_string_equal(spebroker_refusal_get_name(refusal), cases[i].error);
                assert_string_equal(spebroker_refusal_get_message(refusal), cases[i].message);
        }
}

static void test_refusal_fields(_unused_ void **state) {
        _cleanup_(refusal_freep) struct spebroker_refusal *refusal = NULL, *bare = NULL, *bad = NULL;
        struct json_object *parameters;
        int64_t value = 3;

        parameters = json_tokener_parse("{\"cpus\":\"0-3\",\"vm\":\"b\",\"requested\":8,\"available\":\"7\","
                                        "\"instances\":[\"x\",{\"name\":\"y\",\"cpus\":\"4\"},7]}");
        assert_int_equal(refusal_new_error("a.b.C", parameters, &refusal), 0);
        json_object_put(parameters);
        assert_string_equal(spebroker_refusal_get_string(refusal, "cpus"), "0-3");
        assert_string_equal(spebroker_refusal_get_string(refusal, "assignedVm"), "b");
        assert_null(spebroker_refusal_get_string(refusal, "requested"));
        assert_null(spebroker_refusal_get_string(refusal, "nothing"));
        assert_false(spebroker_refusal_get_integer(refusal, "cpus", &value));
        assert_false(spebroker_refusal_get_integer(refusal, "available", &value));
        assert_int_equal(value, 3);
        assert_true(spebroker_refusal_get_integer(refusal, "requested", &value));
        assert_int_equal(value, 8);
        assert_string_equal(spebroker_refusal_get_instance_name(refusal, 0), "x");
        assert_null(spebroker_refusal_get_instance_cpus(refusal, 0));
        assert_string_equal(spebroker_refusal_get_instance_name(refusal, 1), "y");
        assert_string_equal(spebroker_refusal_get_instance_cpus(refusal, 1), "4");
        assert_null(spebroker_refusal_get_instance_name(refusal, 2));
        assert_null(spebroker_refusal_get_instance_name(refusal, 3));

        assert_int_equal(refusal_new_error("Bare", NULL, &bare), 0);
        assert_string_equal(spebroker_refusal_get_name(bare), "Bare");
        assert_null(spebroker_refusal_get_string(bare, "cpus"));

        parameters = json_tokener_parse("{\"holders\":[{\"kind\":\"lease\"}]}");
        assert_int_equal(refusal_new_error("a.b.Busy", parameters, &bad), -EPROTO);
        json_object_put(parameters);
        assert_null(bad);
}

/* The broker's own sentences have strangers' names in them, too. */
static void test_message_is_clean(_unused_ void **state) {
        _cleanup_(refusal_freep) struct spebroker_refusal *refusal = NULL;
        struct json_object *object;

        object = json_tokener_parse("{\"error\":\"a.b.Busy\",\"message\":\"perf\\u009b2J\\n is there\"}");
        assert_int_equal(refusal_new_object(object, &refusal), 0);
        json_object_put(object);
        assert_string_equal(spebroker_refusal_get_message(refusal), "perf?2J? is there");
}

static void test_bad_decision(_unused_ void **state) {
        static const char *const bad[] = {
                "{}",
                "{\"decision\":{\"granted\":true,\"refusals\":[]}}",
                "{\"decision\":{\"granted\":false,\"offer\":" OFFER ",\"refusals\":[]}}",
                "{\"decision\":{\"granted\":false,\"refusals\":{}}}",
                "{\"decision\":{\"granted\":false,\"refusals\":[7]}}",
                "{\"decision\":{\"granted\":false,\"refusals\":[" REFUSAL ",{\"error\":\"a.b.C\"}]}}",
                "{\"decision\":{\"granted\":true,\"offer\":{},\"refusals\":[]}}",
        };

        for (size_t i = 0; i < ELEMENTS_OF(bad); i++) {
                struct json_object *parameters = json_tokener_parse(bad[i]);
                struct spebroker_decision *decision = NULL;

                assert_non_null(parameters);
                assert_int_equal(decision_new(parameters, &decision), -EPROTO);
                assert_null(decision);
                json_object_put(parameters);
        }
}

/* A broker that reads no more, but has not hung up: no connection, then, and no descriptor of one. */
static void test_deaf(_unused_ void **state) {
        static const char refused[] =
                "{\"error\":\"a.b.NoSuchLease\",\"parameters\":{\"leaseId\":\"" ID "\"}}";
        struct spebroker_lease *lease = NULL;
        struct spebroker *context;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(spebroker_new_from_fd(fds[0], &context), 0);
        assert_int_equal(shutdown(fds[1], SHUT_RD), 0);
        assert_int_equal(spebroker_follow(context, ID), 0);
        assert_int_equal(send(fds[1], refused, sizeof(refused), MSG_NOSIGNAL), sizeof(refused));
        assert_int_equal(spebroker_process(context, &lease), SPEBROKER_REFUSED);

        assert_int_equal(spebroker_follow(context, ID), SPEBROKER_DISCONNECTED);
        assert_int_equal(spebroker_get_fd(context), -1);
        spebroker_unref(context);
        close(fds[1]);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cpu_set),      cmocka_unit_test(test_owner),
                cmocka_unit_test(test_deaf),         cmocka_unit_test(test_message_is_clean),
                cmocka_unit_test(test_bad_lease),    cmocka_unit_test(test_request),
                cmocka_unit_test(test_sentences),    cmocka_unit_test(test_refusal_fields),
                cmocka_unit_test(test_bad_decision),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
