/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Sessions that may be dead. Where events of the kernel are not seen to end (hook TRACEPOINTS: a close is
 * only hinted at, and of a process that dies nothing is said), and where the iterator finds nobody who has
 * one (closed unseen; or mapped and then closed, or in flight), the kernel is asked: an event that could not
 * be opened beside it (bpf/reserve.h).
 *
 * When: at each ring of the doorbell, when a process that has a session ends, and when a session stands in
 * the way of a lease. An event lives on for a moment after its close, and some ends are not even hinted at
 * (munmap(), a descriptor that was passed or closed by io_uring): so while a doubt is fresh, and for as long
 * as somebody waits for the session or it is marked as contended, it is looked at again after 10 ms, then
 * twice that, up to 1 s.
 */

#include <stdbool.h>

#include "util/cleanup.h"
#include "util/cpuset.h"

typedef struct Manager Manager;
typedef struct SessionDoubt SessionDoubt;

int session_doubt_new(Manager *manager, SessionDoubt **ret_doubt);
SessionDoubt *session_doubt_free(SessionDoubt *doubt);
DEFINE_CLEANUP(SessionDoubt *, session_doubt_free)

/*
 * Looks now: at hook TRACEPOINTS who has what, then asks the kernel about each suspected session. Those that
 * are dead are gone from manager->sessions then; those about which it does not say so stay suspected.
 */
void session_doubt_settle(Manager *manager);
/* Asks the kernel, and nobody else, about suspected sessions that reach @cpus. True if one is gone. */
bool session_doubt_ask(Manager *manager, const CpuSet *cpus);
/* Somebody may wait for a session now: sees to it that it is looked at again. The last pass of settle(). */
void session_doubt_watch(Manager *manager);
