/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the journal gets of host sessions: events with a MESSAGE_ID and fields to search by, listed in
 * spe-broker(8).
 */

typedef struct Lease Lease;
typedef struct Manager Manager;
typedef struct Refusal Refusal;
typedef struct Session Session;

/* @lease is contended because of what @sentence says of @session (NULL: which one is not known), or with
 * neither, not any more because of any session. */
void session_journal_lease(Manager *manager, const Lease *lease, const Session *session,
                           const char *sentence);
/* The kernel refused somebody a session. */
void session_journal_refusal(Manager *manager, const Refusal *refusal, const char *command);
/* @lease has waited for so long that it keeps new sessions off no more; @sentence: who is in its way. */
void session_journal_wait(Manager *manager, const Lease *lease, const char *sentence);
