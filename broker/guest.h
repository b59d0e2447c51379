/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What KVM says of the host's SPUs, asked where the answer may have changed: at start, for an SPU that a scan
 * finds new, ready, or with another PMU type, and for all of them after an event of KVM or of the driver,
 * with a new configuration, and on Rescan. Requests are decided on the last answer: none waits for KVM.
 */

#include <stdbool.h>

#include "host/guest-probe.h"
#include "host/topology.h"
#include "policy/words.h"

typedef struct Manager Manager;

typedef struct Guest {
        bool stale;       /* whatever is known is to be asked again with the next scan */
        GuestVerdict kvm; /* of KVM as a whole, where no SPU is ready; else without a reason */
} Guest;

void guest_deinit(Guest *guest);

/* KVM or the driver may not be what it was. To be followed by manager_rescan(). */
void guest_forget(Manager *manager);

/*
 * Fills in what KVM says of each SPU of @topology, a new scan's, which is to replace the manager's. Logs
 * answers that are news. Blocks for the milliseconds that KVM needs per SPU it has to be asked for.
 */
int guest_ask(Manager *manager, Topology *topology);

/* As an instance's. */
GuestSupport guest_support(const GuestVerdict *verdict);
