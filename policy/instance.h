/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An SPU as the rules see it, and the set of all of them, in order of their index. What the host's tree says
 * beyond this (caps, driver, problem) is none of the rules' business. An instance stays in the table while
 * leases are on it, gone or not: leases point at it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/words.h"
#include "util/cleanup.h"
#include "util/cpuset.h"

#define INSTANCE_NAME_MAX 31U /* "arm_spe_" and a number */

typedef struct Instance {
        char name[INSTANCE_NAME_MAX + 1];
        unsigned index; /* the N of arm_spe_N */
        InstanceState state;
        GuestSupport guest;
        char *guest_reason; /* NULL or a sentence */
        char *problem;      /* why it is not ready; NULL if it is */
        uint32_t pmu_type;  /* valid if ready */
        CpuSet cpus;
        CpuSet effective;         /* cpus that are on line */
        uint64_t max_buffer_size; /* 0: no limit, or not stated */

        /* Sums over its leases, kept by the ledger's charges. */
        uint64_t charge;
        unsigned n_leases;
} Instance;

int instance_new(const char *name, unsigned index, Instance **ret_instance);
Instance *instance_free(Instance *instance); /* asserts that no lease is left */
DEFINE_CLEANUP(Instance *, instance_free)

typedef struct InstanceTable {
        Instance **entries; /* sorted by index, then name */
        size_t n;
} InstanceTable;

#define INSTANCE_TABLE_NULL ((InstanceTable){0})
void instance_table_deinit(InstanceTable *table);
/* Takes over @instance on success; -EEXIST if the name is there. */
int instance_table_add(InstanceTable *table, Instance *instance);
/* Takes it out and frees it. */
void instance_table_remove(InstanceTable *table, Instance *instance);
Instance *instance_table_find(const InstanceTable *table, const char *name);
