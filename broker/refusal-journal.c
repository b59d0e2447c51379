/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A VMM that asks again and again is refused again and again. So of one VM with one error, of one user, and
 * in all, only so many are logged per minute, and the next one that is says how many were left out before it;
 * ListRefusals has them. Each limit counts what it kept out itself, so that nothing is counted twice, and
 * what is remembered has a fixed size, whatever names anybody makes up.
 */

#include "broker/refusal-journal.h"

#include <stdio.h>
#include <string.h>

#include "broker/encode.h"
#include "broker/log.h"
#include "broker/refusal.h"
#include "util/clock.h"
#include "util/hash.h"

#define LIKE_MAX      5U
#define USER_MAX      60U
#define ALL_MAX       300U
#define INTERVAL_USEC USEC_PER_MIN

#define MESSAGE_NOT_GRANTED "6ba63443ef394e578149b8dbd0a6cb49"

#define ERROR_TEXT_MAX 64U

/* Whoever finds two names with one hash has made his own two VMs share a limit. */
static uint64_t hash(const Refusal *refusal) {
        uint64_t kind = hash_add(HASH_INIT, &refusal->kind, sizeof(refusal->kind));

        return hash_add(kind, refusal->vm, strlen(refusal->vm));
}

/* The limit of refusals like @refusal, moved to the front. The one that makes room for a new one leaves its
 * count to the user. */
static RateLimit *find_like(RefusalRates *rates, const Refusal *refusal) {
        uint64_t like = hash(refusal);
        RefusalRate found;
        size_t i = 0;

        while (i < REFUSAL_RATES_MAX - 1 && rates->like[i].like != like)
                i++;

        found = rates->like[i];
        if (found.like != like) {
                rates->user.left_out += found.limit.left_out;
                found = (RefusalRate){.like = like};
        }

        memmove(&rates->like[1], &rates->like[0], i * sizeof(rates->like[0]));
        rates->like[0] = found;
        return &rates->like[0].limit;
}

static bool may_log(const Refusal *refusal, uint64_t now, RefusalRates *rates, RateLimit *all,
                    unsigned *ret_left_out) {
        RateLimit *like = find_like(rates, refusal);

        if (!rate_limit_allows(like, now, LIKE_MAX, INTERVAL_USEC) ||
            !rate_limit_allows(&rates->user, now, USER_MAX, INTERVAL_USEC) ||
            !rate_limit_allows(all, now, ALL_MAX, INTERVAL_USEC))
                return false;

        *ret_left_out = rate_limit_take_left_out(like) + rate_limit_take_left_out(&rates->user) +
                        rate_limit_take_left_out(all);
        return true;
}

/* @n: how many were left out before it. */
static void send(const Refusal *refusal, unsigned n) {
        char pid[LOG_NUMBER_MAX], uid[LOG_NUMBER_MAX], left_out[LOG_NUMBER_MAX], more[LOG_LEFT_OUT_MAX];
        const RefusalHolder *holder = refusal->n_holders > 0 ? &refusal->holders[0] : NULL;
        const char *kind = refusal_kind_to_string(refusal->kind);
        char error[ERROR_TEXT_MAX], process[sizeof(" (pid -2147483648)")] = "";
        const LogField fields[] = {
                {"SPE_BROKER_REFUSAL", refusal->id},
                {"SPE_BROKER_ERROR", error},
                {"SPE_BROKER_VM", refusal->vm},
                {"SPE_BROKER_OWNER_PID", refusal->pid > 0 ? log_number(refusal->pid, pid) : NULL},
                {"SPE_BROKER_OWNER_UID", log_number(refusal->uid, uid)},
                {"SPE_BROKER_INSTANCE", refusal->instance},
                {"SPE_BROKER_LIMIT", refusal->limit},
                {"SPE_BROKER_LEASE", holder && !holder->session ? holder->lease_id : NULL},
                {"SPE_BROKER_LEFT_OUT", n > 0 ? log_number(n, left_out) : NULL},
        };

        (void)snprintf(error, sizeof(error), BROKER_ERROR_PREFIX "%s", kind);
        if (refusal->pid > 0) /* not a control group */
                (void)snprintf(process, sizeof(process), " (pid %i)", (int)refusal->pid);
        log_event(LOG_NOTICE, MESSAGE_NOT_GRANTED, fields, ELEMENTS_OF(fields),
                  "VM %s%s was refused with %s: %s%s", refusal->vm, process, kind, refusal->message,
                  log_left_out(n, more));
}

void refusal_journal(const Refusal *refusal, uint64_t now_usec, RefusalRates *rates, RateLimit *all) {
        unsigned left_out;

        if (may_log(refusal, now_usec, rates, all, &left_out))
                send(refusal, left_out);
}
