/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One file of a host's tree: the first byte chooses which, the rest is what it says. The scan succeeds
 * whatever that is; what it calls ready is consistent, what it calls partial has a problem; and the SPU whose
 * files are good is partial only where the other one's claim collides with it.
 */

#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/simulate.h"
#include "host/topology.h"
#include "util/cleanup.h"

#define DEVICE "sys/bus/event_source/devices/arm_spe_0/"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With what 'biglittle' has in them. */
static const struct {
        const char *path;
        const char *text;
} files[] = {
        {DEVICE "type", "8\n"},
        {DEVICE "cpumask", "0-3\n"},
        {DEVICE "caps/arch_inst", "0\n"},
        {DEVICE "caps/ernd", "1\n"},
        {DEVICE "caps/count_size", "12\n"},
        {DEVICE "caps/min_interval", "1024\n"},
        {DEVICE "caps/max_buff_size", "0\n"},
        {DEVICE "caps/max_buffer_size", "0\n"},
        {DEVICE "format/ts_enable", "config:0\n"},
        {"sys/devices/system/cpu/possible", "0-11\n"},
        {"sys/devices/system/cpu/online", "0-11\n"},
};

#define N_FILES   (ELEMENTS_OF(files))
#define N_DEVICES 9U /* of the files, those of the device */

static char root[] = "/tmp/fuzz-sysfs-XXXXXX";
static int root_fd = -1;
static int fds[N_FILES];

static void require(bool condition) {
        if (!condition)
                abort();
}

static void put(size_t i, const void *data, size_t n) {
        require(ftruncate(fds[i], 0) == 0 && pwrite(fds[i], data, n, 0) == (ssize_t)n);
}

static int remove_one(const char *path, _unused_ const struct stat *st, _unused_ int type,
                      _unused_ struct FTW *ftw) {
        return remove(path);
}

static void cleanup(void) {
        (void)nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void setup(void) {
        require(mkdtemp(root));
        require(atexit(cleanup) == 0);
        root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        require(root_fd >= 0 && simulate_write(root_fd, "biglittle") == 0);
        for (size_t i = 0; i < N_FILES; i++) {
                fds[i] = openat(root_fd, files[i].path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                require(fds[i] >= 0);
                put(i, files[i].text, strlen(files[i].text));
        }
}

static void check(const Topology *topology, size_t fuzzed) {
        const Spu *a = topology_find(topology, "arm_spe_0"), *b = topology_find(topology, "arm_spe_1");

        require(topology->n_spus == 2 && a && b);
        for (const Spu *spu = topology->spus; spu < topology->spus + 2; spu++) {
                require(spu->ready || spu->problem);
                require(!spu->ready || !cpuset_is_empty(&spu->cpus));
                require(!spu->ready || cpuset_is_empty(&topology->possible) ||
                        cpuset_is_subset(&spu->cpus, &topology->possible));
                require(spu->capabilities.ernd >= -1 && spu->capabilities.n_formats <= TOPOLOGY_FORMATS_MAX);
        }
        if (a->ready && b->ready)
                require(a->pmu_type != b->pmu_type && !cpuset_intersects(&a->cpus, &b->cpus));
        if (fuzzed < N_DEVICES && !b->ready)
                require(strstr(b->problem, "arm_spe_0"));
        if (fuzzed >= 2 && fuzzed < N_DEVICES)
                require(a->ready);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Topology *topology = NULL;
        size_t i;

        if (size == 0)
                return 0;
        if (root_fd < 0)
                setup();

        i = data[0] % N_FILES;
        put(i, data + 1, size - 1);
        require(topology_scan(root_fd, &topology) == 0);
        check(topology, i);
        topology_free(topology);
        put(i, files[i].text, strlen(files[i].text));
        return 0;
}
