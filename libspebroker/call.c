/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Calls that wait for their answer. What matters is what a lost connection means for the call in hand: not
 * sent (nothing happened), or sent and perhaps carried out. Before a call is sent the connection is looked
 * at, so that a broker that was restarted while nothing was in flight leaves no doubt behind. With
 * reconnecting on a doubt is settled by asking again, which every call is made for; it remains only where no
 * broker answers in time.
 */

#include "libspebroker/call.h"

#include <errno.h>
#include <poll.h>
#include <syslog.h>

#include "util/clock.h"
#include "util/error.h"

/* Between two attempts to connect, while somebody waits for the answer. */
#define BACKOFF_CALL_USEC UINT64_C(500000)

typedef struct Attempts {
        uint64_t deadline;
        uint64_t wait_deadline; /* of the request, in the broker's queue */
        Backoff backoff;
        bool sent; /* on a connection that was lost */
} Attempts;

static uint64_t add_usec(uint64_t a, uint64_t b) {
        uint64_t sum;

        return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* Sends and waits, once. */
static int call_try(struct spebroker *context, const Call *call, Attempts *attempts,
                    VarlinkReply *ret_reply) {
        Call now = *call;
        int r;

        /* What is left of it: the time while the broker was away has passed for the waiter, too. */
        if (attempts->sent && call->wait_usec > 0)
                now.wait_usec = clock_left(attempts->wait_deadline);

        r = context_send(context, &now);
        if (r != 0)
                return r;

        r = varlink_client_wait(context->client, clock_left(attempts->deadline), ret_reply);
        if (r == VARLINK_CLIENT_E_CLOSED) {
                context_disconnect(context, "The broker closed the connection before it answered.");
                attempts->sent = true;
                return SPEBROKER_DISCONNECTED;
        }
        if (r == VARLINK_CLIENT_E_TIMEOUT) {
                context_disconnect(context, "The broker did not answer in time.");
                return SPEBROKER_TIMEOUT;
        }
        if (r != 0)
                context_disconnect(context, "The connection to the broker failed.");

        return error_fold(r);
}

static void sleep_usec(uint64_t usec) {
        const struct timespec ts = clock_timespec(usec);

        if (usec > 0)
                (void)ppoll(NULL, 0, &ts, NULL);
}

/*
 * Tries until it works, or time is up: also where it is not just that nobody listens. A socket that is just
 * being made, for instance, cannot be connected to for want of permission.
 */
static int reconnect(struct spebroker *context, Attempts *attempts) {
        uint64_t deadline = clock_deadline(context->timeout_usec);
        int r;

        /* A request that waits for hours does not wait as long for a broker that is not there. */
        if (attempts->deadline < deadline)
                deadline = attempts->deadline;

        for (;;) {
                uint64_t delay = backoff_next(&attempts->backoff), left = clock_left(deadline);

                sleep_usec(delay < left ? delay : left);
                r = context_connect(context, clock_left(deadline));
                if (r == 0) {
                        context_log(context, LOG_INFO, "Connected to the broker again.");
                        return 0;
                }
                if (clock_left(deadline) == 0)
                        return r;
        }
}

/* That an attempt came to nothing before it was sent says nothing about one that was. */
static int without_answer(const Call *call, const Attempts *attempts, int r) {
        return attempts->sent && !call->only_asks ? SPEBROKER_OUTCOME_UNKNOWN : r;
}

static int call_attempts(struct spebroker *context, const Call *call, Attempts *attempts,
                         VarlinkReply *ret_reply) {
        int r;

        r = call_try(context, call, attempts, ret_reply);
        while (r == SPEBROKER_DISCONNECTED && context->reconnect && !(attempts->sent && call->once)) {
                r = reconnect(context, attempts);
                if (r != 0)
                        return without_answer(call, attempts, r);
                r = call_try(context, call, attempts, ret_reply);
        }

        return r == 0 || r == SPEBROKER_TIMEOUT ? r : without_answer(call, attempts, r);
}

int context_call(struct spebroker *context, const Call *call, VarlinkReply *ret_reply, bool *ret_repeated) {
        Attempts attempts = {
                .deadline = clock_deadline(add_usec(context->timeout_usec, call->wait_usec)),
                .wait_deadline = clock_deadline(call->wait_usec),
                .backoff = BACKOFF_INIT(BACKOFF_CALL_USEC),
        };
        int r;

        if (context->stream.running)
                return -EBUSY;

        context_forget_refusal(context);
        r = call_attempts(context, call, &attempts, ret_reply);
        if (ret_repeated)
                *ret_repeated = attempts.sent;
        if (r != 0)
                return r;

        return ret_reply->error ? context_refuse(context, ret_reply) : 0;
}
