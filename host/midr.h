/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a core's type (MIDR_EL1) says about SPE. The register that would say it for this core,
 * ID_AA64DFR0_EL1, is masked for user space, and licensees may leave SPE out of most cores: only cores that
 * always have it, or that are older than SPE itself, say anything.
 */

#include "util/cpuset.h"

typedef struct MidrCores {
        const char *with;    /* name of a type of core here that always has SPE, or NULL */
        const char *without; /* likewise, older than SPE */
        CpuSet cpus_with;
        CpuSet cpus_without;
        CpuSet cpus_other; /* of types that say nothing */
} MidrCores;

/* Reads the types of @cpus below @root_fd. CPUs whose type is not told (off line) are in none of the sets. */
int midr_read(int root_fd, const CpuSet *cpus, MidrCores *ret_cores);
