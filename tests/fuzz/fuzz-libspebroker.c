/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Whatever a broker says to libspebroker: the first byte says what was asked ('q' a query, 'c' the same lease
 * twice, anything else the changes of a lease), the rest is the answer, or two with a NUL between them. What
 * is handed out afterwards keeps its promises.
 */

#include <errno.h>
#include <spebroker/spebroker.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "libspebroker/changes.h"
#include "libspebroker/checks.h"
#include "libspebroker/decision.h"
#include "libspebroker/lease.h"
#include "libspebroker/refusal.h"
#include "util/cleanup.h"
#include "varlink/client.h"
#include "varlink/json-read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

DEFINE_CLEANUP(struct spebroker *, spebroker_unref)

static void require(bool condition) {
        if (!condition)
                abort();
}

static void check_refusal(const struct spebroker_refusal *refusal) {
        const struct spebroker_holder *holder;

        require(refusal && spebroker_refusal_get_name(refusal) && spebroker_refusal_get_message(refusal));
        for (size_t i = 0; (holder = spebroker_refusal_get_holder(refusal, i)); i++) {
                require(spebroker_holder_get_kind(holder) && spebroker_holder_get_cpus(holder));
                require(spebroker_holder_get_pid(holder) >= -1);
        }
}

static void check_offer(const struct spebroker_offer *offer) {
        require(spebroker_offer_get_buffer_size(offer) > 0);
        require(spebroker_offer_get_pmu_type(offer) >= 0);
        require(spebroker_offer_get_cpus(offer) && spebroker_offer_get_instance(offer));
}

static void check_lease(const struct spebroker_lease *lease) {
        cpu_set_t set[4];

        require(spebroker_lease_get_id(lease) && spebroker_lease_get_vm(lease));
        require(spebroker_lease_get_pmu_type(lease) >= -1);
        require(spebroker_lease_get_vcpus(lease) > 0);
        require(spebroker_lease_get_buffer_size(lease) > 0 || lease_is(lease, "queued"));
        require(spebroker_lease_get_buffer_size(lease) <= INT64_MAX);
        require(spebroker_lease_get_remaining_usec(lease) >= -1);
        require(spebroker_lease_get_owner_pid(lease) >= -1 && spebroker_lease_get_owner_uid(lease) >= 0);
        require(spebroker_lease_get_cpu_set(lease, sizeof(set), set) == 0);
}

static void check_decision(const struct spebroker_decision *decision) {
        const struct spebroker_refusal *refusal;
        const struct spebroker_offer *offer;

        offer = spebroker_decision_get_offer(decision);
        require(spebroker_decision_is_granted(decision) == (offer != NULL));
        if (offer)
                check_offer(offer);
        offer = spebroker_decision_get_counter_offer(decision);
        if (offer)
                check_offer(offer);
        for (size_t i = 0; (refusal = spebroker_decision_get_refusal(decision, i)); i++)
                check_refusal(refusal);
}

/* The answer, and then the end of the connection. */
static void say(int *peer, const uint8_t *data, size_t size) {
        (void)!send(*peer, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(steal_fd(peer));
}

static void fuzz_stream(int fd, int *peer, const uint8_t *data, size_t size) {
        _cleanup_(spebroker_unrefp) struct spebroker *context = NULL;
        int r;

        require(spebroker_new_from_fd(fd, &context) == 0);
        require(spebroker_follow(context, "0123") == 0);
        say(peer, data, size);
        for (;;) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;

                r = spebroker_process(context, &lease);
                if (r != 0)
                        break;
                check_lease(lease);
        }

        require(r == -EPROTO || r == SPEBROKER_REFUSED || r == SPEBROKER_DISCONNECTED ||
                r == SPEBROKER_ENDED);
        if (r == SPEBROKER_REFUSED)
                check_refusal(spebroker_get_refusal(context));
}

static void check_checks(const struct spebroker_checks *checks) {
        const struct spebroker_check *check, *failed = spebroker_checks_get_first_failed(checks);
        bool found = false;

        for (size_t i = 0; (check = spebroker_checks_get_check(checks, i)); i++) {
                require(spebroker_check_get_name(check) && spebroker_check_get_reason(check));
                (void)spebroker_check_get_advice(check);
                found = found || check == failed;
                require(found || strcmp(spebroker_check_get_status(check), "failed") != 0);
        }
        require(found == !!failed);
}

static void fuzz_query(int fd, int *peer, const uint8_t *data, size_t size) {
        _cleanup_(varlink_client_freep) VarlinkClient *client = NULL;
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(spebroker_decision_unrefp) struct spebroker_decision *decision = NULL;
        _cleanup_(spebroker_checks_unrefp) struct spebroker_checks *checks = NULL;
        _cleanup_(refusal_freep) struct spebroker_refusal *refusal = NULL;
        JsonWriter *writer;
        int r;

        require(varlink_client_new_fd(fd, &client) == 0);
        require(varlink_client_begin(client, "a.b.Query", 0, &writer) == 0);
        require(varlink_client_end(client) == 0);
        say(peer, data, size);

        r = varlink_client_process(client, &reply);
        require(r == 0 || r == VARLINK_CLIENT_E_CLOSED);
        if (r != 0)
                return;

        require(!reply.continues);
        if (reply.error) {
                r = refusal_new_error(reply.error, reply.parameters, &refusal);
                require(r == 0 || r == -EPROTO);
                if (r == 0)
                        check_refusal(refusal);
        } else {
                r = decision_new(reply.parameters, &decision);
                require(r == 0 || r == -EPROTO);
                if (r == 0)
                        check_decision(decision);
                r = checks_new(reply.parameters, &checks);
                require(r == 0 || r == -EPROTO);
                if (r == 0)
                        check_checks(checks);
        }
}

static struct spebroker_lease *lease_from(const char *text, size_t size) {
        _cleanup_(json_object_putp) struct json_object *object = NULL;
        struct spebroker_lease *lease = NULL;

        if (json_read(text, size, &object, NULL) == 0 && object &&
            json_object_is_type(object, json_type_object))
                (void)lease_new(object, &lease);
        return lease;
}

/* What has become of a lease, and that it has ended. */
static void fuzz_changes(const uint8_t *data, size_t size) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *before = NULL, *after = NULL, *told = NULL,
                                                                 *ended = NULL;
        const char *text = (const char *)data, *nul = size > 0 ? memchr(text, 0, size) : NULL;
        const char *changes[CHANGES_MAX];
        size_t n;

        if (!nul)
                return;
        before = lease_from(text, (size_t)(nul - text));
        after = lease_from(nul + 1, size - (size_t)(nul + 1 - text));
        if (!after)
                return;

        n = changes_between(before, after, changes);
        require(n <= CHANGES_MAX && (before || n == 1));
        require(changes_between(after, after, changes) == (size_t)lease_is(after, "ended"));
        if (n > 0) {
                (void)changes_between(before, after, changes);
                require(lease_new_changed(after, changes[n - 1], &told) == 0);
                check_lease(told);
        }
        if (lease_is(after, "queued"))
                return;
        require(lease_new_ended(after, "it is over", &ended) == 0);
        check_lease(ended);
        require(lease_is(ended, "ended"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(closep) int peer = -1;
        int fds[2];

        if (size == 0)
                return 0;

        if (data[0] == 'c') {
                fuzz_changes(data + 1, size - 1);
                return 0;
        }

        require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        peer = fds[1];
        if (data[0] == 'q')
                fuzz_query(fds[0], &peer, data + 1, size - 1);
        else
                fuzz_stream(fds[0], &peer, data + 1, size - 1);

        return 0;
}
