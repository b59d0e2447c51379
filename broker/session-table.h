/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Keeps the structures of a SessionTable consistent; what they mean is session.h's.
 */

#include "broker/session.h"

SessionKind session_kind(const ArbiterSession *facts);
/* What a process calls itself may hold anything: makes it one line. */
void session_clean(ArbiterSession *facts);

/* Makes a session of @facts that is in no table. */
int session_new(const ArbiterSession *facts, Session **ret_session);
Session *session_free(Session *session);
DEFINE_CLEANUP(Session *, session_free)

/* The session that @facts are about, or NULL: one of the same address with other facts is another one. */
Session *session_find(const SessionTable *table, const ArbiterSession *facts);
/* The sessions of @process as a target, or NULL. */
SessionTarget *session_target_find(const SessionTable *table, pid_t process);
/* Has it say in which control group its process is, which may have moved since that was asked last. */
void session_target_look(SessionTarget *target);
/* Takes over @session on success; -ENOMEM. */
int session_link(SessionTable *table, Session *session);
/* From now on it is gone: freed, or in table->gone if that has to be told. */
void session_unlink(SessionTable *table, Session *session);
