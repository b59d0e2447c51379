/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the server answers to what it is sent: the rules of the wire. */

#include "tests/unit/server-fixture.h"
#include "varlink/json-read.h"

#define CALL(method, parameters)        "{\"method\":\"org.example.test." method "\",\"parameters\":" parameters "}"
#define ERROR(name, parameters)         "{\"error\":\"" name "\",\"parameters\":" parameters "}"
#define SERVICE_ERROR(name, parameters) ERROR("org.varlink.service." name, parameters)

static void assert_answers(Fixture *f, const char *call, const char *reply) {
        send_message(f, call);
        expect_message(f, reply);
        expect_silence(f);
}

static void test_calls(void **state) {
        static const char *const pairs[][2] = {
                {CALL("Echo", "{\"text\":\"hi\"}"), "{\"parameters\":{\"text\":\"hi\"}}"},
                {CALL("Echo", "{\"text\":\"\\u00e9\\\"\"}"), "{\"parameters\":{\"text\":\"\xc3\xa9\\\"\"}}"},
                /* Absent, null and empty parameters are the same; empty ones are left out of replies. */
                {CALL("Empty", "{}"), "{}"},
                {CALL("Empty", "null"), "{}"},
                {"{\"method\":\"org.example.test.Empty\"}", "{}"},
                {" { \"parameters\" : { } ,\n\"method\" : \"org.example.test.Empty\" } ", "{}"},
                /* Flags that are false or null say nothing; upgrade is not offered, and so means nothing. */
                {"{\"method\":\"org.example.test.Empty\",\"more\":false,\"oneway\":null,\"upgrade\":false}",
                 "{}"},
                {"{\"method\":\"org.example.test.Empty\",\"more\":null}", "{}"},
                {"{\"method\":\"org.example.test.Empty\",\"upgrade\":true}", "{}"},
                /* A method without a stream answers once. */
                {"{\"method\":\"org.example.test.Empty\",\"more\":true}", "{}"},
                /* Vendors' extensions are ignored. */
                {"{\"method\":\"org.example.test.Empty\",\"org.example.trace\":{\"id\":1}}", "{}"},
                {CALL("Nested", "{\"inner\":{\"word\":\"two\"}}"), "{}"},
                {CALL("Nested", "{\"inner\":null}"), "{}"},
        };

        for (size_t i = 0; i < ELEMENTS_OF(pairs); i++)
                assert_answers(*state, pairs[i][0], pairs[i][1]);
        assert_int_equal(get_counters(*state).calls, ELEMENTS_OF(pairs));
        assert_int_equal(get_counters(*state).errors, 0);
}

static void test_errors(void **state) {
        static const char *const pairs[][2] = {
                {"{\"method\":\"org.example.none.Echo\"}",
                 SERVICE_ERROR("InterfaceNotFound", "{\"interface\":\"org.example.none\"}")},
                {"{\"method\":\"org.example.test.Nothing\"}",
                 SERVICE_ERROR("MethodNotFound", "{\"method\":\"org.example.test.Nothing\"}")},
                {"{\"method\":\"org.example.test.echo\"}",
                 SERVICE_ERROR("MethodNotFound", "{\"method\":\"org.example.test.echo\"}")},
                {"{\"method\":\"org.example.test.\"}",
                 SERVICE_ERROR("MethodNotFound", "{\"method\":\"org.example.test.\"}")},
                {"{\"method\":\".\"}", SERVICE_ERROR("InterfaceNotFound", "{\"interface\":\"\"}")},
                /* Errors and types have no handler. */
                {"{\"method\":\"org.example.test.Refused\"}",
                 SERVICE_ERROR("MethodNotFound", "{\"method\":\"org.example.test.Refused\"}")},
                {CALL("Echo", "{}"), SERVICE_ERROR("InvalidParameter", "{\"parameter\":\"text\"}")},
                {CALL("Echo", "{\"text\":null}"),
                 SERVICE_ERROR("InvalidParameter", "{\"parameter\":\"text\"}")},
                {CALL("Echo", "{\"text\":5}"), SERVICE_ERROR("InvalidParameter", "{\"parameter\":\"text\"}")},
                {CALL("Echo", "{\"text\":\"x\",\"bogus\":1}"),
                 SERVICE_ERROR("InvalidParameter", "{\"parameter\":\"bogus\"}")},
                {CALL("Empty", "{\"bogus\":null}"),
                 SERVICE_ERROR("InvalidParameter", "{\"parameter\":\"bogus\"}")},
                {CALL("Nested", "{\"inner\":{\"word\":\"three\"}}"),
                 SERVICE_ERROR("InvalidParameter", "{\"parameter\":\"word\"}")},
                {CALL("Stream", "{\"n\":3}"), "{\"error\":\"org.varlink.service.ExpectedMore\"}"},
                {CALL("Fail", "{\"code\":12}"), ERROR("io.systemd.System", "{\"errno\":12}")},
                {CALL("Fail", "{\"code\":0}"),
                 ERROR("io.systemd.System", "{\"errno\":131}")}, /* half a reply */
                {CALL("Refuse", "{\"text\":\"no\"}"), ERROR("org.example.test.Refused", "{\"text\":\"no\"}")},
                {CALL("Refuse", "{\"text\":\"\"}"), "{\"error\":\"org.example.test.Bare\"}"},
        };

        for (size_t i = 0; i < ELEMENTS_OF(pairs); i++)
                assert_answers(*state, pairs[i][0], pairs[i][1]);
        assert_int_equal(get_counters(*state).errors, ELEMENTS_OF(pairs));
        assert_int_equal(get_counters(*state).malformed, 0);
}

static void test_service(void **state) {
        static const char unknown[] = "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
                                      "\"parameters\":{\"interface\":\"org.example.none\"}}";
        static const char missing[] = "{\"method\":\"org.varlink.service.GetInterfaceDescription\"}";
        static const char describe[] = "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
                                       "\"parameters\":{\"interface\":\"org.example.test\"}}";
        _cleanup_(json_object_putp) struct json_object *reply = NULL;
        struct json_object *parameters;
        Fixture *f = *state;

        assert_answers(f, "{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{}}",
                       "{\"parameters\":{\"vendor\":\"Example\",\"product\":\"Test \\\"server\\\"\","
                       "\"version\":\"1\",\"url\":\"https://example.org\","
                       "\"interfaces\":[\"org.varlink.service\",\"org.example.test\"]}}");
        assert_answers(f, unknown,
                       SERVICE_ERROR("InterfaceNotFound", "{\"interface\":\"org.example.none\"}"));
        assert_answers(f, missing, SERVICE_ERROR("InvalidParameter", "{\"parameter\":\"interface\"}"));

        send_message(f, describe);
        receive(f);
        assert_int_equal(json_read(f->received, f->n_received - 1, &reply, NULL), 0);
        parameters = json_object_object_get(reply, "parameters");
        assert_string_equal(get_string(parameters, "description"), fixture_idl);
}

/* Each of these ends the connection without a reply; a call behind it is not answered. */
static void test_malformed(void **state) {
        static const char *const messages[] = {
                "",
                " ",
                "null",
                "5",
                "[]",
                "\"org.example.test.Empty\"",
                "{",
                "{}",
                "{\"method\":\"org.example.test.Empty\"}}",
                "{\"method\":\"org.example.test.Empty\"} x",
                "{'method':'org.example.test.Empty'}",
                "{\"method\":5}",
                "{\"method\":null}",
                "{\"method\":\"Empty\"}",
                "{\"method\":\"\"}",
                "{\"parameters\":{}}",
                "{\"method\":\"org.example.test.Empty\",\"parameters\":[]}",
                "{\"method\":\"org.example.test.Empty\",\"parameters\":\"\"}",
                "{\"method\":\"org.example.test.Empty\",\"parameters\":false}",
                "{\"method\":\"org.example.test.Empty\",\"more\":\"yes\"}",
                "{\"method\":\"org.example.test.Empty\",\"more\":1}",
                "{\"method\":\"org.example.test.Empty\",\"oneway\":{}}",
                "{\"method\":\"org.example.test.Empty\",\"upgrade\":\"\"}",
                "{\"method\":\"org.example.test.Empty\",\"more\":true,\"oneway\":true}",
                "{\"method\":\"org.example.test.Empty\",\"more\":true,\"upgrade\":true}",
                "{\"method\":\"org.example.test.Empty\",\"oneway\":true,\"upgrade\":true}",
                "{\"method\":\"org.example.test.Empty\",\"bogus\":1}",
                "{\"method\":\"org.example.test.Empty\",\"bogus\":null}",
                "{\"method\":\"org.example.test.Empty\",\"method\":\"org.example.test.Empty\"}",
                "{\"method\":\"org.example.test.Echo\",\"parameters\":{\"text\":\"\\u0000\"}}",
                "{\"method\":\"org.example.test.Echo\",\"parameters\":{\"text\":\"\xff\"}}",
                "{\"method\":\"org.example.test.Echo\",\"parameters\":{\"text\":\"\n\"}}",
                "{\"method\":\"org.example.test.Fail\",\"parameters\":{\"code\":99999999999999999999}}",
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS_OF(messages); i++) {
                char bytes[256];
                size_t n = strlen(messages[i]) + 1;

                memcpy(bytes, messages[i], n);
                memcpy(bytes + n, CALL("Empty", "{}"), sizeof(CALL("Empty", "{}")));
                send_bytes(f, bytes, n + sizeof(CALL("Empty", "{}")));
                expect_closed(f);
                assert_int_equal(get_counters(f).malformed, i + 1);
                assert_int_equal(get_counters(f).connections, 0);
                reconnect(f);
        }
        assert_int_equal(get_counters(f).calls, 0);
}

static void test_nesting(void **state) {
        Fixture *f = *state;
        char bytes[100000];

        memset(bytes, '[', sizeof(bytes));
        bytes[sizeof(bytes) - 1] = '\0';
        send_bytes(f, bytes, sizeof(bytes));
        expect_closed(f);
}

/* Calls before the malformed message are answered. */
static void test_malformed_behind_calls(void **state) {
        Fixture *f = *state;

        send_bytes(f, "{\"method\":\"org.example.test.Empty\"}\0{]",
                   sizeof("{\"method\":\"org.example.test.Empty\"}\0{]"));
        expect_message(f, "{}");
        expect_closed(f);
}

static void test_oneway(void **state) {
        static const char *const silent[] = {
                "{\"method\":\"org.example.test.Empty\",\"oneway\":true}",
                "{\"method\":\"org.example.test.Echo\",\"oneway\":true,\"parameters\":{\"text\":\"x\"}}",
                "{\"method\":\"org.example.test.Echo\",\"oneway\":true}",
                "{\"method\":\"org.example.test.Stream\",\"oneway\":true,\"parameters\":{\"n\":5}}",
                "{\"method\":\"org.example.test.Fail\",\"oneway\":true,\"parameters\":{\"code\":5}}",
                "{\"method\":\"org.example.test.Refuse\",\"oneway\":true,\"parameters\":{\"text\":\"x\"}}",
                "{\"method\":\"org.example.test.Nothing\",\"oneway\":true}",
                "{\"method\":\"org.example.none.Echo\",\"oneway\":true}",
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS_OF(silent); i++) {
                send_message(f, silent[i]);
                expect_silence(f);
        }
        assert_int_equal(f->n_handled, 2); /* Empty, and Echo with its text */
        assert_answers(f, CALL("Echo", "{\"text\":\"x\"}"), "{\"parameters\":{\"text\":\"x\"}}");
}

static void test_stream(void **state) {
        Fixture *f = *state;

        send_message(f, "{\"method\":\"org.example.test.Stream\",\"more\":true,\"parameters\":{\"n\":3}}");
        expect_message(f, "{\"parameters\":{\"i\":1},\"continues\":true}");
        expect_message(f, "{\"parameters\":{\"i\":2},\"continues\":true}");
        expect_message(f, "{\"parameters\":{\"i\":3}}");
        expect_silence(f);
}

/* Calls behind a pending one wait for it, in order. */
static void test_pending(void **state) {
        static const char calls[] =
                "{\"method\":\"org.example.test.Later\",\"more\":true}\0"
                "{\"method\":\"org.example.test.Empty\"}\0"
                "{\"method\":\"org.example.test.Later\"}\0"
                "{\"method\":\"org.example.test.Echo\",\"parameters\":{\"text\":\"end\"}}";
        Fixture *f = *state;

        send_bytes(f, calls, sizeof(calls));
        expect_silence(f);
        assert_int_equal(f->n_later, 1);
        assert_true(varlink_call_wants_more(f->later));

        finish_later(f, "first", true);
        expect_message(f, "{\"parameters\":{\"text\":\"first\"},\"continues\":true}");
        expect_silence(f);
        finish_later(f, "last", false);
        expect_message(f, "{\"parameters\":{\"text\":\"last\"}}");
        expect_message(f, "{}");
        expect_silence(f);

        assert_int_equal(f->n_later, 2);
        assert_false(varlink_call_wants_more(f->later));
        finish_later(f, "again", false);
        expect_message(f, "{\"parameters\":{\"text\":\"again\"}}");
        expect_message(f, "{\"parameters\":{\"text\":\"end\"}}");
        expect_silence(f);
        assert_int_equal(f->n_closed, 0);
}

static void test_byte_by_byte(void **state) {
        static const char calls[] = CALL("Echo", "{\"text\":\"a\"}") "\0" CALL("Echo", "{\"text\":\"b\"}");
        Fixture *f = *state;

        for (size_t i = 0; i < sizeof(calls); i++)
                send_bytes(f, calls + i, 1);
        expect_message(f, "{\"parameters\":{\"text\":\"a\"}}");
        expect_message(f, "{\"parameters\":{\"text\":\"b\"}}");
        expect_silence(f);
}

/* What arrives in one read is answered in one write. */
static void test_pipelined(void **state) {
        static const char call[] = CALL("Echo", "{\"text\":\"a\"}");
        char calls[16 * sizeof(call)];
        Fixture *f = *state;

        for (unsigned i = 0; i < 16; i++)
                memcpy(calls + i * sizeof(call), call, sizeof(call));
        send_bytes(f, calls, sizeof(calls));
        receive(f);
        assert_int_equal(f->n_reads, 1);
        for (unsigned i = 0; i < 16; i++)
                expect_message(f, "{\"parameters\":{\"text\":\"a\"}}");
        expect_silence(f);
}

/* More than one turn's worth: all are answered, and in order, though nothing more arrives. */
static void test_long_pipeline(void **state) {
        char calls[64 * 1024], text[128];
        Fixture *f = *state;
        size_t n = 0;

        for (unsigned i = 0; i < 500; i++)
                n += (size_t)snprintf(calls + n, sizeof(calls) - n, CALL("Echo", "{\"text\":\"%u\"}"), i) + 1;
        send_bytes(f, calls, n);
        for (unsigned i = 0; i < 500; i++) {
                (void)snprintf(text, sizeof(text), "{\"parameters\":{\"text\":\"%u\"}}", i);
                expect_message(f, text);
        }
        expect_silence(f);
}

/* Handlers and descriptions belong together, one to one. */
static void test_add_interface(void **state) {
        static const char text[] = "interface org.example.two\nmethod One() -> ()\nmethod Two() -> ()\n";
        static const VarlinkMethod methods[] = {
                {.name = "Two", .handler = on_empty},
                {.name = "One", .handler = on_empty},
                {.name = "Three", .handler = on_empty},
        };
        static const VarlinkMethod twice[] = {
                {.name = "One", .handler = on_empty},
                {.name = "One", .handler = on_empty},
        };
        Fixture *f = *state;
        VarlinkServer *server = f->server;

        assert_int_equal(varlink_server_add_interface(server, "interface", NULL, 0, f), VARLINK_SERVER_E_IDL);
        assert_int_equal(varlink_server_add_interface(server, text, methods, 1, f),
                         VARLINK_SERVER_E_MISMATCH);
        assert_int_equal(varlink_server_add_interface(server, text, methods, 3, f),
                         VARLINK_SERVER_E_MISMATCH);
        assert_int_equal(varlink_server_add_interface(server, text, &methods[1], 2, f),
                         VARLINK_SERVER_E_MISMATCH);
        assert_int_equal(varlink_server_add_interface(server, text, twice, 2, f), VARLINK_SERVER_E_MISMATCH);
        assert_answers(f, "{\"method\":\"org.example.two.One\"}",
                       SERVICE_ERROR("InterfaceNotFound", "{\"interface\":\"org.example.two\"}"));

        assert_int_equal(varlink_server_add_interface(server, text, methods, 2, f), 0);
        assert_int_equal(varlink_server_add_interface(server, text, methods, 2, f), -EEXIST);
        assert_answers(f, "{\"method\":\"org.example.two.One\"}", "{}");
        assert_answers(f, "{\"method\":\"org.example.two.Two\"}", "{}");
        assert_answers(f, CALL("Empty", "{}"), "{}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_calls),         TEST(test_errors),    TEST(test_service),
                TEST(test_malformed),     TEST(test_nesting),   TEST(test_malformed_behind_calls),
                TEST(test_oneway),        TEST(test_stream),    TEST(test_pending),
                TEST(test_byte_by_byte),  TEST(test_pipelined), TEST(test_long_pipeline),
                TEST(test_add_interface),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
