/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where the SPU of a lease is now. Names are handed out in the order in which the driver finds the SPUs, and
 * PMU types are used again after a reload, so neither says which SPU it is; the CPUs do.
 */

#include <stdbool.h>
#include <stdint.h>

#include "policy/instance.h"
#include "util/cpuset.h"

typedef struct Placement {
        Instance *instance; /* the ready one that has most of the CPUs; NULL: none has any */
        CpuSet cpus;        /* those that it has */
        bool same;          /* it has all of them, and the PMU type: KVM cannot tell the difference */
} Placement;

/*
 * Looks for the SPU of a lease that holds @cpus (not empty), and was given @pmu_type and the name of @home.
 * Of two instances with the same number of its CPUs, @home is taken, else the lower index.
 */
void placement_find(const InstanceTable *instances, Instance *home, uint32_t pmu_type, const CpuSet *cpus,
                    Placement *ret_placement);
