/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Built-in hosts: a table of machines, written as the files that the kernel would show for them. Attribute
 * values are those of Neoverse N1 and V1 as published; heterogeneous and large machines are made up, since no
 * log of a real one is public. An old tree is removed first, never through a link and never beyond its own
 * file system: a mistaken directory cannot cost a machine its /sys or /proc.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "host/simulate.h"
#include "util/cleanup.h"
#include "util/fs.h"

#define DEVICES_PATH     "sys/bus/event_source/devices"
#define CPU_PATH         "sys/devices/system/cpu"
#define MODULE_PATH      "sys/module/arm_spe_pmu"
#define MEMORY_KIB       (64U << 20)
#define FIRST_PMU_TYPE   8U
#define INSTANCES_MAX    16U
#define DIRECTORY_MODE   0755
#define FILE_MODE        0644
#define REMOVE_DEPTH_MAX 16U

/* Instance N covers the @width CPUs from the end of instance N - 1 on. */
typedef struct Machine {
        const char *name;
        unsigned n_cpus;
        unsigned widths[INSTANCES_MAX]; /* ends with 0 */
        unsigned
                n_half_registered; /* instances after these: bare directories, as of a driver still probing */
} Machine;

static const Machine machines[] = {
        {.name = "neoverse-v1", .n_cpus = 64, .widths = {64}},
        {.name = "biglittle", .n_cpus = 12, .widths = {4, 8}},
        {.name = "partial", .n_cpus = 8, .widths = {4}, .n_half_registered = 1},
        {.name = "server",
         .n_cpus = 1024,
         .widths = {64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64}},
};

/* Those of machines[]: a test writes them all. */
static const char *const names[] = {"neoverse-v1", "biglittle", "partial", "server", NULL};

static const struct {
        const char *file;
        const char *text;
} attributes[] = {
        {"caps/arch_inst", "0\n"},
        {"caps/count_size", "12\n"},
        {"caps/ernd", "1\n"},
        {"caps/min_interval", "1024\n"},
        {"format/branch_filter", "config:32\n"},
        {"format/event_filter", "config1:0-63\n"},
        {"format/jitter", "config:16\n"},
        {"format/load_filter", "config:33\n"},
        {"format/min_latency", "config2:0-11\n"},
        {"format/pa_enable", "config:1\n"},
        {"format/pct_enable", "config:2\n"},
        {"format/store_filter", "config:34\n"},
        {"format/ts_enable", "config:0\n"},
};

const char *const *simulate_names(void) {
        return names;
}

static int remove_tree(int dir_fd, const char *name, dev_t device, unsigned depth) {
        _cleanup_(closep) int fd = -1;
        _cleanup_(closedirp) DIR *dir = NULL;
        struct stat st;

        if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return -errno;
        if (depth == 0)
                return -ELOOP;

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_dev != device)
                return -EXDEV;
        dir = fdopendir(fd);
        if (!dir)
                return -errno;
        (void)steal_fd(&fd);

        for (;;) {
                struct dirent *entry;
                int r;

                r = fs_readdir(dir, &entry);
                if (r < 0)
                        return r;
                if (!entry)
                        break;
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                r = remove_tree(dirfd(dir), entry->d_name, device, depth - 1);
                if (r < 0)
                        return r;
        }
        return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int remove_old(int dir_fd) {
        struct stat st;
        int r;

        if (fstat(dir_fd, &st) < 0)
                return -errno;
        r = remove_tree(dir_fd, "sys", st.st_dev, REMOVE_DEPTH_MAX);
        if (r == 0)
                r = remove_tree(dir_fd, "proc", st.st_dev, REMOVE_DEPTH_MAX);
        return r;
}

/* Makes the directories on the way to @path, then the file. */
__attribute__((__format__(__printf__, 3, 4))) static int put(int dir_fd, const char *path, const char *format,
                                                             ...) {
        _cleanup_(closep) int fd = -1;
        char parent[PATH_MAX];
        va_list ap;
        int n, r;

        (void)snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
        r = fs_mkdir_all(dir_fd, parent, DIRECTORY_MODE);
        if (r < 0)
                return r;
        fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
        if (fd < 0)
                return -errno;

        va_start(ap, format);
        n = vdprintf(fd, format, ap);
        va_end(ap);
        return n < 0 ? -errno : 0;
}

static int put_instance(int dir_fd, unsigned index, unsigned first, unsigned last) {
        char path[PATH_MAX];
        int r;

        (void)snprintf(path, sizeof(path), DEVICES_PATH "/arm_spe_%u/type", index);
        r = put(dir_fd, path, "%u\n", FIRST_PMU_TYPE + index);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), DEVICES_PATH "/arm_spe_%u/cpumask", index);
        r = put(dir_fd, path, "%u-%u\n", first, last);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ELEMENTS_OF(attributes); i++) {
                (void)snprintf(path, sizeof(path), DEVICES_PATH "/arm_spe_%u/%s", index, attributes[i].file);
                r = put(dir_fd, path, "%s", attributes[i].text);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int put_instances(int dir_fd, const Machine *machine) {
        unsigned index = 0, first = 0;
        char path[PATH_MAX];
        int r;

        for (; index < INSTANCES_MAX && machine->widths[index] > 0; index++) {
                r = put_instance(dir_fd, index, first, first + machine->widths[index] - 1);
                if (r < 0)
                        return r;
                first += machine->widths[index];
        }

        for (unsigned i = 0; i < machine->n_half_registered; i++) {
                (void)snprintf(path, sizeof(path), DEVICES_PATH "/arm_spe_%u", index + i);
                r = fs_mkdir_all(dir_fd, path, DIRECTORY_MODE);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int put_machine(int dir_fd, const Machine *machine) {
        int r;

        r = put(dir_fd, CPU_PATH "/possible", "0-%u\n", machine->n_cpus - 1);
        if (r == 0)
                r = put(dir_fd, CPU_PATH "/online", "0-%u\n", machine->n_cpus - 1);
        if (r == 0)
                r = put(dir_fd, MODULE_PATH "/initstate", "live\n");
        if (r == 0)
                r = put(dir_fd, "proc/meminfo", "MemTotal:       %u kB\n", MEMORY_KIB);
        if (r == 0)
                r = put_instances(dir_fd, machine);
        return r;
}

int simulate_write(int dir_fd, const char *name) {
        for (size_t i = 0; i < ELEMENTS_OF(machines); i++)
                if (strcmp(machines[i].name, name) == 0) {
                        int r = remove_old(dir_fd);

                        return r < 0 ? r : put_machine(dir_fd, &machines[i]);
                }
        return SIMULATE_E_UNKNOWN;
}
