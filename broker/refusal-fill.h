/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a refusal is filled with: shared by the files that make one (refusal.c of a lease, session-refusal.c
 * of a host session), and nobody else's.
 */

#include "broker/refusal.h"
#include "util/cpuset.h"

typedef struct Lease Lease;

/* A refusal of @pid that still lacks its fields and its sentence. */
int refusal_begin(const Manager *manager, RefusalKind kind, pid_t pid, uid_t uid, Refusal **ret_refusal);

int refusal_copy(const char *text, char **ret_copy);
int refusal_copy_cpus(const CpuSet *cpus, char **ret_text);
/* The sentence. */
int refusal_say(Refusal *refusal, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));

/* Makes room for all who could be in the way. */
int refusal_make_holders(const Manager *manager, Refusal *refusal);
/* Adds @lease, which stands in the way where it meets @cpus, if it does. */
int refusal_add_lease(Refusal *refusal, const Lease *lease, const CpuSet *cpus);

/* Busy, in full. */
int refusal_fill_busy(const Manager *manager, const LeaseRequest *request, const RefusalFacts *facts,
                      Refusal *refusal);
