/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One scan of the tree: which SPUs there are, then each by itself (host/spu.c), then what they say against
 * each other. Whatever is found, the result is one consistent value: sorted, bounded, and with at most one
 * ready SPU for a PMU type and for a CPU.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "host/spu.h"
#include "host/topology.h"
#include "util/error.h"
#include "util/fs.h"
#include "util/parse.h"

#define DEVICES_PATH  "sys/bus/event_source/devices"
#define POSSIBLE_PATH "sys/devices/system/cpu/possible"
#define ONLINE_PATH   "sys/devices/system/cpu/online"

const char *driver_kind_to_string(DriverKind kind) {
        switch (kind) {
        case DRIVER_BUILTIN:
                return "builtin";
        case DRIVER_MODULE:
                return "module";
        default:
                return "unknown";
        }
}

/* An integrated driver may have /sys/module/arm_spe_pmu too, for its parameters; initstate and refcnt are
 * only made for a loaded module. */
static DriverKind scan_driver(int root_fd) {
        if (faccessat(root_fd, "sys/module/arm_spe_pmu/initstate", F_OK, 0) == 0 ||
            faccessat(root_fd, "sys/module/arm_spe_pmu/refcnt", F_OK, 0) == 0)
                return DRIVER_MODULE;
        if (faccessat(root_fd, "sys/bus/platform/drivers/arm_spe_pmu", F_OK, 0) == 0)
                return DRIVER_BUILTIN;
        return DRIVER_UNKNOWN;
}

/* Reads one of the kernel's lists of CPUs; *@set stays empty, with a problem, if it cannot be had. */
static int scan_cpulist(int root_fd, const char *path, bool required, char **problem, CpuSet *set) {
        char text[2 * CPUSET_TEXT_MAX];
        size_t n;
        int r;

        r = fs_read_line(root_fd, path, text, sizeof(text), &n);
        if (r < 0)
                return r;
        if (r == FS_E_NOT_FOUND && !required)
                return 0;
        if (r > 0)
                return problem_add(problem, "%s: %s", path, fs_strerror(r));

        switch (cpuset_parse(text, n, set)) {
        case 0:
                return 0;
        case CPUSET_E_RANGE:
                return problem_add(problem, "%s: a CPU is beyond %u, the last one supported", path,
                                   CPUSET_MAX - 1);
        default:
                return problem_add(problem, "%s: not a list of CPUs", path);
        }
}

static bool has_name_prefix(const char *name) {
        return strncmp(name, SPU_NAME_PREFIX, strlen(SPU_NAME_PREFIX)) == 0;
}

bool topology_parse_name(const char *name, unsigned *ret_index) {
        const char *digits = name + strlen(SPU_NAME_PREFIX);
        uint64_t index;

        if (!has_name_prefix(name) || parse_u64(digits, INT_MAX, &index))
                return false;
        if (digits[0] == '0' && digits[1] != '\0')
                return false;

        *ret_index = (unsigned)index;
        return true;
}

/* Keeps the TOPOLOGY_INSTANCES_MAX lowest of the numbers, in order, whatever order they come in. */
static void add_index(unsigned *indices, size_t *n, unsigned index) {
        size_t i = *n;

        while (i > 0 && indices[i - 1] > index)
                i--;
        if (i == TOPOLOGY_INSTANCES_MAX)
                return;
        if (*n == TOPOLOGY_INSTANCES_MAX)
                (*n)--;
        memmove(indices + i + 1, indices + i, (*n - i) * sizeof(*indices));
        indices[i] = index;
        (*n)++;
}

static int scan_names(DIR *dir, char **problem, unsigned *indices, size_t *n) {
        size_t n_all = 0, n_odd = 0;
        int r;

        for (;;) {
                struct dirent *entry;
                unsigned index;

                r = fs_readdir(dir, &entry); /* half a directory would be SPUs that are gone */
                if (r < 0)
                        return r;
                if (!entry)
                        break;
                if (!has_name_prefix(entry->d_name))
                        continue;
                if (!topology_parse_name(entry->d_name, &index)) {
                        n_odd++;
                        continue;
                }
                add_index(indices, n, index);
                n_all++;
        }

        if (n_odd > 0) {
                r = problem_add(problem, DEVICES_PATH ": %zu names like arm_spe_N are no instance's", n_odd);
                if (r < 0)
                        return r;
        }
        if (n_all > *n)
                return problem_add(problem, DEVICES_PATH ": %zu instances, of which the first %zu are used",
                                   n_all, *n);
        return 0;
}

static int scan_spus(int root_fd, Topology *topology) {
        _cleanup_(closep) int fd =
                openat(root_fd, DEVICES_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
        _cleanup_(closedirp) DIR *dir = NULL;
        unsigned indices[TOPOLOGY_INSTANCES_MAX];
        size_t n = 0;
        int r;

        if (fd < 0) {
                if (errno == ENOMEM || errno == EMFILE || errno == ENFILE)
                        return -errno;
                return problem_add(&topology->problem, DEVICES_PATH ": %s",
                                   errno == ENOENT ? "not there" : "unreadable");
        }
        dir = fdopendir(fd);
        if (!dir)
                return -errno;
        (void)steal_fd(&fd);

        r = scan_names(dir, &topology->problem, indices, &n);
        if (r < 0 || n == 0)
                return r;
        topology->spus = calloc(n, sizeof(*topology->spus));
        if (!topology->spus)
                return -ENOMEM;
        for (; topology->n_spus < n; topology->n_spus++) {
                r = spu_read(dirfd(dir), indices[topology->n_spus], &topology->possible,
                             &topology->spus[topology->n_spus]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A PMU type that several claim names none of them: KVM would take whichever it finds. */
static int settle_types(Topology *topology) {
        bool ready[TOPOLOGY_INSTANCES_MAX];
        Spu *spus = topology->spus;

        for (size_t i = 0; i < topology->n_spus; i++)
                ready[i] = spus[i].ready;

        for (size_t i = 0; i < topology->n_spus; i++)
                for (size_t k = 0; k < topology->n_spus && spus[i].ready; k++) {
                        int r;

                        if (k == i || !ready[k] || spus[k].pmu_type != spus[i].pmu_type)
                                continue;
                        spus[i].ready = false;
                        r = problem_add(&spus[i].problem, "type: %u is also that of %s", spus[i].pmu_type,
                                        spus[k].name);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static const Spu *find_overlap(const Topology *topology, const Spu *spu) {
        for (const Spu *other = topology->spus; other < spu; other++)
                if (other->ready && cpuset_intersects(&other->cpus, &spu->cpus))
                        return other;
        return NULL;
}

/* A CPU has at most one SPU: the first that claims it. */
static int settle_cpus(Topology *topology) {
        for (size_t i = 0; i < topology->n_spus; i++) {
                Spu *spu = &topology->spus[i];
                const Spu *other = spu->ready ? find_overlap(topology, spu) : NULL;
                CpuSet both = spu->cpus;
                int r;

                if (!other)
                        continue;
                cpuset_and(&both, &other->cpus);
                spu->ready = false;
                r = problem_add(&spu->problem, "cpumask: CPU %u is already of %s", cpuset_next(&both, 0),
                                other->name);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int settle_online(Topology *topology) {
        if (!cpuset_is_empty(&topology->online))
                return 0;

        topology->online = topology->possible;
        if (cpuset_is_empty(&topology->online))
                for (size_t i = 0; i < topology->n_spus; i++)
                        cpuset_or(&topology->online, &topology->spus[i].cpus);
        return problem_add(&topology->problem, "no list of online CPUs: all of them are taken to be online");
}

static int scan(int root_fd, Topology *topology) {
        int r;

        topology->driver = scan_driver(root_fd);
        r = scan_cpulist(root_fd, POSSIBLE_PATH, false, &topology->problem, &topology->possible);
        if (r == 0)
                r = scan_cpulist(root_fd, ONLINE_PATH, true, &topology->problem, &topology->online);
        if (r == 0)
                r = scan_spus(root_fd, topology);
        if (r == 0)
                r = settle_types(topology);
        if (r == 0)
                r = settle_cpus(topology);
        if (r == 0)
                r = settle_online(topology);
        return r;
}

int topology_scan(int root_fd, Topology **ret_topology) {
        Topology *topology = calloc(1, sizeof(*topology));
        int r;

        if (!topology)
                return -ENOMEM;
        r = scan(root_fd, topology);
        if (r < 0) {
                topology_free(topology);
                return r;
        }

        *ret_topology = topology;
        return 0;
}

Topology *topology_free(Topology *topology) {
        if (!topology)
                return NULL;

        for (size_t i = 0; i < topology->n_spus; i++)
                spu_deinit(&topology->spus[i]);
        free(topology->spus);
        free(topology->problem);
        free(topology);
        return NULL;
}

const Spu *topology_find(const Topology *topology, const char *name) {
        for (size_t i = 0; i < topology->n_spus; i++)
                if (strcmp(topology->spus[i].name, name) == 0)
                        return &topology->spus[i];
        return NULL;
}

static bool capabilities_equal(const SpuCapabilities *a, const SpuCapabilities *b) {
        if (a->arch_inst != b->arch_inst || a->ernd != b->ernd || a->count_size != b->count_size ||
            a->min_interval != b->min_interval || a->n_formats != b->n_formats)
                return false;
        for (size_t i = 0; i < a->n_formats; i++)
                if (strcmp(a->formats[i], b->formats[i]) != 0)
                        return false;
        return true;
}

/* As the tree tells of them. */
static bool spu_equal(const Spu *a, const Spu *b) {
        return strcmp(a->name, b->name) == 0 && a->ready == b->ready && a->pmu_type == b->pmu_type &&
               cpuset_equal(&a->cpus, &b->cpus) && a->max_buffer_size == b->max_buffer_size &&
               capabilities_equal(&a->capabilities, &b->capabilities) && !a->problem == !b->problem &&
               (!a->problem || strcmp(a->problem, b->problem) == 0);
}

void topology_mark_news(Topology *topology, const Topology *before) {
        for (size_t i = 0; i < topology->n_spus; i++) {
                Spu *spu = &topology->spus[i];
                const Spu *old = before ? topology_find(before, spu->name) : NULL;

                spu->news = !old || old->news || before->driver != topology->driver || !spu_equal(old, spu);
        }
}
