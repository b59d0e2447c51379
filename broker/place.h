/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where a charged lease is: which instance is its SPU now, which of its CPUs can be used, and whether its VM
 * would notice. Nothing here tells anybody.
 */

#include "broker/lease.h"

/*
 * Finds the SPU of @lease again after the instances have changed: its CPUs say which one that is. If it has
 * become another one to KVM (the PMU type, or CPUs that it does not have any more), a lease whose VM never
 * enabled it takes the new one over, and any other needs a restart.
 */
void lease_place(Manager *manager, Lease *lease);

/*
 * Works out which CPUs of @lease can be used now, and if it is granted, the reason. A holding lease that has
 * none begins to be away, with the grace of the configuration.
 */
void lease_look(Manager *manager, Lease *lease);

/* The grace of a lease that is away is over: it is revoked, and needs a restart. Called by settle alone. */
void lease_away_over(Manager *manager, Lease *lease);

/* True if the SPU of @lease is gone and another one has its name. */
bool lease_is_displaced(const Lease *lease);
