/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Core types. The table names server cores whose manuals make SPE a part of the core (perf's data-source
 * tables and published boot logs agree), and Armv8.0 and 8.1 cores, which cannot have it: SPE needs Armv8.2.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/midr.h"
#include "util/cleanup.h"
#include "util/fs.h"

#define IMPLEMENTER(midr) ((unsigned)((midr) >> 24 & 0xff))
#define PART(midr)        ((unsigned)((midr) >> 4 & 0xfff))

#define ARM       0x41U
#define CAVIUM    0x43U
#define HISILICON 0x48U
#define AMPERE    0xc0U

static const struct {
        unsigned implementer;
        unsigned part;
        bool spe;
        const char *name;
} cores[] = {
        {ARM, 0xd0c, true, "Neoverse N1"},   {ARM, 0xd49, true, "Neoverse N2"},
        {ARM, 0xd8e, true, "Neoverse N3"},   {ARM, 0xd40, true, "Neoverse V1"},
        {ARM, 0xd4f, true, "Neoverse V2"},   {ARM, 0xd84, true, "Neoverse V3"},
        {ARM, 0xd83, true, "Neoverse V3AE"}, {HISILICON, 0xd01, true, "TaiShan v110"},
        {AMPERE, 0xac3, true, "AmpereOne"},  {AMPERE, 0xac4, true, "AmpereOne"},
        {ARM, 0xd04, false, "Cortex-A35"},   {ARM, 0xd03, false, "Cortex-A53"},
        {ARM, 0xd07, false, "Cortex-A57"},   {ARM, 0xd08, false, "Cortex-A72"},
        {ARM, 0xd09, false, "Cortex-A73"},   {CAVIUM, 0x0a1, false, "ThunderX"},
        {CAVIUM, 0x0af, false, "ThunderX2"},
};

/* "0x00000000410fd0c0\n" */
static bool read_one(int root_fd, unsigned cpu, uint64_t *ret_midr, int *ret_error) {
        char path[96], text[32], *end;
        size_t n;

        (void)snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%u/regs/identification/midr_el1", cpu);
        *ret_error = fs_read_line(root_fd, path, text, sizeof(text), &n);
        if (*ret_error != 0 || strncmp(text, "0x", 2) != 0)
                return false;

        errno = 0;
        *ret_midr = strtoull(text, &end, 16);
        return errno == 0 && *end == '\0' && end > text + 2;
}

static void classify(uint64_t midr, unsigned cpu, MidrCores *found) {
        for (size_t i = 0; i < ELEMENTS_OF(cores); i++) {
                if (cores[i].implementer != IMPLEMENTER(midr) || cores[i].part != PART(midr))
                        continue;
                if (cores[i].spe) {
                        found->with = found->with ?: cores[i].name;
                        cpuset_add(&found->cpus_with, cpu);
                } else {
                        found->without = found->without ?: cores[i].name;
                        cpuset_add(&found->cpus_without, cpu);
                }
                return;
        }
        cpuset_add(&found->cpus_other, cpu);
}

int midr_read(int root_fd, const CpuSet *cpus, MidrCores *ret_cores) {
        MidrCores found = {0};

        CPUSET_FOREACH(cpu, cpus) {
                uint64_t midr;
                int error;

                if (read_one(root_fd, cpu, &midr, &error))
                        classify(midr, cpu, &found);
                else if (error < 0)
                        return error;
        }

        *ret_cores = found;
        return 0;
}
