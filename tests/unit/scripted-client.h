/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The other side of a scripted broker, for libspebroker's tests: what it hears, and how a test waits. Include
 * it after cmocka.h.
 */

#include <poll.h>
#include <spebroker/spebroker.h>
#include <stdio.h>
#include <string.h>

#include "libspebroker/lease.h"
#include "tests/unit/broker-messages.h"
#include "tests/unit/scripted-broker.h"
#include "util/cleanup.h"

#define ACQUIRE "{\"method\":\"io.spebroker.Broker.Acquire\",\"parameters\":{\"request\":{\"vcpus\":2}}}"
#define ACQUIRE_MORE                                                                                        \
        "{\"method\":\"io.spebroker.Broker.Acquire\",\"more\":true,\"parameters\":{\"request\":{\"vcpus\":" \
        "2},\"waitUSec\":60000000}}"
#define QUERY   "{\"method\":\"io.spebroker.Broker.Query\",\"parameters\":{\"request\":{\"vcpus\":2}}}"
#define RELEASE "{\"method\":\"io.spebroker.Broker.Release\",\"parameters\":{\"leaseId\":\"" ID "\"}}"
#define FOLLOW \
        "{\"method\":\"io.spebroker.Broker.Follow\",\"more\":true,\"parameters\":{\"leaseId\":\"" ID "\"}}"

#define PRESENT "{\"continues\":true,\"parameters\":{\"lease\":" LEASE("granted") "}}"
#define ENDED   "{\"parameters\":{\"change\":\"ended\",\"lease\":" LEASE("ended") "}}"

#define NO_SUCH_LEASE \
        "{\"error\":\"io.spebroker.Broker.NoSuchLease\",\"parameters\":{\"leaseId\":\"" ID "\"}}"
#define DENIED "{\"error\":\"org.varlink.service.PermissionDenied\"}"

DEFINE_CLEANUP(struct spebroker *, spebroker_unref)

_unused_ static struct spebroker *connect_to(const Script *script) {
        struct spebroker *context;

        assert_int_equal(spebroker_new_from_path(script->path, &context), 0);
        return context;
}

_unused_ static struct spebroker_request *request_for(unsigned vcpus) {
        struct spebroker_request *request;

        assert_int_equal(spebroker_request_new(vcpus, &request), 0);
        return request;
}

/* Waits until the peer has closed. */
_unused_ static void await_hang_up(const struct spebroker *context) {
        struct pollfd pfd = {.fd = spebroker_get_fd(context), .events = POLLIN};

        assert_int_equal(poll(&pfd, 1, 10000), 1);
}

_unused_ static int process_wait(struct spebroker *context, struct spebroker_lease **ret_lease) {
        for (;;) {
                struct pollfd pfd = {.fd = spebroker_get_fd(context),
                                     .events = spebroker_get_events(context)};
                int r;

                r = spebroker_process(context, ret_lease);
                if (r != SPEBROKER_AGAIN)
                        return r;
                assert_int_equal(poll(&pfd, 1, 10000), 1);
        }
}

_unused_ static void assert_change(struct spebroker *context, const char *change) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;

        assert_int_equal(process_wait(context, &lease), 0);
        if (change)
                assert_string_equal(spebroker_lease_get_change(lease), change);
        else
                assert_null(spebroker_lease_get_change(lease));
}

/* A context that may reconnect. */
_unused_ static struct spebroker *connect_for_good(const Script *script) {
        struct spebroker *context = connect_to(script);

        assert_int_equal(spebroker_set_reconnect(context, true), 0);
        return context;
}

/* The script begins, and a context that may reconnect; and the end of both. */
_unused_ static struct spebroker *script_play(Script *script, const Step *steps) {
        script_start(script, steps);
        return connect_for_good(script);
}

_unused_ static void script_end(Script *script, struct spebroker *context) {
        spebroker_unref(context);
        script_finish(script);
}

typedef struct Log {
        char text[1024];
} Log;

_unused_ static void log_line(void *userdata, _unused_ int priority, const char *message) {
        Log *log = userdata;
        size_t n = strlen(log->text);

        snprintf(log->text + n, sizeof(log->text) - n, "%s\n", message);
}
