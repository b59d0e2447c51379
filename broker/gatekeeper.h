/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Keeps the gate in the kernel (bpf/gate.h): at which level, on which numbers of KVM's, and what each owner
 * of leases may set on VCPUs. An owner is admitted before it is told of its lease, and not any more before it
 * is told of the end: whatever changes what leases it holds, or on which SPU, calls
 * gatekeeper_owner_changed() first.
 */

#include <stddef.h>

#include "bpf/gate.h"
#include "policy/words.h"
#include "util/cleanup.h"
#include "util/named-fd.h"

typedef struct Manager Manager;
typedef struct LeaseOwner LeaseOwner;
typedef struct Gatekeeper Gatekeeper;

/*
 * @kept: what the last run left with systemd; what is known of it is taken over (its fd is -1 then), and goes
 * on as it was. The level is that of gatekeeper_configure(), which settle() calls; off until then. Only
 * -ENOMEM and the like.
 */
int gatekeeper_new(Manager *manager, NamedFd *kept, size_t n_kept, Gatekeeper **ret_gatekeeper);
Gatekeeper *gatekeeper_free(Gatekeeper *gatekeeper);
DEFINE_CLEANUP(Gatekeeper *, gatekeeper_free)

GateLevel gatekeeper_get_level(const Gatekeeper *gatekeeper);
/* Why it does not enforce, a clause; NULL where it does. */
const char *gatekeeper_get_reason(const Gatekeeper *gatekeeper);
/* All 0 where nothing counts. */
void gatekeeper_get_counters(const Gatekeeper *gatekeeper, GateCounters *ret_counters);
/* NULL: there is none. */
Gate *gatekeeper_get_gate(const Gatekeeper *gatekeeper);

/* The configuration may want another level, or have other numbers. Called by settle() alone. */
int gatekeeper_configure(Manager *manager);

/* Has the kernel admit @owner to what its leases allow now, and to nothing else, as soon as this returns. */
void gatekeeper_owner_changed(Manager *manager, LeaseOwner *owner);
