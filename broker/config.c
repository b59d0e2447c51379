/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The configuration as a whole: the files in their order, and what has to be true of all values together.
 * Files are applied to a fresh Config, one entry after the other (broker/config-apply.c); keys of
 * sections without a name that no file set get their default at the end, through the same setters. Nothing of
 * it is seen by the caller unless all of it is good.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "broker/config-apply.h"
#include "util/error.h"
#include "util/fs.h"
#include "util/parse.h"

#define DROPIN_SUFFIX    ".conf"
#define DROPINS_MAX      64U
#define FILE_SIZE_MAX    (1U << 20)
#define MEMINFO_PATH     "proc/meminfo"
#define MEMINFO_SIZE_MAX (1U << 16)

/* What percentages are taken of where nobody tells the memory: no real host, but some tree below --root. */
#define MEM_TOTAL_UNKNOWN (UINT64_C(64) << 30)

static int load_file(ConfigLoader *loader, int dir_fd, const char *path, const char *shown, bool required) {
        _cleanup_(freep) char *data = NULL;
        ConfigFileSink sink = {
                .entry = config_apply_entry,
                .warn = loader->context.warn,
                .userdata = loader,
                .warn_userdata = loader->context.userdata,
        };
        size_t n;
        int r;

        r = fs_read_all(dir_fd, path, FILE_SIZE_MAX, &data, &n);
        if (r == FS_E_NOT_FOUND && !required)
                return 0;
        if (r > 0)
                return config_fault_set(loader->context.fault, shown, 0, "%s", fs_strerror(r));
        if (r < 0)
                return r;
        return config_file_parse(shown, data, n, &sink, loader->context.fault);
}

static int is_dropin(const struct dirent *entry) {
        size_t n = strlen(entry->d_name), n_suffix = strlen(DROPIN_SUFFIX);

        return entry->d_name[0] != '.' && n > n_suffix &&
               strcmp(entry->d_name + n - n_suffix, DROPIN_SUFFIX) == 0;
}

/* By bytes: the order must not depend on the locale. */
static int compare_names(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_dropins(ConfigLoader *loader, int dir_fd, const char *path, const char *shown) {
        _cleanup_(closep) int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
        struct dirent **names;
        int n, r = 0;

        if (fd < 0 && errno == ENOENT)
                return 0;
        if (fd < 0)
                return config_fault_set(loader->context.fault, shown, 0, "%s", strerror(errno));
        n = scandirat(fd, ".", &names, is_dropin, compare_names);
        if (n < 0)
                return -errno;

        if ((unsigned)n > DROPINS_MAX)
                r = config_fault_set(loader->context.fault, shown, 0, "more than %u files", DROPINS_MAX);
        for (int i = 0; i < n; i++) {
                char file[PATH_MAX + 1 + sizeof(names[i]->d_name)];

                if (r == 0) {
                        (void)snprintf(file, sizeof(file), "%s/%s", shown, names[i]->d_name);
                        r = load_file(loader, fd, names[i]->d_name, file, true);
                }
                free(names[i]);
        }
        free(names);
        return r;
}

static int check_assignment(const ConfigLoader *loader, const ConfigAssignment *a) {
        ConfigFault *fault = loader->context.fault;

        if (a->owner < 0)
                return config_fault_set(fault, a->file, a->line,
                                        "[Assignment %s]: Owner= is missing (host, guest, any, none)",
                                        a->name);
        if (!a->has_cpus && !a->instance)
                return config_fault_set(fault, a->file, a->line,
                                        "[Assignment %s]: one of Cpus= and Instance= is needed", a->name);
        if (a->vm && a->owner != ASSIGNMENT_OWNER_GUEST && a->owner != ASSIGNMENT_OWNER_ANY)
                return config_fault_set(fault, a->file, a->line,
                                        "[Assignment %s]: Vm= is for Owner=guest and Owner=any only",
                                        a->name);
        return 0;
}

/* "MemTotal:       67108864 kB", in bytes; 0 if there is no such line. */
static int read_mem_total(int facts_fd, uint64_t *ret_bytes) {
        static const char label[] = "MemTotal:";
        _cleanup_(freep) char *data = NULL;
        const char *line;
        char number[24];
        uint64_t kib;
        size_t n;
        int r;

        *ret_bytes = 0;
        r = fs_read_all(facts_fd, MEMINFO_PATH, MEMINFO_SIZE_MAX, &data, &n);
        if (r)
                return r < 0 ? r : 0;

        line = strstr(data, label);
        if (!line)
                return 0;
        line += strlen(label);
        line += strspn(line, " ");
        n = strspn(line, "0123456789");
        if (n >= sizeof(number) || strncmp(line + n, " kB\n", 4) != 0)
                return 0;
        memcpy(number, line, n);
        number[n] = '\0';
        if (parse_u64(number, INT64_MAX / 1024, &kib) == 0)
                *ret_bytes = kib * 1024;
        return 0;
}

static bool has_percentage(const Limits *limits) {
        uint64_t all = limits->max_memory | limits->max_memory_per_user | limits->max_memory_per_vm;

        for (size_t i = 0; i < limits->n_overrides; i++)
                all |= limits->overrides[i].max_memory;
        return all & CONFIG_MEMORY_PERCENT;
}

static int resolve_memory(ConfigLoader *loader, int facts_fd) {
        Limits *limits = &loader->config->limits;
        uint64_t mem_total;
        int r;

        if (has_percentage(limits)) {
                r = read_mem_total(facts_fd, &mem_total);
                if (r < 0)
                        return r;
                if (mem_total == 0) {
                        mem_total = MEM_TOTAL_UNKNOWN;
                        config_warn(&loader->context, "/" MEMINFO_PATH, 0,
                                    "MemTotal cannot be read: percentages are taken of 64G");
                }
                config_memory_resolve(&limits->max_memory, mem_total);
                config_memory_resolve(&limits->max_memory_per_user, mem_total);
                config_memory_resolve(&limits->max_memory_per_vm, mem_total);
                for (size_t i = 0; i < limits->n_overrides; i++)
                        config_memory_resolve(&limits->overrides[i].max_memory, mem_total);
        }
        if (limits->max_memory_per_user == 0)
                limits->max_memory_per_user = limits->max_memory;
        return 0;
}

/* What has to be true of all of it. */
static int finish(ConfigLoader *loader, int facts_fd) {
        Limits *limits = &loader->config->limits;
        int r;

        r = config_apply_defaults(loader);
        if (r)
                return r;
        r = resolve_memory(loader, facts_fd);
        if (r < 0)
                return r;
        limits->host_page_size = (uint64_t)sysconf(_SC_PAGESIZE);

        if (limits->default_buffer_size > limits->max_buffer_size)
                config_warn(&loader->context, "/" CONFIG_PATH, 0,
                            "DefaultBufferSize is above MaxBufferSize, which then holds");
        for (size_t i = 0; i < loader->config->n_assignments; i++) {
                r = check_assignment(loader, &loader->config->assignments[i]);
                if (r)
                        return r;
        }
        return 0;
}

static int load(ConfigLoader *loader, int root_fd, int facts_fd, const char *path) {
        const char *file = path ?: CONFIG_PATH, *slash = path ? "" : "/";
        int dir_fd = path ? AT_FDCWD : root_fd, r;
        char shown[PATH_MAX], dropins[PATH_MAX];

        if (snprintf(dropins, sizeof(dropins), "%s.d", file) >= PATH_MAX)
                return -ENAMETOOLONG;
        (void)snprintf(shown, sizeof(shown), "%s%s", slash, file);
        r = load_file(loader, dir_fd, file, shown, path);
        if (r)
                return r;
        (void)snprintf(shown, sizeof(shown), "%s%s.d", slash, file);
        r = load_dropins(loader, dir_fd, dropins, shown);
        if (r)
                return r;
        return finish(loader, facts_fd);
}

int config_load(int root_fd, int facts_fd, const char *path, ConfigWarningFn warn, void *userdata,
                Config **ret_config, ConfigFault *ret_fault) {
        _cleanup_(config_freep) Config *config = calloc(1, sizeof(*config));
        ConfigLoader loader = {
                .config = config,
                .context = {.warn = warn, .userdata = userdata, .fault = ret_fault},
                .kind = _CONFIG_SECTION_INVALID,
        };
        int r;

        if (!config)
                return -ENOMEM;
        r = load(&loader, root_fd, facts_fd, path);
        if (r)
                return r;

        *ret_config = steal_ptr(config);
        return 0;
}

Config *config_free(Config *config) {
        if (!config)
                return NULL;

        free(config->read_group.gids);
        free(config->acquire_group.gids);
        free(config->orchestrator_group.gids);
        free(config->admin_group.gids);
        for (size_t i = 0; i < config->limits.n_overrides; i++)
                free(config->limits.overrides[i].vm);
        free(config->limits.overrides);
        for (size_t i = 0; i < config->n_assignments; i++) {
                free(config->assignments[i].name);
                free(config->assignments[i].instance);
                free(config->assignments[i].vm);
                free(config->assignments[i].file);
        }
        free(config->assignments);
        free(config);
        return NULL;
}
