/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Texts of leases: what is written is read as the same, and what would not have been written is not read. Bad
 * texts are made of good ones, under a sum of the test's own, so that each is refused for what it says.
 */

#include "tests/unit/lease-text.h"
#include "util/buffer-size.h"

static void assert_round_trip(Sample *sample) {
        _cleanup_(freep) char *text = sample_write(sample), *again = NULL;
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = "";

        if (parse(text, &record, &reason) != 0)
                fail_msg("%s: %s", reason, text);
        assert_same(&record, sample);
        assert_null(record.unknown);

        sample_become(sample, &record);
        again = sample_write(sample);
        assert_string_equal(again, text);
}

static void test_granted(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(freep) char *text = sample_write(sample);
        const char *reason;

        assert_int_equal(parse(text, &record, &reason), 0);
        assert_int_equal(record.instance_index, 1);
        assert_round_trip(sample);
}

static void test_revoking(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        Lease *lease = &sample->lease;

        lease->state = LEASE_STATE_REVOKING;
        lease->deadline_usec = 77;
        lease->barred = true;
        lease->restart_required = true;
        assert_round_trip(sample);

        lease->barred = false;
        lease->kill = true;
        lease->away = true;
        lease->away_deadline_usec = 99;
        lease->deadline_usec = INT64_MAX;
        assert_round_trip(sample);
}

static void test_revoked(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        Lease *lease = &sample->lease;

        lease->state = LEASE_STATE_REVOKED;
        assert_round_trip(sample);
        lease->kill = true;
        lease->deadline_usec = 78;
        assert_round_trip(sample);
        lease->terminated = true;
        assert_round_trip(sample);
        lease->deadline_usec = UINT64_MAX;
        lease->away = true;
        assert_round_trip(sample);
}

static void test_cgroup(_unused_ void **state) {
        char longest[CGROUP_PATH_MAX + 1] = "/";
        _cleanup_(sample_freep) Sample *sample = sample_new();

        sample_set_cgroup(sample, "/a.slice/b \"c\".scope", 4711, UINT64_MAX);
        assert_round_trip(sample);
        sample_set_cgroup(sample, "/a", INT64_MAX, 79);
        assert_round_trip(sample);

        memset(longest + 1, '"', CGROUP_PATH_MAX - 1);
        sample_set_cgroup(sample, longest, 1, UINT64_MAX);
        assert_round_trip(sample);
}

/* Each version has its own members of who owns it, and no others. */
static void test_cgroup_values(_unused_ void **state) {
        static const char *const bad_paths[] = {"null",  "1",       "\"\"",         "\"/\"",
                                                "\"a\"", "\"/..\"", "\"/a\\u0007\""};
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *process = sample_json(sample), *group = NULL;

        sample_set_cgroup(sample, "/a", 7, 79);
        for (size_t i = 0; i < ELEMENTS_OF(bad_paths); i++)
                try_value(sample, "/owner/cgroup", bad_paths[i], false);
        try_value(sample, "/owner/cgroup", "\"/b/c\"", true);
        try_value(sample, "/owner/cgroupId", "0", false);
        try_value(sample, "/owner/cgroupId", "-1", false);
        try_value(sample, "/owner/cgroupId", "null", false);
        try_value(sample, "/owner/cgroupId", "1", true);
        try_value(sample, "/owner/unclaimedUSec", "-1", false);
        try_value(sample, "/owner/unclaimedUSec", NULL, false);
        try_value(sample, "/owner/unclaimedUSec", "null", true);
        try_value(sample, "/owner/uid", "-1", false);

        group = sample_json(sample);
        edit(group, "/owner/pid", "1");
        assert_bad(group, "owner has members that are unknown");
        edit(group, "/owner/pid", NULL);
        edit(group, "/version", "1");
        assert_bad(group, "owner.pid is missing, or not what it can be");
        edit(process, "/version", "2");
        assert_bad(process, "owner.cgroup is missing, or not what it can be");
}

/* As little, and as much, as there can be. */
static void test_extremes(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        Lease *lease = &sample->lease;
        PolicyRequest *policy = &lease->request.policy;

        lease_request_deinit(&lease->request);
        free(lease->reason);
        lease->reason = NULL;
        lease->limited_by = NULL;
        lease->grace_usec = 0;
        lease->since_usec = 0;
        lease->pmu_type = lease->now_pmu_type = 0;
        lease->cpus = lease->usable = sample_cpus("0");
        lease->buffer_size = BUFFER_SIZE_MIN;
        lease->charge.bytes = 1;
        lease->request.vm = strdup("v");
        *policy = (PolicyRequest){.vm = lease->request.vm,
                                  .vcpus = 1,
                                  .buffer_size = BUFFER_SIZE_MIN,
                                  .exact = true,
                                  .has_affinity = true,
                                  .affinity = sample_cpus("0,4095")};
        sample->process.pid = 1;
        sample->process.start_time = 0;
        sample->process.uid = 0;
        assert_round_trip(sample);

        policy->uid = sample->process.uid = UINT32_MAX - 1;
        policy->vcpus = REQUEST_VCPUS_MAX;
        policy->buffer_size = INT64_MAX;
        policy->vm_origin = VM_ORIGIN_CALLER;
        policy->mode = LEASE_MODE_SHARED;
        sample->process.pid = INT32_MAX;
        sample->process.start_time = INT64_MAX;
        lease->since_usec = INT64_MAX;
        lease->grace_usec = INT64_MAX;
        lease->pmu_type = lease->now_pmu_type = UINT32_MAX;
        lease->cpus = lease->usable = sample_cpus("0-4095");
        lease->buffer_size = BUFFER_SIZE_MAX;
        lease->charge.bytes = INT64_MAX - 1;
        strcpy(lease->instance_name, "arm_spe_2147483647");
        assert_round_trip(sample);
}

/* What no integer of JSON says is said as the largest: it is as far away. */
static void test_late(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(freep) char *text = NULL;
        const char *reason;

        sample->lease.state = LEASE_STATE_REVOKING;
        sample->lease.deadline_usec = UINT64_MAX - 1;
        text = sample_write(sample);
        assert_int_equal(parse(text, &record, &reason), 0);
        assert_int_equal(record.deadline_usec, INT64_MAX);
}

/* The format: an older and a newer build agree on it, so whatever changes here needs another version. */
static void test_format(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(freep) char *text = sample_write(sample);

        assert_string_equal(
                strstr(text, ",\"request\":"),
                ",\"request\":{\"requestId\":\"request-1\",\"uid\":1001,\"administrator\":true,"
                "\"vm\":\"web \\\"1\\\"\",\"vmOrigin\":\"unit\",\"vcpus\":4,\"cpus\":\"4-9,11\","
                "\"instance\":\"arm_spe_0\",\"affinity\":null,\"bufferSize\":5000000,\"exact\":false,"
                "\"mode\":\"exclusive\"},"
                "\"owner\":{\"pid\":4711,\"startTime\":123456,\"uid\":1000},"
                "\"state\":{\"state\":\"granted\",\"reason\":\"of its CPUs, 6 is off line\","
                "\"instance\":\"arm_spe_1\",\"pmuType\":9,\"nowPmuType\":10,\"cpus\":\"4-6\","
                "\"usable\":\"4-5\",\"bufferSize\":4194304,\"limitedBy\":\"MaxMemoryPerVM\","
                "\"charge\":16842752,\"sinceUSec\":1700000000000000,\"deadlineUSec\":null,"
                "\"awayDeadlineUSec\":null,\"graceUSec\":10000000,\"barred\":false,\"kill\":false,"
                "\"terminated\":false,\"away\":false,\"restartRequired\":false},"
                "\"sum\":\"8092ccda7fd0735a\"}\n");
        assert_memory_equal(text,
                            "{\"version\":1,\"bootId\":\"" SAMPLE_BOOT
                            "\",\"lease\":{\"leaseId\":\"" SAMPLE_ID "\",",
                            strlen("{\"version\":1,\"bootId\":\"" SAMPLE_BOOT
                                   "\",\"lease\":{\"leaseId\":\"" SAMPLE_ID "\","));
}

/* Every member: its types (of "0bidsoa": null, boolean, integer, double, string, object, array), values that
 * it can have, and values of its type that it cannot. */
static const struct {
        const char *path;
        const char *types;
        const char *good[4];
        const char *bad[5];
} members[] = {
        {"/request/requestId",
         "0s",
         {"null", "\"a\"", "\"\xc3\xa9\""},
         {"\"\"", "\"a\\n\"",
          "\"" /* 65 */
          "0123456789012345678901234567890123456789012345678901234567890123x\""}},
        {"/request/uid", "i", {"0", "4294967294"}, {"-1", "4294967295", "9223372036854775807"}},
        {"/request/administrator", "b", {"true", "false"}, {NULL}},
        {"/request/vm", "s", {"\"a\"", "\"\xf0\x9f\x90\xa7 1\""}, {"\"\"", "\"a\\tb\"", "\"\\u0085\""}},
        {"/request/vmOrigin",
         "s",
         {"\"administrator\"", "\"machine\"", "\"unit\"", "\"caller\""},
         {"\"\"", "\"Unit\""}},
        {"/request/vcpus", "i", {"1", "4096"}, {"0", "-1", "4097"}},
        {"/request/cpus", "0s", {"null", "\"0\"", "\"0-4095\""}, {"\"\"", "\"4096\"", "\"x\"", "\"0 \""}},
        {"/request/instance", "0s", {"null", "\"arm_spe_9\"", "\"\""}, {NULL}},
        {"/request/affinity", "0s", {"null", "\"0-4095\""}, {"\"\"", "\"4096\""}},
        {"/request/bufferSize", "i", {"4194304", "9223372036854775807"}, {"-1"}},
        {"/request/exact", "b", {"true", "false"}, {NULL}},
        {"/request/mode", "s", {"\"exclusive\"", "\"guest\"", "\"shared\""}, {"\"\"", "\"any\""}},
        {"/owner/pid", "i", {"1", "2147483647"}, {"0", "-1", "2147483648", "4294967297"}},
        {"/owner/startTime", "i", {"0", "9223372036854775807"}, {"-1"}},
        {"/owner/uid", "i", {"0", "4294967294"}, {"-1", "4294967295"}},
        {"/state/reason", "0s", {"null", "\"\"", "\"it is so\""}, {NULL}},
        {"/state/instance",
         "s",
         {"\"arm_spe_0\"", "\"arm_spe_2147483647\""},
         {"\"\"", "\"arm_spe_\"", "\"arm_spe_01\"", "\"arm_spe_2147483648\"", "\"cpu\""}},
        {"/state/pmuType", "i", {"0", "4294967295"}, {"-1", "4294967296"}},
        {"/state/nowPmuType", "i", {"0", "4294967295"}, {"-1", "4294967296"}},
        {"/state/cpus", "s", {"\"4-5\"", "\"0-4095\""}, {"\"\"", "\"4096\"", "\"-\""}},
        {"/state/usable", "s", {"\"4\"", "\"4-6\""}, {"\"\"", "\"0\"", "\"4-7\"", "\"4096\""}},
        {"/state/bufferSize",
         "i",
         {"4096", "4499201580859392"},
         {"0", "4095", "4097", "-4096", "9223372036854775807"}},
        {"/state/limitedBy",
         "0s",
         {"null", "\"maxBufferSize\"", "\"MaxBufferSize\"", "\"MaxMemory\""},
         {"\"\"", "\"MaxCpus\""}},
        {"/state/charge", "i", {"1", "9223372036854775806"}, {"0", "-1", "9223372036854775807"}},
        {"/state/sinceUSec", "i", {"0", "9223372036854775807"}, {"-1"}},
        {"/state/graceUSec", "i", {"0", "9223372036854775807"}, {"-1"}},
        {"/state/barred", "b", {"false"}, {NULL}},
        {"/state/kill", "b", {"false"}, {NULL}},
        {"/state/terminated", "b", {"false"}, {NULL}},
        {"/state/away", "b", {"false", "true"}, {NULL}},
        {"/state/restartRequired", "b", {"false", "true"}, {NULL}},
        {"/state/state", "s", {"\"granted\""}, {"\"\"", "\"Granted\""}},
        {"/state/deadlineUSec", "0i", {"null"}, {"-1"}},
        {"/state/awayDeadlineUSec", "0i", {"null"}, {"-1"}},
};

static void test_members(_unused_ void **state) {
        static const struct {
                char type;
                const char *text;
        } others[] = {{'0', "null"},  {'b', "true"}, {'i', "1"}, {'d', "1.0"},
                      {'s', "\"1\""}, {'o', "{}"},   {'a', "[]"}};
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTS_OF(members); i++) {
                try_value(sample, members[i].path, NULL, false);
                for (size_t j = 0; j < ELEMENTS_OF(others); j++)
                        if (!strchr(members[i].types, others[j].type))
                                try_value(sample, members[i].path, others[j].text, false);
                for (size_t j = 0; j < ELEMENTS_OF(members[i].good) && members[i].good[j]; j++)
                        try_value(sample, members[i].path, members[i].good[j], true);
                for (size_t j = 0; j < ELEMENTS_OF(members[i].bad) && members[i].bad[j]; j++)
                        try_value(sample, members[i].path, members[i].bad[j], false);
        }

        /* None has been left out here. */
        n += (size_t)json_object_object_length(at(root, "/request"));
        n += (size_t)json_object_object_length(at(root, "/owner"));
        n += (size_t)json_object_object_length(at(root, "/state"));
        assert_int_equal(n, ELEMENTS_OF(members));
}

static void test_sections(_unused_ void **state) {
        static const char *const sections[] = {"/request", "/owner", "/state"};
        static const char *const others[] = {NULL, "null", "1", "\"x\"", "[]"};
        _cleanup_(sample_freep) Sample *sample = sample_new();
        char path[32], phrase[128];

        for (size_t i = 0; i < ELEMENTS_OF(sections); i++) {
                _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);

                for (size_t j = 0; j < ELEMENTS_OF(others); j++)
                        try_value(sample, sections[i], others[j], false);

                (void)snprintf(path, sizeof(path), "%s/color", sections[i]);
                edit(root, path, "1");
                (void)snprintf(phrase, sizeof(phrase), "%s has members that are unknown", sections[i] + 1);
                assert_bad(root, phrase);
        }
}

/* What is good by itself but not together. */
static void test_contradictions(_unused_ void **state) {
        static const struct {
                const char *state, *deadline, *away_deadline;
                const char *barred, *kill, *terminated, *away;
                bool good;
        } cases[] = {
                {"\"granted\"", "null", "null", "false", "false", "false", "false", true},
                {"\"granted\"", "1", "null", "false", "false", "false", "false", false},
                {"\"granted\"", "null", "null", "true", "false", "false", "false", false},
                {"\"granted\"", "null", "null", "false", "true", "false", "false", false},
                {"\"granted\"", "null", "null", "false", "true", "true", "false", false},
                {"\"granted\"", "null", "1", "false", "false", "false", "true", true},
                {"\"granted\"", "null", "1", "false", "false", "false", "false", false},
                {"\"revoking\"", "1", "null", "true", "false", "false", "false", true},
                {"\"revoking\"", "0", "1", "false", "true", "false", "true", true},
                {"\"revoking\"", "null", "null", "false", "false", "false", "false", false},
                {"\"revoking\"", "1", "null", "false", "true", "true", "false", false},
                {"\"revoked\"", "null", "null", "false", "false", "false", "true", true},
                {"\"revoked\"", "1", "null", "false", "true", "true", "false", true},
                {"\"revoked\"", "null", "null", "false", "true", "true", "false", true},
                {"\"revoked\"", "1", "null", "false", "false", "false", "false", false},
                {"\"revoked\"", "null", "1", "false", "false", "false", "true", false},
                {"\"revoked\"", "null", "null", "true", "false", "false", "false", false},
                {"\"revoked\"", "null", "null", "false", "false", "true", "false", false},
                {"\"queued\"", "null", "null", "false", "false", "false", "false", false},
                {"\"ended\"", "null", "null", "false", "false", "false", "false", false},
        };
        _cleanup_(sample_freep) Sample *sample = sample_new();

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);

                edit(root, "/state/state", cases[i].state);
                edit(root, "/state/deadlineUSec", cases[i].deadline);
                edit(root, "/state/awayDeadlineUSec", cases[i].away_deadline);
                edit(root, "/state/barred", cases[i].barred);
                edit(root, "/state/kill", cases[i].kill);
                edit(root, "/state/terminated", cases[i].terminated);
                edit(root, "/state/away", cases[i].away);
                if (cases[i].good)
                        assert_good(root);
                else
                        assert_bad(root, "state contradicts itself");
        }
}

/* The longest record that there can be, with all that can be kept for another build. */
static void test_longest(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        Lease *lease = &sample->lease;
        LeaseRequest *request = &lease->request;
        _cleanup_(freep) char *text = NULL;
        char name[REQUEST_VM_NAME_MAX + 1], list[CPUSET_TEXT_MAX];
        static char bytes[LEASE_RECORD_UNKNOWN_MAX];
        CpuSet odd = CPUSET_NULL;

        memset(name, '"', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        for (unsigned cpu = 0; cpu < CPUSET_MAX; cpu += 2)
                cpuset_add(&odd, cpu);
        cpuset_format(&odd, list, sizeof(list));

        lease_request_deinit(request);
        request->vm = strdup(name);
        request->policy = (PolicyRequest){.vm = request->vm, .vcpus = REQUEST_VCPUS_MAX};
        request->policy.has_cpus = request->policy.has_affinity = true;
        request->policy.cpus = request->policy.affinity = odd;
        request->policy.buffer_size = INT64_MAX;
        memset(name, 1, sizeof(name) - 1);
        request->instance = strdup(name);
        request->policy.instance = request->instance;
        memset(name, '"', sizeof(name) - 1);
        request->id = strndup(name, REQUEST_ID_LENGTH_MAX);
        lease->cpus = lease->usable = odd;
        strcpy(lease->instance_name, "arm_spe_2147483647");
        free(lease->reason);
        assert_true(asprintf(&lease->reason, "of its CPUs, %s are off line", list) > 0);
        sample->process.unit = name;
        assert_round_trip(sample);

        /* At its worst it is revoked, and contended by a session and another lease. */
        lease->state = LEASE_STATE_REVOKED;
        assert_true(asprintf(&lease->contention, "host sessions reach CPUs %s", list) > 0);
        assert_true(asprintf(&lease->contention_by_lease, "VM %s has an exclusive lease of CPUs %s", name,
                             list) > 0);

        memset(bytes, 'x', sizeof(bytes) - 1);
        sample->lease.unknown = json_object_new_object();
        json_object_object_add(sample->lease.unknown, "later", json_object_new_string(bytes));
        text = sample_write(sample);
        assert_in_range(strlen(text), 9 * strlen(list) + sizeof(bytes), LEASE_RECORD_MAX * 3 / 4);
        free(lease->contention);
        free(lease->contention_by_lease);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_granted),        cmocka_unit_test(test_revoking),
                cmocka_unit_test(test_revoked),        cmocka_unit_test(test_cgroup),
                cmocka_unit_test(test_cgroup_values),  cmocka_unit_test(test_extremes),
                cmocka_unit_test(test_late),           cmocka_unit_test(test_format),
                cmocka_unit_test(test_members),        cmocka_unit_test(test_sections),
                cmocka_unit_test(test_contradictions), cmocka_unit_test(test_longest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
