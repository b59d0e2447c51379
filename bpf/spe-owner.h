/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How the BPF programs and those who fill their maps (owner-key.h) know who has leases, in one word: a
 * process by its id, or a control group by its, with a bit that no id has, as the kernel counts them up.
 */

#define OWNER_CGROUP_BIT (1ULL << 63)
/* So many groups, its own and those above, a thread may be in. */
#define OWNER_CGROUP_DEPTH 32U
