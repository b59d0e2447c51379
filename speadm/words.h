/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The broker's objects in words, where several verbs say them. */

#include <json-c/json.h>
#include <stdio.h>

#include "speadm/speadm.h"

/* Digits of a lease's id that people see; any unique beginning is understood. */
#define LEASE_ID_SHOWN 12
/* And of a refusal's, which the journal has as SPE_BROKER_REFUSAL=. */
#define REFUSAL_ID_SHOWN LEASE_ID_SHOWN

/* How well host sessions are kept off: from 0, none, to enforce; -1 for NULL and for a word that is no level.
 */
int words_level_rank(const char *level);

/* Somebody in the way: "lease 0123456789ab of VM web (pid 1234, qemu) on CPUs 0-3". */
void words_holder(FILE *file, const struct json_object *holder);

/* Tables of leases, with their reasons below, and of host sessions. Return an exit status. */
int words_lease_table(const Speadm *speadm, const struct json_object *leases);
int words_session_table(const Speadm *speadm, const struct json_object *sessions);

/*
 * Whose an instance's CPUs are: "guest:web", or "0-1:host 2-3:guest:web" where they are not all of its CPUs.
 * The caller frees it; NULL without memory.
 */
char *words_assignments(const struct json_object *instance);
