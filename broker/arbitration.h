/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How host sessions are kept off the CPUs of leases: chooses the level that the configuration wants and the
 * host has, has the kernel close what policy/closed.h says, and sees to it that of a lease and a session that
 * race for a CPU at most one wins.
 *
 * The order of a grant: decide, close the CPUs in the kernel, read the kernel's own table of sessions, decide
 * again, and only then commit, or open the CPUs again. arbitration_decide() is that order; who commits what
 * it granted does so in the same turn of the loop.
 */

#include <stdbool.h>
#include <stddef.h>

#include "bpf/arbiter.h"
#include "policy/decide.h"
#include "util/cleanup.h"
#include "util/named-fd.h"

typedef struct Manager Manager;
typedef struct Arbitration Arbitration;

/* @kept: what the last run left with systemd; what is known of it is taken over (its fd is -1 then). */
int arbitration_new(Manager *manager, NamedFd *kept, size_t n_kept, Arbitration **ret_arbitration);
Arbitration *arbitration_free(Arbitration *arbitration);
DEFINE_CLEANUP(Arbitration *, arbitration_free)

ArbitrationLevel arbitration_get_level(const Arbitration *arbitration);
/* Why no higher one, a sentence; NULL at enforce. */
const char *arbitration_get_reason(const Arbitration *arbitration);

/* Its eyes; NULL: there are none (level none). */
Arbiter *arbitration_get_arbiter(const Arbitration *arbitration);
/* The instance whose PMU the kernel calls @pmu, or NULL. */
const Instance *arbitration_find_instance(const Manager *manager, const char *pmu);

/* The configuration, or the host's instances, may want another level now. */
int arbitration_configure(Manager *manager);

/*
 * decide(), made safe against sessions that open meanwhile: if *@ret_decision is granted, its CPUs are closed
 * in the kernel and no session stands against it. Whoever does not commit it calls arbitration_settle().
 */
int arbitration_decide(Manager *manager, const PolicyRequest *request, const Claims *ahead,
                       Decision *ret_decision);
/* The same for a lease that moves: decide_move(). */
int arbitration_decide_move(Manager *manager, const PolicyRequest *request, Instance *instance,
                            const CpuSet *held, const Claims *ahead, Decision *ret_decision);

/* Has the kernel close what is to be closed now, and open the rest: the last pass of settle. */
void arbitration_settle(Manager *manager);
