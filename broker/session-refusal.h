/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A perf_event_open() that the kernel refused for a lease or an assignment: who was refused learns only
 * EBUSY, so what stood in the way, and what would be allowed, is found out here and kept with the other
 * refusals.
 */

#include "bpf/arbiter.h"

/* An ArbiterRefusalFn; @userdata is the manager. Without memory, it is not told of. */
void session_refused(const ArbiterRefusal *arbiter_refusal, void *userdata);
