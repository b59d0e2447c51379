/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The search goes by CPUs alone. At most one ready instance has a CPU, so where all are still together there
 * is no choice to make; the order of preference matters only for SPUs that came back cut differently.
 */

#include "policy/placement.h"

static bool has_all(const Instance *instance, const CpuSet *cpus) {
        return instance->state == INSTANCE_STATE_READY && cpuset_is_subset(cpus, &instance->cpus);
}

static Instance *find(const InstanceTable *instances, Instance *home, const CpuSet *cpus) {
        Instance *best = NULL;
        unsigned most = 0;

        if (has_all(home, cpus)) /* nearly always */
                return home;

        for (size_t i = 0; i < instances->n; i++) {
                Instance *instance = instances->entries[i];
                CpuSet common = *cpus;
                unsigned n;

                if (instance->state != INSTANCE_STATE_READY)
                        continue;
                cpuset_and(&common, &instance->cpus);
                n = cpuset_count(&common);
                if (n > most || (n > 0 && n == most && instance == home)) {
                        most = n;
                        best = instance;
                }
        }

        return best;
}

void placement_find(const InstanceTable *instances, Instance *home, uint32_t pmu_type, const CpuSet *cpus,
                    Placement *ret_placement) {
        Instance *instance = find(instances, home, cpus);

        *ret_placement = (Placement){.instance = instance};
        if (!instance)
                return;

        ret_placement->cpus = *cpus;
        cpuset_and(&ret_placement->cpus, &instance->cpus);
        ret_placement->same = instance->pmu_type == pmu_type && has_all(instance, cpus);
}
