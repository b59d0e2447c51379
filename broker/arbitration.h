/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How host sessions are kept off the CPUs of leases: chooses the level that the configuration wants and the
 * host has, has the kernel close what policy/closed.h says, and sees to it that of a lease and a session that
 * race for a CPU at most one wins.
 *
 * The order of a grant: decide, close the CPUs in the kernel, read the kernel's own table of sessions, decide
 * again, and only then commit, or open the CPUs again. arbitration_decide() is that order; who commits what
 * it granted does so before it returns to the loop. What was closed and not committed is opened again by the
 * settle() that follows.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/arbiter.h"
#include "bpf/reserve.h"
#include "policy/decide.h"
#include "util/cleanup.h"
#include "util/named-fd.h"

typedef struct Manager Manager;
typedef struct Arbitration Arbitration;
typedef struct Lease Lease;
typedef struct LeaseOwner LeaseOwner;
typedef struct LeaseRequest LeaseRequest;

/*
 * So long, from its Acquire on, a waiting lease keeps new sessions off the CPUs that it waits for. Then they
 * are let in again, and the journal has a line of who waits for whom, so that one idle event cannot starve a
 * lease for ever unseen.
 */
#define ARBITRATION_KEEP_USEC UINT64_C(10000000)

/*
 * @kept: what the last run left with systemd; what is known of it is taken over (its fd is -1 then). The
 * level is that of arbitration_configure(), which settle() calls; none until then. Only -ENOMEM and the like.
 */
int arbitration_new(Manager *manager, NamedFd *kept, size_t n_kept, Arbitration **ret_arbitration);
Arbitration *arbitration_free(Arbitration *arbitration);
DEFINE_CLEANUP(Arbitration *, arbitration_free)

ArbitrationLevel arbitration_get_level(const Arbitration *arbitration);
/* Why no higher one, sentences; NULL at enforce. */
const char *arbitration_get_reason(const Arbitration *arbitration);
/* All 0 where nothing counts. */
void arbitration_get_counters(const Arbitration *arbitration, ArbiterCounters *ret_counters);

/* Its eyes; NULL: there are none. */
Arbiter *arbitration_get_arbiter(const Arbitration *arbitration);
/* Its hand without BPF, which also settles doubt. */
Reserve *arbitration_get_reserve(const Arbitration *arbitration);
/* The instance whose PMU the kernel calls @pmu, or NULL. */
const Instance *arbitration_find_instance(const Manager *manager, const char *pmu);

/* The configuration, or the host's instances, may want another level now. Called by settle() alone. */
int arbitration_configure(Manager *manager);

/*
 * decide(), made safe against sessions that open meanwhile: if *@ret_decision is granted, its CPUs are closed
 * in the kernel and no session stands against it. Brings what sessions the owner has into the request.
 */
int arbitration_decide(Manager *manager, LeaseRequest *request, const Claims *ahead, Decision *ret_decision);
/* The same for @lease that moves to the CPUs of @request, which is otherwise its own: decide_move(). */
int arbitration_decide_move(Manager *manager, const Lease *lease, PolicyRequest *request, const Claims *ahead,
                            Decision *ret_decision);

/* What @lease holds is other CPUs now: has settle() close and open them. */
void arbitration_lease_changed(Manager *manager, Lease *lease);
/* The last lease of @owner is gone, and with it what was closed for it. */
void arbitration_owner_gone(Manager *manager, LeaseOwner *owner);

/* Has the kernel close what is to be closed now, and open the rest: the last pass of settle, and what a lease
 * that begins to wait keeps free. */
void arbitration_settle(Manager *manager);
