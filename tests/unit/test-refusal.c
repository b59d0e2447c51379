/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Refusals: which facts each has, its sentence, and the last of them that are kept. */

#include "tests/unit/broker-fixture.h"

/* What the last refusal says, as listed. */
static struct json_object *last_refusal(Client *client) {
        return at(client_call(client, BROKER "ListRefusals", "{\"limit\":1}"), "/parameters/refusals/0");
}

static void assert_sentence(struct json_object *refusal, const char *part) {
        if (!strstr(text_at(refusal, "/message"), part))
                fail_msg("no \"%s\" in \"%s\"", part, text_at(refusal, "/message"));
}

static void test_each_kind(void **state) {
        static const struct {
                const char *request;
                const char *error;
                const char *field, *value;
                const char *sentence;
        } cases[] = {
                {"\"instance\":\"arm_spe_9\"", "NoSuchInstance", "/instance", "arm_spe_9",
                 "arm_spe_1 has CPUs 4-11"},
                {"\"cpus\":\"3-4\"", "NoInstanceForCpus", "/cpus", "3-4", "arm_spe_0 has CPUs 0-3"},
                {"\"cpus\":\"11\"", "NotAssigned", "/owner", "host", "assigned to the host"},
                {"\"cpus\":\"0\",\"bufferSize\":4097,\"exact\":true", "BufferSizeNotRepresentable", NULL,
                 NULL, "4096"},
                {"\"cpus\":\"0\",\"bufferSize\":1099511627776,\"exact\":true", "LimitExceeded", "/limit",
                 "MaxBufferSize", "1T asked"},
                {"\"cpus\":\"1\",\"mode\":\"exclusive\"", "Busy", "/holders/0/vm", "holder",
                 "held by VM holder"},
        };
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        acquire_for(client, getpid(), "holder", "0-1", "guest");
        assert_fine(
                client_call(client, ADMIN "Assign", "{\"cpus\":\"11\",\"owner\":\"host\",\"runtime\":true}"));
        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                struct json_object *refusal;
                char error[64];

                (void)snprintf(error, sizeof(error), BROKER "%s", cases[i].error);
                assert_error(client_call(client, BROKER "Acquire",
                                         "{\"request\":{\"vm\":\"a\",\"vcpus\":1,%s}}", cases[i].request),
                             error);
                refusal = last_refusal(client);
                assert_text(refusal, "/error", error);
                assert_text(refusal, "/vm", "a");
                assert_int_equal(int_at(refusal, "/pid"), getpid());
                assert_int_equal(strlen(text_at(refusal, "/id")), REFUSAL_ID_LENGTH);
                assert_sentence(refusal, cases[i].sentence);
                if (cases[i].field)
                        assert_text(refusal, cases[i].field, cases[i].value);

                /* Query says the same, keeps nothing, and is no error. */
                client_call(client, BROKER "Query", "{\"request\":{\"vm\":\"a\",\"vcpus\":1,%s}}",
                            cases[i].request);
                assert_false(bool_at(client->message, "/parameters/decision/granted"));
                assert_text(client->message, "/parameters/decision/refusals/0/error", error);
                assert_int_equal(broker->manager->refusals.n, i + 1);
        }
        assert_int_equal(broker->manager->counters.requests_refused, ELEMENTS_OF(cases));
}

/* Every holder is named in the answer; of those that are kept, the first few. */
static void test_holders(void **state) {
        enum { N = 40 };
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);

        for (size_t i = 0; i < N; i++)
                acquire_for(client, getpid(), "holder", i % 2 ? "0-1" : "1-2", i % 3 ? "guest" : "shared");
        acquire_for(client, getpid(), "aside", "3", "guest");
        client_send(client, BROKER "Acquire", false,
                    "{\"request\":{\"vm\":\"a\",\"vcpus\":1,\"cpus\":\"1-2\",\"mode\":\"exclusive\"}}");
        assert_error(client_receive(client), BROKER "Busy");
        assert_int_equal(json_object_array_length(at(client->message, "/parameters/holders")), N);
        assert_text(client->message, "/parameters/holders/0/cpus", "1-2");
        assert_text(client->message, "/parameters/holders/1/cpus", "1");
        assert_text(client->message, "/parameters/holders/39/kind", "lease");
        assert_int_equal(json_object_array_length(at(last_refusal(client), "/holders")),
                         REFUSAL_HOLDERS_KEPT);
}

/* The newest first, no more than asked for, of one VM; and no more than are kept. */
static void test_log(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        struct json_object *list;

        for (unsigned i = 0; i < REFUSALS_MAX + 10; i++) {
                client_call(client, BROKER "Acquire",
                            "{\"request\":{\"vm\":\"vm%u\",\"vcpus\":1,\"instance\":\"i%u\"}}", i % 2, i);
                assert_error(client->message, BROKER "NoSuchInstance");
        }
        assert_int_equal(broker->manager->refusals.n, REFUSALS_MAX);
        list = at(client_call(client, BROKER "ListRefusals", NULL), "/parameters/refusals");
        assert_int_equal(json_object_array_length(list), REFUSALS_MAX);
        assert_text(list, "/0/instance", "i1033");
        assert_text(list, "/1023/instance", "i10");
        list = at(client_call(client, BROKER "ListRefusals", "{\"vm\":\"vm0\",\"limit\":3}"),
                  "/parameters/refusals");
        assert_int_equal(json_object_array_length(list), 3);
        assert_text(list, "/0/instance", "i1032");
        assert_text(list, "/2/instance", "i1028");
        list = at(client_call(client, BROKER "ListRefusals", "{\"vm\":\"vm\"}"), "/parameters/refusals");
        assert_int_equal(json_object_array_length(list), 0);
        assert_invalid(client_call(client, BROKER "ListRefusals", "{\"limit\":0}"), "limit");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_each_kind, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_holders, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_log, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
