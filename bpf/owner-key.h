/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An owner of leases, as all BPF programs know it: a process by its pid, or a control group, with all
 * processes in it and below it, by its id.
 */

#include <stdint.h>

#include "bpf/spe-owner.h"

typedef uint64_t OwnerKey;
#define OWNER_KEY_CGROUP(id) ((OwnerKey)(id) | OWNER_CGROUP_BIT)
