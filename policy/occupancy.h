/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How many leases hold each CPU, by mode, so that a decision takes the same time with ten leases as with four
 * thousand. Leases count while granted or revoking; a revoked one holds nothing.
 */

#include <stdbool.h>
#include <stdint.h>

#include "policy/words.h"
#include "util/cpuset.h"

typedef struct Occupancy {
        uint32_t n[_LEASE_MODE_MAX][CPUSET_MAX];
        CpuSet held[_LEASE_MODE_MAX]; /* the CPUs whose count is not 0 */
} Occupancy;

void occupancy_add(Occupancy *occupancy, LeaseMode mode, const CpuSet *cpus);
void occupancy_remove(Occupancy *occupancy, LeaseMode mode, const CpuSet *cpus);

/*
 * The CPUs on which a new lease of @mode would conflict with present ones: all that are held, for an
 * exclusive one; those held exclusively, for the others. @self_cpus and @self_mode, if given, are left out: a
 * lease that moves is not in its own way.
 */
void occupancy_conflicts(const Occupancy *occupancy, LeaseMode mode, const CpuSet *self_cpus,
                         LeaseMode self_mode, CpuSet *ret_cpus);
