/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What every reply looks like, against the interface description, in every state that changes it. */

#include "tests/unit/broker-fixture.h"

#include "idl/idl-text.h"
#include "varlink/idl.h"

static Idl *interface_new(const char *text) {
        Idl *idl;

        assert_int_equal(idl_parse(text, strlen(text), &idl, NULL), 0);
        return idl;
}

/* Requires that the message is what @method of @idl may answer, fine or not. */
static void assert_conforms(const Idl *idl, const char *method, struct json_object *message) {
        struct json_object *error = json_object_object_get(message, "error");
        const IdlMember *member;
        const char *field = "";

        if (error) {
                const char *name = json_object_get_string(error);
                size_t n = strlen(idl_get_name(idl));

                if (strncmp(name, idl_get_name(idl), n) != 0)
                        return; /* of org.varlink.service */
                member = idl_find(idl, IDL_MEMBER_ERROR, name + n + 1);
        } else
                member = idl_find(idl, IDL_MEMBER_METHOD, method);
        assert_non_null(member);
        if (idl_check(idl, error ? member->input : member->output,
                      json_object_object_get(message, "parameters"), &field) != 0)
                fail_msg("%s: %s: %s", method, field, json_object_to_json_string(message));
}

static void check_reading(const Idl *idl, Client *client) {
        static const char *const methods[] = {"Describe",   "CheckHost",    "ListInstances",
                                              "ListLeases", "ListSessions", "ListRefusals"};
        Client *watcher = client_new(client->broker);

        for (size_t i = 0; i < ELEMENTS_OF(methods); i++) {
                char method[64];

                (void)snprintf(method, sizeof(method), BROKER "%s", methods[i]);
                assert_conforms(idl, methods[i], client_call(client, method, NULL));
        }
        client_send(watcher, BROKER "Watch", true, NULL);
        assert_conforms(idl, "Watch", client_receive(watcher));
        client_free(watcher);
}

static void test_states(void **state) {
        Broker *broker = *state;
        _cleanup_(idl_freep) Idl *idl = interface_new(idl_io_spebroker_Broker);
        _cleanup_(idl_freep) Idl *admin = interface_new(idl_io_spebroker_Admin);
        _cleanup_(client_freep) Client *client = client_new(broker), *waiter = client_new(broker),
                                       *watcher = client_new(broker);
        LeaseId id;

        client_send(watcher, BROKER "Watch", true, NULL);
        check_reading(idl, client);
        id = acquire_for(client, getpid(), "a", "0-1", "exclusive");
        assert_conforms(idl, "Acquire", client->message);
        client_send(waiter, BROKER "Acquire", true,
                    "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"},\"waitUSec\":" LONG_USEC "}");
        assert_conforms(idl, "Acquire", client_receive(waiter));
        check_reading(idl, client);

        client_call(client, BROKER "Query", "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"}}");
        assert_conforms(idl, "Query", client->message);
        client_call(client, BROKER "Query", "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"2\"}}");
        assert_conforms(idl, "Query", client->message);
        assert_true(bool_at(client->message, "/parameters/decision/granted"));
        client_call(client, BROKER "Acquire", "{\"request\":{\"vm\":\"b\",\"vcpus\":1,\"cpus\":\"0\"}}");
        assert_conforms(idl, "Acquire", client->message);

        client_call(client, ADMIN "Assign", "{\"cpus\":\"0-1\",\"owner\":\"host\",\"runtime\":true}");
        assert_conforms(admin, "Assign", client->message);
        assert_conforms(idl, "Acquire", client_receive(waiter)); /* NotAssigned */
        assert_conforms(admin, "Revoke",
                        client_call(client, ADMIN "Revoke", "{\"leaseId\":\"%s\",\"graceUSec\":0}", id.text));
        check_reading(idl, client);
        assert_conforms(admin, "Revoke", client_call(client, ADMIN "Revoke", "{\"leaseId\":\"x\"}"));
        assert_conforms(admin, "Assign",
                        client_call(client, ADMIN "Assign", "{\"instance\":\"x\",\"owner\":\"host\"}"));
        assert_conforms(idl, "Release",
                        client_call(client, BROKER "Release", "{\"leaseId\":\"%s\"}", id.text));
        check_reading(idl, client);

        /* All of that once more, as it was told. */
        while (!client_is_silent(watcher))
                assert_conforms(idl, "Watch", client_receive(watcher));
        assert_true(int_at(watcher->message, "/parameters/event/sequence") > 5);
}

/* The members of a lease that the tests of its life do not look at. */
static void test_lease(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        struct json_object *lease;
        char text[32];

        client_call(client, BROKER "Acquire",
                    "{\"request\":{\"vm\":\"a\\u0022b\",\"vcpus\":3,\"cpus\":\"5,7\",\"bufferSize\":1048577,"
                    "\"mode\":\"shared\"}}");
        lease = at(client->message, "/parameters/lease");
        assert_text(lease, "/vm", "a\"b");
        assert_text(lease, "/vmOrigin", "administrator");
        assert_text(lease, "/instance", "arm_spe_1");
        assert_text(lease, "/cpus", "5,7");
        assert_int_equal(int_at(lease, "/vcpus"), 3);
        assert_int_equal(int_at(lease, "/bufferSize"), 1048576);
        assert_int_equal(int_at(lease, "/requestedBufferSize"), 1048577);
        assert_null_at(lease, "/limitedBy");
        assert_int_equal(int_at(lease, "/memlock/bytes"), int_at(lease, "/charge"));
        assert_text(lease, "/memlock/state", "unmanaged");
        assert_int_equal(int_at(lease, "/interrupt"), 21);
        assert_text(lease, "/mode", "shared");
        assert_int_equal(int_at(lease, "/owner/pid"), getpid());
        assert_int_equal(int_at(lease, "/owner/uid"), getuid());
        assert_int_equal(prctl(PR_GET_NAME, text), 0);
        assert_text(lease, "/owner/command", text);
        assert_null_at(lease, "/remainingUSec");
        assert_null_at(lease, "/reason");
        assert_true(int_at(lease, "/sinceUSec") > 1500000000000000);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_states, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_lease, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
