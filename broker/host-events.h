/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * When the host is looked at again: after uevents, and where the last look found something unfinished.
 */

#include <stdint.h>

#include "util/cleanup.h"

typedef struct Manager Manager;
typedef struct HostEvents HostEvents;

/* What only counts up; Describe's counters. */
typedef struct HostEventsCounters {
        uint64_t uevents; /* of the kernel, about CPUs, SPUs, their driver or KVM */
        uint64_t uevents_of_vms;
        uint64_t uevents_spoofed;
        uint64_t uevent_losses;
} HostEventsCounters;

/*
 * Subscribes to uevents: to be done before the first scan, so that no change is missed between the two. Where
 * they cannot be had that is logged, and the host is looked at only when somebody asks for it.
 */
int host_events_new(Manager *manager, HostEvents **ret_events);
HostEvents *host_events_free(HostEvents *events);
DEFINE_CLEANUP(HostEvents *, host_events_free)

/* After each scan, whoever asked for it: @r is what came of it. Sees to it that there is another one if need
 * be. */
void host_events_scanned(HostEvents *events, int r);

const HostEventsCounters *host_events_counters(const HostEvents *events);
