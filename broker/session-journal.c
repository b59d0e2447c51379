/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Anybody can open and close events in a loop, so there are JOURNAL_MAX messages of a kind in
 * JOURNAL_INTERVAL_USEC at most; the next one says how many were left out.
 */

#include "broker/session-journal.h"

#include "broker/log.h"
#include "broker/manager.h"
#include "util/clock.h"

#define JOURNAL_MAX           20U
#define JOURNAL_INTERVAL_USEC (10 * USEC_PER_SEC)

#define MESSAGE_CONTENDED   "babfd7ad9bb4463c9d9b5dd899cf40bf"
#define MESSAGE_UNCONTENDED "714c33c584a14423a3548166cf23e934"
#define MESSAGE_REFUSED     "bec2cb5e9add44ca91cac7b41ad649e7"
#define MESSAGE_WAITS       "fa5ccba18c99486987f25d2c5d6d5f9b"

static bool may_log(const Manager *manager, RateLimit *limit, char more[static LOG_LEFT_OUT_MAX]) {
        if (!rate_limit_allows(limit, manager_now_monotonic(manager), JOURNAL_MAX, JOURNAL_INTERVAL_USEC))
                return false;

        log_left_out(rate_limit_take_left_out(limit), more);
        return true;
}

void session_journal_lease(Manager *manager, const Lease *lease, const Session *session,
                           const char *sentence) {
        char pid[LOG_NUMBER_MAX] = "", uid[LOG_NUMBER_MAX] = "", more[LOG_LEFT_OUT_MAX];
        const ArbiterSession *facts = session ? &session->facts : NULL;
        const LogField fields[] = {
                {"SPE_BROKER_LEASE", lease->id},
                {"SPE_BROKER_VM", lease->request.vm},
                {"SPE_BROKER_INSTANCE", lease->instance_name},
                {"SPE_BROKER_SESSION_PID", facts ? log_number(facts->pid, pid) : NULL},
                {"SPE_BROKER_SESSION_UID", facts ? log_number(facts->uid, uid) : NULL},
                {"SPE_BROKER_SESSION_COMMAND", facts ? facts->command : NULL},
        };

        if (!may_log(manager, &manager->sessions.lease_journal, more))
                return;

        if (sentence)
                log_event(LOG_NOTICE, MESSAGE_CONTENDED, fields, ELEMENTS_OF(fields),
                          "lease %s of VM %s is contended: %s%s", lease->id, lease->request.vm, sentence,
                          more);
        else
                log_event(LOG_NOTICE, MESSAGE_UNCONTENDED, fields, ELEMENTS_OF(fields),
                          "no host session stands against lease %s of VM %s any more%s", lease->id,
                          lease->request.vm, more);
}

void session_journal_refusal(Manager *manager, const Refusal *refusal, const char *command) {
        char pid[LOG_NUMBER_MAX], uid[LOG_NUMBER_MAX], more[LOG_LEFT_OUT_MAX];
        const RefusalHolder *holder = refusal->n_holders > 0 ? &refusal->holders[0] : NULL;
        const LogField fields[] = {
                {"SPE_BROKER_REFUSAL", refusal->id},
                {"SPE_BROKER_LEASE", holder ? holder->lease_id : NULL},
                {"SPE_BROKER_VM", holder ? holder->vm : NULL},
                {"SPE_BROKER_INSTANCE", refusal->instance},
                {"SPE_BROKER_SESSION_PID", log_number(refusal->pid, pid)},
                {"SPE_BROKER_SESSION_UID", log_number(refusal->uid, uid)},
                {"SPE_BROKER_SESSION_COMMAND", command},
        };

        if (may_log(manager, &manager->sessions.refusal_journal, more))
                log_event(LOG_NOTICE, MESSAGE_REFUSED, fields, ELEMENTS_OF(fields), "%s%s", refusal->message,
                          more);
}

void session_journal_wait(Manager *manager, const Lease *lease, const char *sentence) {
        char more[LOG_LEFT_OUT_MAX], owner[OWNER_TEXT_MAX];
        const LogField fields[] = {
                {"SPE_BROKER_LEASE", lease->id},
                {"SPE_BROKER_VM", lease->request.vm},
                {"SPE_BROKER_INSTANCE", lease->instance_name},
        };

        if (may_log(manager, &manager->sessions.wait_journal, more))
                log_event(LOG_NOTICE, MESSAGE_WAITS, fields, ELEMENTS_OF(fields),
                          "VM %s (%s) has waited for %u s, and lets new host sessions in again: %s%s",
                          lease->request.vm, owner_format_short(lease->owner->owner, owner),
                          (unsigned)(ARBITRATION_KEEP_USEC / USEC_PER_SEC), sentence, more);
}
