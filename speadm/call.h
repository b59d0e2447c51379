/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Calls to the broker. Every function returns an exit status, having told what went wrong. In replies that
 * will be shown as text, and in all errors, strings are clean for a terminal (text.h) from here on, so no
 * printing code has to remember.
 */

#include "speadm/speadm.h"

#define BROKER "io.spebroker.Broker."
#define ADMIN  "io.spebroker.Admin."

/* How long a broker may take that has nothing to wait for: it answers in microseconds. */
#define CALL_TIMEOUT_USEC UINT64_C(10000000)

/* Begins a call, connecting first if need be: write the parameters' members to *@ret_writer. */
int call_begin(Speadm *speadm, const char *method, unsigned flags, JsonWriter **ret_writer);
/* Sends it and waits for the first reply, CALL_TIMEOUT_USEC and @wait_usec at most. */
int call_end(Speadm *speadm, uint64_t wait_usec, VarlinkReply *ret_reply);

/* The two halves of call_end(), with a timeout of the caller's. */
int call_send(Speadm *speadm);
int call_next(Speadm *speadm, uint64_t timeout_usec, VarlinkReply *ret_reply);

/* No exit status: the broker has closed the connection, and nothing was told. */
#define CALL_LOST (-1)
/* The same as call_next(), for a call that can be made again. CALL_LOST. */
int call_receive(Speadm *speadm, uint64_t timeout_usec, VarlinkReply *ret_reply);

/* A reply that varlink_client_process() or _wait() brought, judged as those of call_end() are. */
int call_check(Speadm *speadm, int r, VarlinkReply *reply);

/* A whole call without parameters. */
int call(Speadm *speadm, const char *method, VarlinkReply *ret_reply);
