/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The configuration as a whole: the table of keys, the files in their order, and what has to be true of all
 * values together. Files are applied to a fresh Config, one entry after the other; keys of [Policy] and
 * [Limits] that no file set get the table's default at the end, through the same setters. Nothing of it is
 * seen by the caller unless all of it is good.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "broker/config-value.h"
#include "util/error.h"
#include "util/fs.h"
#include "util/parse.h"

#define DROPIN_SUFFIX    ".conf"
#define DROPINS_MAX      64U
#define FILE_SIZE_MAX    (1U << 20)
#define MEMINFO_PATH     "proc/meminfo"
#define MEMINFO_SIZE_MAX (1U << 16)

/* [Assignment], and [VM] with [User], in all files. */
#define NAMED_SECTIONS_MAX 4096U

/* What percentages are taken of where nobody tells the memory: no real host, but some tree below --root. */
#define MEM_TOTAL_UNKNOWN (UINT64_C(64) << 30)

typedef enum SectionKind {
        SECTION_POLICY,
        SECTION_LIMITS,
        SECTION_ASSIGNMENT,
        SECTION_VM,
        SECTION_USER,
        _SECTION_MAX,
        _SECTION_INVALID = -EINVAL,
} SectionKind;

static const struct {
        const char *name;
        bool named; /* "[VM NAME]" */
} sections[_SECTION_MAX] = {
        [SECTION_POLICY] = {"Policy", false},
        [SECTION_LIMITS] = {"Limits", false},
        [SECTION_ASSIGNMENT] = {"Assignment", true},
        [SECTION_VM] = {"VM", true},
        [SECTION_USER] = {"User", true},
};

typedef struct Key {
        SectionKind kind;
        ConfigKey key;
        ConfigSetFn set;
        size_t offset; /* of the field in what the section fills */
} Key;

#define POLICY(name, text, set, field) \
        { SECTION_POLICY, {"Policy", name, text}, set, offsetof(Config, field) }
#define LIMIT(name, text, set, field) \
        { SECTION_LIMITS, {"Limits", name, text}, set, offsetof(Config, field) }
#define ASSIGNMENT(name, set, offset) \
        { SECTION_ASSIGNMENT, {"Assignment NAME", name, ""}, set, offset }
#define OVERRIDE(kind, section, name, set, field) \
        { kind, {section, name, ""}, set, offsetof(LimitOverride, field) }

static const Key keys[] = {
        POLICY("DefaultOwner", "any", config_set_owner, default_owner),
        POLICY("DefaultMode", "guest", config_set_mode, default_mode),
        POLICY("RevokeGraceSec", "10", config_set_duration, revoke_grace_usec),
        POLICY("ReadGroup", "", config_set_groups_or_everyone, read_group),
        POLICY("AcquireGroup", "kvm", config_set_groups, acquire_group),
        POLICY("OrchestratorGroup", "", config_set_groups, orchestrator_group),
        POLICY("AdminGroup", "", config_set_groups, admin_group),
        LIMIT("DefaultBufferSize", "4M", config_set_exact_buffer_size, limits.default_buffer_size),
        LIMIT("MaxBufferSize", "64M", config_set_buffer_size, limits.max_buffer_size),
        LIMIT("MaxMemoryPerVM", "2G", config_set_memory, limits.max_memory_per_vm),
        LIMIT("MaxMemoryPerUser", "", config_set_optional_memory, limits.max_memory_per_user),
        LIMIT("MaxMemory", "5%", config_set_memory, limits.max_memory),
        LIMIT("MaxLeases", "4096", config_set_count, limits.max_leases),
        LIMIT("MaxLeasesPerUser", "1024", config_set_count, limits.max_leases_per_user),
        LIMIT("MaxConnections", "4096", config_set_count, max_connections),
        LIMIT("MaxConnectionsPerUser", "2176", config_set_count, max_connections_per_user),
        ASSIGNMENT("Instance", config_set_name, offsetof(ConfigAssignment, instance)),
        ASSIGNMENT("Cpus", config_set_cpus, 0),
        ASSIGNMENT("Owner", config_set_owner, offsetof(ConfigAssignment, owner)),
        ASSIGNMENT("Vm", config_set_vm, offsetof(ConfigAssignment, vm)),
        OVERRIDE(SECTION_VM, "VM NAME", "MaxBufferSize", config_set_optional_buffer_size, max_buffer_size),
        OVERRIDE(SECTION_VM, "VM NAME", "MaxMemory", config_set_optional_memory, max_memory),
        OVERRIDE(SECTION_USER, "User NAME", "MaxBufferSize", config_set_optional_buffer_size,
                 max_buffer_size),
        OVERRIDE(SECTION_USER, "User NAME", "MaxMemory", config_set_optional_memory, max_memory),
};

typedef struct Loader {
        Config *config;
        ConfigContext context;
        SectionKind kind;               /* of the section that is being read; invalid: it is skipped */
        void *target;                   /* what that section fills */
        bool is_set[ELEMENTS_OF(keys)]; /* by some file */
} Loader;

const ConfigKey *config_key(size_t i) {
        return i < ELEMENTS_OF(keys) ? &keys[i].key : NULL;
}

/* The kind of the section called @text, and where its own name begins in it. */
static SectionKind section_kind(const char *text, const char **ret_name) {
        for (SectionKind kind = 0; kind < _SECTION_MAX; kind++) {
                size_t n = strlen(sections[kind].name);

                if (strncasecmp(text, sections[kind].name, n) != 0)
                        continue;
                if (!sections[kind].named && text[n] == '\0') {
                        *ret_name = "";
                        return kind;
                }
                if (sections[kind].named && (text[n] == ' ' || text[n] == '\t')) {
                        *ret_name = text + n + strspn(text + n, " \t");
                        return kind;
                }
        }
        return _SECTION_INVALID;
}

static int open_assignment(Loader *loader, const ConfigEntry *entry, const char *name) {
        Config *config = loader->config;
        ConfigAssignment fresh = {.owner = _ASSIGNMENT_OWNER_INVALID, .line = entry->line}, *grown;

        for (size_t i = 0; i < config->n_assignments; i++)
                if (strcmp(config->assignments[i].name, name) == 0) {
                        loader->target = &config->assignments[i];
                        return 0;
                }

        if (config->n_assignments == NAMED_SECTIONS_MAX)
                return config_fault_set(loader->context.fault, entry->file, entry->line,
                                        "more than %u assignments", NAMED_SECTIONS_MAX);
        grown = realloc(config->assignments, (config->n_assignments + 1) * sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        config->assignments = grown;
        fresh.name = strdup(name);
        fresh.file = strdup(entry->file);
        if (!fresh.name || !fresh.file) {
                free(fresh.name);
                free(fresh.file);
                return -ENOMEM;
        }
        grown[config->n_assignments] = fresh;
        loader->target = &grown[config->n_assignments++];
        return 0;
}

/* Finds or makes the override of a VM, or of a user if @vm is NULL. */
static int open_override(Loader *loader, const ConfigEntry *entry, const char *vm, uid_t uid) {
        Limits *limits = &loader->config->limits;
        LimitOverride fresh = {.uid = uid}, *grown;

        for (size_t i = 0; i < limits->n_overrides; i++) {
                LimitOverride *old = &limits->overrides[i];

                if (vm ? old->vm && strcmp(old->vm, vm) == 0 : !old->vm && old->uid == uid) {
                        loader->target = old;
                        return 0;
                }
        }

        if (limits->n_overrides == NAMED_SECTIONS_MAX)
                return config_fault_set(loader->context.fault, entry->file, entry->line,
                                        "more than %u VMs and users", NAMED_SECTIONS_MAX);
        grown = realloc(limits->overrides, (limits->n_overrides + 1) * sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        limits->overrides = grown;
        if (vm) {
                fresh.vm = strdup(vm);
                if (!fresh.vm)
                        return -ENOMEM;
        }
        grown[limits->n_overrides] = fresh;
        loader->target = &grown[limits->n_overrides++];
        return 0;
}

static int open_user(Loader *loader, const ConfigEntry *entry, const char *name) {
        const struct passwd *user;
        uint64_t uid;

        if (parse_u64(name, UINT32_MAX - 1, &uid) == 0)
                return open_override(loader, entry, NULL, (uid_t)uid);
        user = getpwnam(name);
        if (!user) {
                config_warn(&loader->context, entry->file, entry->line,
                            "[%s] matches nothing on this host: no such user", entry->section);
                loader->kind = _SECTION_INVALID;
                return 0;
        }
        return open_override(loader, entry, NULL, user->pw_uid);
}

static int open_section(Loader *loader, const ConfigEntry *entry) {
        const char *name = "";

        loader->kind = section_kind(entry->section, &name);
        switch (loader->kind) {
        case SECTION_POLICY:
        case SECTION_LIMITS:
                loader->target = loader->config;
                return 0;
        case SECTION_ASSIGNMENT:
                return open_assignment(loader, entry, name);
        case SECTION_VM:
                return open_override(loader, entry, name, 0);
        case SECTION_USER:
                return open_user(loader, entry, name);
        default:
                config_warn(&loader->context, entry->file, entry->line, "[%s]: unknown section",
                            entry->section);
                return 0;
        }
}

static int apply_entry(const ConfigEntry *entry, void *userdata, _unused_ ConfigFault *fault) {
        Loader *loader = userdata;

        if (!entry->key)
                return open_section(loader, entry);
        if (loader->kind == _SECTION_INVALID)
                return 0;

        for (size_t i = 0; i < ELEMENTS_OF(keys); i++) {
                if (keys[i].kind != loader->kind || strcasecmp(keys[i].key.name, entry->key) != 0)
                        continue;
                loader->is_set[i] = true;
                return keys[i].set(&loader->context, entry, (char *)loader->target + keys[i].offset);
        }
        config_warn(&loader->context, entry->file, entry->line, "%s=: unknown key in [%s]", entry->key,
                    entry->section);
        return 0;
}

static int load_file(Loader *loader, int dir_fd, const char *path, const char *shown, bool required) {
        _cleanup_(freep) char *data = NULL;
        ConfigFileSink sink = {
                .entry = apply_entry,
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

static int load_dropins(Loader *loader, int dir_fd, const char *path, const char *shown) {
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
                char file[PATH_MAX];

                if (r == 0) {
                        (void)snprintf(file, sizeof(file), "%s/%s", shown, names[i]->d_name);
                        r = load_file(loader, fd, names[i]->d_name, file, true);
                }
                free(names[i]);
        }
        free(names);
        return r;
}

static int apply_defaults(Loader *loader) {
        for (size_t i = 0; i < ELEMENTS_OF(keys); i++) {
                ConfigEntry entry = {
                        .file = "/" CONFIG_PATH,
                        .section = keys[i].key.section,
                        .key = keys[i].key.name,
                        .value = keys[i].key.default_text,
                };
                int r;

                if (loader->is_set[i] || sections[keys[i].kind].named)
                        continue;
                r = keys[i].set(&loader->context, &entry, (char *)loader->config + keys[i].offset);
                if (r)
                        return r;
        }
        return 0;
}

static int check_assignment(const Loader *loader, const ConfigAssignment *a) {
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

static int resolve_memory(Loader *loader, int facts_fd) {
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
static int finish(Loader *loader, int facts_fd) {
        Limits *limits = &loader->config->limits;
        int r;

        r = apply_defaults(loader);
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

static int load(Loader *loader, int root_fd, int facts_fd, const char *path) {
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
        Loader loader = {
                .config = config,
                .context = {.warn = warn, .userdata = userdata, .fault = ret_fault},
                .kind = _SECTION_INVALID,
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
