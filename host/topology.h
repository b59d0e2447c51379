/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the host's tree says about its SPUs: one scan of /sys/bus/event_source/devices/arm_spe_* below a root
 * directory, into values. The tree is hostile until it is parsed: whatever is wrong with one instance makes
 * that instance partial, with the problem in a sentence, and never harms the others or the scan.
 *
 * Sources: drivers/perf/arm_spe_pmu.c (attributes), kernel/cpu.c (online). The path under bus/ is the one
 * that did not move between kernels.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/guest-probe.h"
#include "util/cleanup.h"
#include "util/cpuset.h"

/* More than any machine has; more directories than that are ignored, and told as a problem of the scan. */
#define TOPOLOGY_INSTANCES_MAX 1024U
#define TOPOLOGY_NAME_MAX      31U
#define TOPOLOGY_FORMATS_MAX   64U

typedef enum DriverKind {
        DRIVER_BUILTIN,
        DRIVER_MODULE,
        DRIVER_UNKNOWN,
} DriverKind;

const char *driver_kind_to_string(DriverKind kind);

/* A caps/ file: absent, or not a number, is -1. */
typedef struct SpuCapabilities {
        int64_t arch_inst;
        int64_t ernd;
        int64_t count_size;
        int64_t min_interval;
        char *formats[TOPOLOGY_FORMATS_MAX]; /* names in format/, sorted */
        size_t n_formats;
} SpuCapabilities;

typedef struct Spu {
        char name[TOPOLOGY_NAME_MAX + 1];
        unsigned index;
        bool ready;               /* type, cpumask and format/ are there and parse; else partial */
        uint32_t pmu_type;        /* valid if ready */
        CpuSet cpus;              /* as far as it parsed */
        uint64_t max_buffer_size; /* 0: no limit, or not stated */
        SpuCapabilities capabilities;
        char *problem; /* NULL if ready and nothing is odd. A ready one may have a problem too (a bad caps
                          file) */
        GuestVerdict guest; /* nobody has asked, after a scan */
        bool news;          /* it is not what it was in the last topology, and nobody has been told */
} Spu;

typedef struct Topology {
        Spu *spus; /* sorted by index */
        size_t n_spus;
        CpuSet possible; /* devices/system/cpu/possible; empty if unreadable */
        CpuSet online; /* devices/system/cpu/online; if unreadable, possible; if both are, every SPU's CPUs */
        DriverKind driver;
        char *problem; /* of the scan as a whole; NULL if there is none */
} Topology;

/*
 * Scans the tree below @root_fd (which holds sys/). Only -ENOMEM and the like fail; a bad tree does not.
 *
 * An instance is a directory, or a link to one, named arm_spe_N with N in canonical decimal; other names that
 * begin with arm_spe_ are no instances, and told as a problem of the scan. What one instance says is checked
 * against the others: the PMU type names the SPU to KVM, so those that claim one type are all partial; a CPU
 * has at most one SPU, so of ready ones that claim the same CPU only the lowest index stays ready.
 */
int topology_scan(int root_fd, Topology **ret_topology);
Topology *topology_free(Topology *topology);
DEFINE_CLEANUP(Topology *, topology_free)

/* The N of arm_spe_N, if @name is what the kernel would have written for it. */
bool topology_parse_name(const char *name, unsigned *ret_index);
const Spu *topology_find(const Topology *topology, const char *name);
/* Marks as news what @topology says of an SPU, or of its driver, and @before (NULL: nothing) did not. */
void topology_mark_news(Topology *topology, const Topology *before);
