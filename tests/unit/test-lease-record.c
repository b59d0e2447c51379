/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Texts of leases: what is written is read as the same, and what would not have been written is not read. Bad
 * texts are made of good ones, under a sum of the test's own, so that each is refused for what it says.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <json-c/json_pointer.h>

#include "tests/unit/lease-sample.h"
#include "util/buffer-size.h"
#include "varlink/json-read.h"

#define DAMAGED "damaged: its sum is another"

static int parse_n(const char *text, size_t n, LeaseRecord *record, const char **reason) {
        return lease_record_parse(text, n, SAMPLE_ID, SAMPLE_BOOT, record, reason);
}

static int parse(const char *text, LeaseRecord *record, const char **reason) {
        return parse_n(text, strlen(text), record, reason);
}

static struct json_object *json_of(const char *text) {
        struct json_object *value;

        assert_int_equal(json_read(text, strlen(text), &value, NULL), 0);
        return value;
}

static struct json_object *at(struct json_object *root, const char *path) {
        struct json_object *value;

        assert_int_equal(json_pointer_get(root, path, &value), 0);
        return value;
}

static struct json_object *sample_json(const Sample *sample) {
        _cleanup_(freep) char *text = sample_write(sample);

        return json_of(text);
}

/* Puts the value that @text is where @path leads; NULL: takes away what is there. */
static void edit(struct json_object *root, const char *path, const char *text) {
        char section[32];
        const char *name = strrchr(path, '/');

        if (!text) {
                (void)snprintf(section, sizeof(section), "%.*s", (int)(name - path), path);
                json_object_object_del(at(root, section), name + 1);
                return;
        }

        assert_int_equal(json_pointer_set(&root, path, strcmp(text, "null") == 0 ? NULL : json_of(text)), 0);
}

static void assert_bad(struct json_object *root, const char *expected) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(freep) char *text = NULL;
        const char *reason = NULL;

        sample_seal(root);
        text = sample_text_of(root);
        if (parse(text, &record, &reason) != LEASE_RECORD_E_BAD)
                fail_msg("believed: %s", text);
        assert_non_null(reason);
        assert_string_equal(reason, expected);
        /* Untouched on failure. */
        assert_null(record.request.vm);
        assert_int_equal(record.owner.pid, 0);
}

/* It is read, and says the same when it is written back. */
static void assert_good(struct json_object *root) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(json_object_putp) struct json_object *again = NULL;
        _cleanup_(freep) char *text = NULL;
        const char *reason = NULL;

        sample_seal(root);
        text = sample_text_of(root);
        if (parse(text, &record, &reason) != 0)
                fail_msg("%s: %s", reason, text);
        sample_become(sample, &record);
        again = sample_json(sample);
        for (const char *const *section = (const char *const[]){"request", "owner", "state", "sum", NULL};
             *section; section++) {
                _cleanup_(freep) char *was = sample_text_of(json_object_object_get(root, *section));
                _cleanup_(freep) char *is = sample_text_of(json_object_object_get(again, *section));

                assert_string_equal(is, was);
        }
}

static void assert_same_request(const LeaseRequest *a, const LeaseRequest *b) {
        assert_true(lease_request_equal(a, b));
        assert_true(!a->id == !b->id && (!a->id || strcmp(a->id, b->id) == 0));
        assert_ptr_equal(a->policy.vm, a->vm);
        assert_ptr_equal(a->policy.instance, a->instance);
        assert_int_equal(a->policy.uid, b->policy.uid);
        assert_int_equal(a->policy.administrator, b->policy.administrator);
        assert_int_equal(a->policy.vm_origin, b->policy.vm_origin);
        assert_int_equal(a->policy.has_affinity, b->policy.has_affinity);
        assert_true(cpuset_equal(&a->policy.affinity, &b->policy.affinity));
        assert_true(cpuset_is_empty(&a->policy.own_sessions));
        assert_null(a->fresh);
        assert_null(a->known);
}

/* Field by field: what a writer and a reader that both forget one would not show. */
static void assert_same(const LeaseRecord *record, const Sample *sample) {
        const Lease *lease = &sample->lease;

        assert_string_equal(record->id, lease->id);
        assert_same_request(&record->request, &lease->request);
        assert_int_equal(record->owner.pid, sample->process.pid);
        assert_int_equal(record->owner.start_time, sample->process.start_time);
        assert_int_equal(record->owner.uid, sample->process.uid);
        assert_int_equal(record->state, lease->state);
        assert_true(!record->reason == !lease->reason);
        if (lease->reason)
                assert_string_equal(record->reason, lease->reason);
        assert_string_equal(record->instance_name, lease->instance_name);
        assert_int_equal(record->pmu_type, lease->pmu_type);
        assert_int_equal(record->now_pmu_type, lease->now_pmu_type);
        assert_true(cpuset_equal(&record->cpus, &lease->cpus));
        assert_true(cpuset_equal(&record->usable, &lease->usable));
        assert_int_equal(record->buffer_size, lease->buffer_size);
        assert_ptr_equal(record->limited_by ? strstr(lease->limited_by, record->limited_by) : NULL,
                         lease->limited_by);
        assert_int_equal(record->charge, lease->charge.bytes);
        assert_int_equal(record->since_usec, lease->since_usec);
        assert_int_equal(record->deadline_usec, lease->deadline_usec);
        assert_int_equal(record->away_deadline_usec, lease->away_deadline_usec);
        assert_int_equal(record->grace_usec, lease->grace_usec);
        assert_int_equal(record->barred, lease->barred);
        assert_int_equal(record->kill, lease->kill);
        assert_int_equal(record->terminated, lease->terminated);
        assert_int_equal(record->away, lease->away);
        assert_int_equal(record->restart_required, lease->restart_required);
}

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

/* "request.vm is missing, or not what it can be" of "/request/vm". */
static void phrase_of(const char *path, char *phrase, size_t size) {
        (void)snprintf(phrase, size, "%s is missing, or not what it can be", path + 1);
        if (strchr(phrase, '/'))
                *strchr(phrase, '/') = '.';
}

/* Whether @root is read with @text at @path. */
static void try_value(const Sample *sample, const char *path, const char *text, bool good) {
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
        char phrase[128];

        phrase_of(path, phrase, sizeof(phrase));
        edit(root, path, text);
        if (good)
                assert_good(root);
        else
                assert_bad(root, phrase);
}

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

static void assert_text_bad(const char *text, const char *expected) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = NULL;

        assert_int_equal(parse(text, &record, &reason), LEASE_RECORD_E_BAD);
        assert_string_equal(reason, expected);
}

static void test_head(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();

        for (const char *const *text = (const char *const[]){"null", "[]", "1", "\"\"", NULL}; *text; text++)
                assert_text_bad(*text, "not an object");
        for (const char *const *text = (const char *const[]){"{}", "{\"version\":2}", "{\"version\":1.0}",
                                                             "{\"version\":\"1\"}", NULL};
             *text; text++)
                assert_text_bad(*text, "of another version");
        assert_text_bad("", "not JSON");
        assert_text_bad("{\"version\":1,\"version\":1}", json_read_strerror(JSON_READ_E_DUPLICATE));

        try_value(sample, "/sum", "1", true); /* the test's own takes its place */
        try_value(sample, "/lease/vm", NULL, true);
        try_value(sample, "/lease/vm", "[]", true);
        try_value(sample, "/lease/color", "\"blue\"", true);
}

/* A sum that nobody has made anew. */
static void test_sum(_unused_ void **state) {
        static const struct {
                const char *path, *text, *reason;
        } cases[] = {
                {"/state/charge", "16842753", DAMAGED},
                {"/owner/pid", "4712", DAMAGED},
                {"/request/exact", "true", DAMAGED},
                {"/bootId", "\"" SAMPLE_OTHER_BOOT "\"", DAMAGED},
                {"/sum", "\"8092ccda7fd0735b\"", DAMAGED},
                {"/sum", "\"\"", DAMAGED},
                {"/sum", "null", "sum is missing, or not what it can be"},
                {"/sum", NULL, "sum is missing, or not what it can be"},
                {"/bootId", NULL, "bootId is missing, or not what it can be"},
                {"/bootId", "1", "bootId is missing, or not what it can be"},
                {"/lease", NULL, "lease is missing, or not what it can be"},
                {"/lease", "[]", "lease is missing, or not what it can be"},
                {"/lease/leaseId", NULL, "lease.leaseId is missing, or not what it can be"},
                {"/lease/leaseId", "\"00112233445566778899aabbccddeefe\"",
                 "of another lease than its name says"},
        };
        _cleanup_(sample_freep) Sample *sample = sample_new();

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
                _cleanup_(freep) char *text = NULL;

                edit(root, cases[i].path, cases[i].text);
                text = sample_text_of(root);
                assert_text_bad(text, cases[i].reason);
        }
}

static void test_name(_unused_ void **state) {
        static const char *const names[] = {"",
                                            "x",
                                            SAMPLE_ID "0",
                                            "0" SAMPLE_ID,
                                            "00112233445566778899AABBCCDDEEFF",
                                            "../112233445566778899aabbccddeef"};
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(freep) char *text = sample_write(sample);
        const char *reason = NULL;

        for (size_t i = 0; i < ELEMENTS_OF(names); i++) {
                assert_int_equal(
                        lease_record_parse(text, strlen(text), names[i], SAMPLE_BOOT, &record, &reason),
                        LEASE_RECORD_E_BAD);
                assert_string_equal(reason, "not called as a lease is");
        }
        assert_int_equal(lease_record_parse(text, strlen(text), "ffeeddccbbaa99887766554433221100",
                                            SAMPLE_BOOT, &record, &reason),
                         LEASE_RECORD_E_BAD);
        assert_string_equal(reason, "of another lease than its name says");
}

static void test_other_boot(_unused_ void **state) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        _cleanup_(freep) char *text = sample_write(sample);
        const char *reason = NULL;

        assert_int_equal(
                lease_record_parse(text, strlen(text), SAMPLE_ID, SAMPLE_OTHER_BOOT, &record, &reason),
                LEASE_RECORD_E_OTHER_BOOT);
        assert_string_equal(reason, "of another boot");
        assert_null(record.request.vm);

        /* One that is not good is not good, whatever boot it speaks of. */
        root = json_of(text);
        edit(root, "/bootId", "\"" SAMPLE_OTHER_BOOT "\"");
        edit(root, "/state/charge", "0");
        assert_bad(root, "state.charge is missing, or not what it can be");
}

/* What another build adds at the top comes back from this one, and does not change the sum. */
static void test_unknown(_unused_ void **state) {
        static const char later[] =
                "{\"color\":\"blue\",\"list\":[1,2.5,null,{\"deep\":[[]]}],\"none\":null}";
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample), *again = NULL;
        _cleanup_(freep) char *text = NULL, *kept = NULL, *was = NULL, *is = NULL;
        LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason;

        edit(root, "/later", later);
        edit(root, "/nothing", "null");
        edit(root, "/\"quoted\\", "1");
        text = sample_text_of(root);
        assert_int_equal(parse(text, &record, &reason), 0);
        kept = sample_text_of(record.unknown);
        assert_string_equal(kept, "{\"later\":{\"color\":\"blue\",\"list\":[1,2.5,null,{\"deep\":[[]]}],"
                                  "\"none\":null},\"nothing\":null,\"\\\"quoted\\\\\":1}");

        sample_become(sample, &record);
        again = sample_json(sample);
        was = sample_text_of(root);
        is = sample_text_of(again);
        assert_string_equal(is, was);
}

/* Their bound leaves room for the longest lease, whatever else becomes of it. */
static void test_unknown_bound(_unused_ void **state) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
        _cleanup_(freep) char *text = NULL, *more = NULL;
        static char bytes[LEASE_RECORD_UNKNOWN_MAX + 1];
        const char *reason;

        memset(bytes, 'x', sizeof(bytes) - 1);
        /* {"later":"xxx"} */
        json_object_object_add(root, "later",
                               json_object_new_string_len(bytes, LEASE_RECORD_UNKNOWN_MAX -
                                                                         (int)strlen("{\"later\":\"\"}")));
        text = sample_text_of(root);
        assert_int_equal(parse(text, &record, &reason), 0);

        json_object_object_add(root, "other", NULL);
        more = sample_text_of(root);
        assert_text_bad(more, "more unknown members than can be kept");
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

        memset(bytes, 'x', sizeof(bytes) - 1);
        sample->lease.unknown = json_object_new_object();
        json_object_object_add(sample->lease.unknown, "later", json_object_new_string(bytes));
        text = sample_write(sample);
        assert_true(strlen(text) < LEASE_RECORD_MAX - LEASE_RECORD_UNKNOWN_MAX / 2);
}

static void test_reason_bound(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
        static char bytes[LEASE_RECORD_REASON_MAX + 2];

        memset(bytes, 'x', sizeof(bytes) - 2);
        json_object_object_add(at(root, "/state"), "reason", json_object_new_string(bytes));
        assert_good(root);
        bytes[sizeof(bytes) - 2] = 'x';
        json_object_object_add(at(root, "/state"), "reason", json_object_new_string(bytes));
        assert_bad(root, "state.reason is missing, or not what it can be");
}

/* Damaged texts: refused with a reason, or meaning what they meant. */
static void assert_refused_or_same(const Sample *sample, const char *text, size_t n) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = NULL;
        int r;

        r = parse_n(text, n, &record, &reason);
        if (r == LEASE_RECORD_E_BAD) {
                assert_non_null(reason);
                return;
        }
        assert_int_equal(r, 0);
        assert_same(&record, sample);
}

static void test_every_byte(_unused_ void **state) {
        static const unsigned char values[] = {0, ' ', '"', ',', '0', '9', '}', '\\', 0x7f, 0xc3, 0xff};
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(freep) char *good = sample_write(sample), *text = NULL;
        size_t n = strlen(good);
        unsigned n_same = 0;

        text = malloc(n + 1);
        assert_non_null(text);
        for (size_t i = 0; i < n; i++) {
                memcpy(text, good, n);
                for (unsigned bit = 0; bit < 8; bit++) {
                        text[i] = (char)(good[i] ^ 1 << bit);
                        assert_refused_or_same(sample, text, n);
                }
                for (size_t j = 0; j < ELEMENTS_OF(values); j++) {
                        text[i] = (char)values[j];
                        assert_refused_or_same(sample, text, n);
                }

                /* Gone, there twice, and something before it. */
                memmove(text + i, good + i + 1, n - i - 1);
                assert_refused_or_same(sample, text, n - 1);
                memcpy(text, good, i + 1);
                memcpy(text + i + 1, good + i, n - i);
                assert_refused_or_same(sample, text, n + 1);
                text[i] = ' ';
                assert_refused_or_same(sample, text, n + 1);
        }

        /* Nothing but the last byte, the newline, can be missing. */
        for (size_t k = 0; k < n; k++) {
                LeaseRecord record = LEASE_RECORD_NULL;
                const char *reason;

                n_same += parse_n(good, k, &record, &reason) == 0;
                lease_record_deinit(&record);
        }
        assert_int_equal(n_same, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_granted),
                cmocka_unit_test(test_revoking),
                cmocka_unit_test(test_revoked),
                cmocka_unit_test(test_extremes),
                cmocka_unit_test(test_late),
                cmocka_unit_test(test_format),
                cmocka_unit_test(test_members),
                cmocka_unit_test(test_sections),
                cmocka_unit_test(test_contradictions),
                cmocka_unit_test(test_head),
                cmocka_unit_test(test_sum),
                cmocka_unit_test(test_name),
                cmocka_unit_test(test_other_boot),
                cmocka_unit_test(test_unknown),
                cmocka_unit_test(test_unknown_bound),
                cmocka_unit_test(test_longest),
                cmocka_unit_test(test_reason_bound),
                cmocka_unit_test(test_every_byte),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
