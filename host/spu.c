/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One SPU's directory, read attribute by attribute. type, cpumask and format/ decide whether it is ready;
 * everything in caps/ is optional. Each reader either fills its field or adds one sentence that names the
 * file and what is wrong, so a half-registered instance tells all that it lacks at once.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/spu.h"
#include "util/error.h"
#include "util/fs.h"
#include "util/parse.h"

/* "%u\n" and room to spare: what does not fit is no number. */
#define NUMBER_TEXT_MAX 64U

/* Generous to texts that are not in canonical form; a kernel's own are at most CPUSET_TEXT_MAX. */
#define CPULIST_FILE_MAX (2 * CPUSET_TEXT_MAX)

int problem_add(char **problem, const char *format, ...) {
        _cleanup_(freep) char *sentence = NULL;
        char *joined;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&sentence, format, ap);
        va_end(ap);
        if (n < 0) {
                sentence = NULL;
                return -ENOMEM;
        }

        if (!*problem) {
                *problem = steal_ptr(sentence);
                return 0;
        }
        if (asprintf(&joined, "%s; %s", *problem, sentence) < 0)
                return -ENOMEM;
        free(*problem);
        *problem = joined;
        return 0;
}

void spu_deinit(Spu *spu) {
        for (size_t i = 0; i < spu->capabilities.n_formats; i++)
                free(spu->capabilities.formats[i]);
        free(spu->problem);
        guest_verdict_deinit(&spu->guest);
        *spu = (Spu){0};
}

/*
 * Reads a number below @dir_fd. *@ret_value is set if it is good. An absent file is told only if it is
 * @required.
 */
static int read_number(int dir_fd, const char *path, uint64_t max, bool required, char **problem,
                       uint64_t *ret_value) {
        char text[NUMBER_TEXT_MAX];
        size_t n;
        int r;

        r = fs_read_line(dir_fd, path, text, sizeof(text), &n);
        if (r == FS_E_NOT_FOUND && !required)
                return 0;
        if (r == FS_E_TOO_LARGE)
                return problem_add(problem, "%s: not a number", path);
        if (r > 0)
                return problem_add(problem, "%s: %s", path, fs_strerror(r));
        if (r < 0)
                return r;

        switch (parse_u64(text, max, ret_value)) {
        case 0:
                return 0;
        case PARSE_E_RANGE:
                return problem_add(problem, "%s: a number out of range", path);
        default:
                return problem_add(problem, "%s: not a number", path);
        }
}

static int read_type(int spu_fd, Spu *spu) {
        uint64_t type = UINT64_MAX;
        int r;

        /* An int to the kernel, and to everybody who gets it from us. */
        r = read_number(spu_fd, "type", INT32_MAX, true, &spu->problem, &type);
        if (r < 0)
                return r;
        if (type == UINT64_MAX) {
                spu->ready = false;
                return 0;
        }
        spu->pmu_type = (uint32_t)type;
        return 0;
}

static int check_cpumask(const CpuSet *possible, Spu *spu) {
        char text[CPUSET_TEXT_MAX];
        CpuSet beyond = spu->cpus;

        if (cpuset_is_empty(&spu->cpus)) {
                spu->ready = false;
                return problem_add(&spu->problem, "cpumask: no CPUs");
        }

        cpuset_subtract(&beyond, possible);
        if (cpuset_is_empty(possible) || cpuset_is_empty(&beyond))
                return 0;
        spu->ready = false;
        (void)cpuset_format(possible, text, sizeof(text));
        return problem_add(&spu->problem, "cpumask: CPU %u is beyond the possible CPUs %s",
                           cpuset_next(&beyond, 0), text);
}

static int read_cpumask(int spu_fd, const CpuSet *possible, Spu *spu) {
        char text[CPULIST_FILE_MAX];
        size_t n;
        int r;

        r = fs_read_line(spu_fd, "cpumask", text, sizeof(text), &n);
        if (r < 0)
                return r;
        if (r > 0) {
                spu->ready = false;
                return problem_add(&spu->problem, "cpumask: %s", fs_strerror(r));
        }

        switch (cpuset_parse(text, n, &spu->cpus)) {
        case 0:
                return check_cpumask(possible, spu);
        case CPUSET_E_RANGE:
                spu->ready = false;
                return problem_add(&spu->problem, "cpumask: a CPU is beyond %u, the last one supported",
                                   CPUSET_MAX - 1);
        default:
                spu->ready = false;
                return problem_add(&spu->problem, "cpumask: not a list of CPUs");
        }
}

/* The kernel names attributes as C does; anything else in format/ is not the driver's. */
static bool format_name_is_valid(const char *name) {
        return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == '\0';
}

/* Keeps the first TOPOLOGY_FORMATS_MAX names in alphabetical order, whatever order they come in. */
static int add_format(SpuCapabilities *capabilities, const char *name) {
        char *carry = strdup(name);

        if (!carry)
                return -ENOMEM;
        for (size_t i = 0; i < capabilities->n_formats; i++)
                if (strcmp(carry, capabilities->formats[i]) < 0) {
                        char *displaced = capabilities->formats[i];

                        capabilities->formats[i] = carry;
                        carry = displaced;
                }

        if (capabilities->n_formats == TOPOLOGY_FORMATS_MAX)
                free(carry);
        else
                capabilities->formats[capabilities->n_formats++] = carry;
        return 0;
}

/* Opens the directory @path for reading; *@ret_dir is NULL, with a problem, where that cannot be. */
static int open_directory(int dir_fd, const char *path, char **problem, DIR **ret_dir) {
        _cleanup_(closep) int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);

        *ret_dir = NULL;
        if (fd < 0) {
                switch (errno) {
                case ENOMEM:
                case EMFILE:
                case ENFILE:
                        return -errno;
                case ENOENT:
                        return problem_add(problem, "%s: not there", path);
                case ENOTDIR:
                        return problem_add(problem, "%s: not a directory", path);
                case ELOOP:
                        return problem_add(problem, "%s: a link that loops", path);
                default:
                        return problem_add(problem, "%s: unreadable", path);
                }
        }

        *ret_dir = fdopendir(fd);
        if (!*ret_dir)
                return -errno;
        (void)steal_fd(&fd);
        return 0;
}

static int read_formats(int spu_fd, Spu *spu) {
        _cleanup_(closedirp) DIR *dir = NULL;
        bool odd = false;
        size_t n = 0;
        int r;

        r = open_directory(spu_fd, "format", &spu->problem, &dir);
        if (r < 0)
                return r;
        if (!dir) {
                spu->ready = false;
                return 0;
        }

        for (;;) {
                struct dirent *entry;

                r = fs_readdir(dir, &entry);
                if (r < 0) {
                        spu->ready = false;
                        return problem_add(&spu->problem, "format: unreadable");
                }
                if (!entry)
                        break;
                if (entry->d_name[0] == '.')
                        continue;
                if (!format_name_is_valid(entry->d_name)) {
                        odd = true;
                        continue;
                }
                r = add_format(&spu->capabilities, entry->d_name);
                if (r < 0)
                        return r;
                n++;
        }

        if (odd) {
                r = problem_add(&spu->problem, "format: names that are not the driver's are left out");
                if (r < 0)
                        return r;
        }
        if (n > TOPOLOGY_FORMATS_MAX)
                return problem_add(&spu->problem, "format: %zu names, of which %u are listed", n,
                                   TOPOLOGY_FORMATS_MAX);
        return 0;
}

static int read_capability(int spu_fd, const char *path, char **problem, int64_t *ret_value) {
        uint64_t value = UINT64_MAX;
        int r;

        r = read_number(spu_fd, path, INT64_MAX, false, problem, &value);
        if (r < 0)
                return r;
        if (value <= INT64_MAX)
                *ret_value = (int64_t)value;
        return 0;
}

/* The file's name changed while the patch was discussed: either is accepted. 0 means 'no limit' in both. */
static int read_max_buffer_size(int spu_fd, Spu *spu) {
        int64_t a = -1, b = -1;
        int r;

        r = read_capability(spu_fd, "caps/max_buff_size", &spu->problem, &a);
        if (r == 0)
                r = read_capability(spu_fd, "caps/max_buffer_size", &spu->problem, &b);
        if (r < 0)
                return r;

        if (a <= 0 || b <= 0)
                spu->max_buffer_size = (uint64_t)(a > 0 ? a : b > 0 ? b : 0);
        else
                spu->max_buffer_size = (uint64_t)(a < b ? a : b);
        if (a >= 0 && b >= 0 && a != b)
                return problem_add(
                        &spu->problem,
                        "caps: max_buff_size and max_buffer_size differ, the stricter one is used");
        return 0;
}

static int read_capabilities(int spu_fd, Spu *spu) {
        const struct {
                const char *path;
                int64_t *value;
        } files[] = {
                {"caps/arch_inst", &spu->capabilities.arch_inst},
                {"caps/ernd", &spu->capabilities.ernd},
                {"caps/count_size", &spu->capabilities.count_size},
                {"caps/min_interval", &spu->capabilities.min_interval},
        };

        for (size_t i = 0; i < ELEMENTS_OF(files); i++) {
                int r;

                *files[i].value = -1;
                r = read_capability(spu_fd, files[i].path, &spu->problem, files[i].value);
                if (r < 0)
                        return r;
        }
        return read_max_buffer_size(spu_fd, spu);
}

/*
 * A device that is going away loses cpumask first, then caps/ and format/; one that comes back is another
 * directory. So what was read between two looks at the same type and cpumask belongs to these: above all, a
 * cap that was not there any more is not taken for one that there never was.
 */
static int check_unchanged(int spu_fd, const CpuSet *possible, Spu *spu) {
        Spu again = {.ready = true};
        bool same;
        int r;

        if (!spu->ready)
                return 0;

        r = read_type(spu_fd, &again);
        if (r == 0)
                r = read_cpumask(spu_fd, possible, &again);
        same = again.ready && again.pmu_type == spu->pmu_type && cpuset_equal(&again.cpus, &spu->cpus);
        spu_deinit(&again);
        if (r < 0 || same)
                return r;

        spu->ready = false;
        return problem_add(&spu->problem, "it changed while it was read");
}

static int read_directory(int spu_fd, const CpuSet *possible, Spu *spu) {
        int r;

        spu->ready = true;
        r = read_type(spu_fd, spu);
        if (r == 0)
                r = read_cpumask(spu_fd, possible, spu);
        if (r == 0)
                r = read_formats(spu_fd, spu);
        if (r == 0)
                r = read_capabilities(spu_fd, spu);
        if (r == 0)
                r = check_unchanged(spu_fd, possible, spu);
        return r;
}

int spu_read(int devices_fd, unsigned index, const CpuSet *possible, Spu *ret_spu) {
        _cleanup_(closedirp) DIR *dir = NULL;
        Spu spu = {
                .index = index,
                .capabilities = {.arch_inst = -1, .ernd = -1, .count_size = -1, .min_interval = -1},
        };
        int r;

        (void)snprintf(spu.name, sizeof(spu.name), SPU_NAME_PREFIX "%u", index);
        r = open_directory(devices_fd, spu.name, &spu.problem, &dir);
        if (r == 0 && dir)
                r = read_directory(dirfd(dir), possible, &spu);
        if (r < 0) {
                spu_deinit(&spu);
                return r;
        }

        *ret_spu = spu;
        return 0;
}
