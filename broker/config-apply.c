/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of keys, and how an entry of a file finds its way through it: its section says what is filled
 * (the Config, an assignment, a VM's or user's limits), its key which field, and by which setter.
 */

#include <assert.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <strings.h>

#include "broker/config-apply.h"
#include "util/error.h"
#include "util/parse.h"

/* [Assignment], and [VM] with [User], in all files. */
#define NAMED_SECTIONS_MAX 4096U

static const struct {
        const char *name;
        bool named; /* "[VM NAME]" */
} sections[_CONFIG_SECTION_MAX] = {
        [CONFIG_SECTION_POLICY] = {"Policy", false},
        [CONFIG_SECTION_LIMITS] = {"Limits", false},
        [CONFIG_SECTION_ARBITRATION] = {"Arbitration", false},
        [CONFIG_SECTION_MEMLOCK] = {"Memlock", false},
        [CONFIG_SECTION_KVM] = {"KVM", false},
        [CONFIG_SECTION_ASSIGNMENT] = {"Assignment", true},
        [CONFIG_SECTION_VM] = {"VM", true},
        [CONFIG_SECTION_USER] = {"User", true},
};

typedef struct Key {
        ConfigSectionKind kind;
        ConfigKey key;
        ConfigSetFn set;
        size_t offset; /* of the field in what the section fills */
} Key;

#define POLICY(name, text, set, field) \
        { CONFIG_SECTION_POLICY, {"Policy", name, text}, set, offsetof(Config, field) }
#define LIMIT(name, text, set, field) \
        { CONFIG_SECTION_LIMITS, {"Limits", name, text}, set, offsetof(Config, field) }
#define ARBITRATION(name, text, set, field) \
        { CONFIG_SECTION_ARBITRATION, {"Arbitration", name, text}, set, offsetof(Config, field) }
#define MEMLOCK(name, text, set, field) \
        { CONFIG_SECTION_MEMLOCK, {"Memlock", name, text}, set, offsetof(Config, field) }
#define NUMBER(name, set, number) \
        { CONFIG_SECTION_KVM, {"KVM", name, ""}, set, offsetof(Config, kvm_numbers[KVM_NUMBER_##number]) }
#define ASSIGNMENT(name, set, offset) \
        { CONFIG_SECTION_ASSIGNMENT, {"Assignment NAME", name, ""}, set, offset }
#define OVERRIDE(kind, section, name, set, field) \
        { kind, {section, name, ""}, set, offsetof(LimitOverride, field) }

static const Key keys[] = {
        POLICY("DefaultOwner", "any", config_set_owner, default_owner),
        POLICY("DefaultMode", "guest", config_set_mode, default_mode),
        POLICY("RevokeGraceSec", "10", config_set_duration, revoke_grace_usec),
        POLICY("GoneGraceSec", "60", config_set_duration, gone_grace_usec),
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
        ARBITRATION("Level", "auto", config_set_level, level),
        ARBITRATION("Gate", "auto", config_set_gate, gate),
        MEMLOCK("Manage", "yes", config_set_switch, manage_memlock),
        NUMBER("Capability", config_set_kvm_number, CAPABILITY),
        NUMBER("Feature", config_set_kvm_feature, FEATURE),
        NUMBER("Group", config_set_kvm_number, GROUP),
        NUMBER("AttributeIrq", config_set_kvm_number, ATTRIBUTE_IRQ),
        NUMBER("AttributeSpu", config_set_kvm_number, ATTRIBUTE_SPU),
        NUMBER("AttributeMaxBufferSize", config_set_kvm_number, ATTRIBUTE_MAX_BUFFER_SIZE),
        NUMBER("AttributeInit", config_set_kvm_number, ATTRIBUTE_INIT),
        ASSIGNMENT("Instance", config_set_name, offsetof(ConfigAssignment, instance)),
        ASSIGNMENT("Cpus", config_set_cpus, 0),
        ASSIGNMENT("Owner", config_set_owner, offsetof(ConfigAssignment, owner)),
        ASSIGNMENT("Vm", config_set_vm, offsetof(ConfigAssignment, vm)),
        OVERRIDE(CONFIG_SECTION_VM, "VM NAME", "MaxBufferSize", config_set_optional_buffer_size,
                 max_buffer_size),
        OVERRIDE(CONFIG_SECTION_VM, "VM NAME", "MaxMemory", config_set_optional_memory, max_memory),
        OVERRIDE(CONFIG_SECTION_USER, "User NAME", "MaxBufferSize", config_set_optional_buffer_size,
                 max_buffer_size),
        OVERRIDE(CONFIG_SECTION_USER, "User NAME", "MaxMemory", config_set_optional_memory, max_memory),
};

static_assert(ELEMENTS_OF(keys) <= CONFIG_KEYS_MAX, "a loader remembers each key");

const ConfigKey *config_key(size_t i) {
        return i < ELEMENTS_OF(keys) ? &keys[i].key : NULL;
}

/* The kind of the section called @text, and where its own name begins in it. */
static ConfigSectionKind section_kind(const char *text, const char **ret_name) {
        for (ConfigSectionKind kind = 0; kind < _CONFIG_SECTION_MAX; kind++) {
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
        return _CONFIG_SECTION_INVALID;
}

static int open_assignment(ConfigLoader *loader, const ConfigEntry *entry, const char *name) {
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
static int open_override(ConfigLoader *loader, const ConfigEntry *entry, const char *vm, uid_t uid) {
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

static int open_user(ConfigLoader *loader, const ConfigEntry *entry, const char *name) {
        const struct passwd *user;
        uint64_t uid;

        if (parse_u64(name, UINT32_MAX - 1, &uid) == 0)
                return open_override(loader, entry, NULL, (uid_t)uid);
        user = getpwnam(name);
        if (!user) {
                config_warn(&loader->context, entry->file, entry->line,
                            "[%s] matches nothing on this host: no such user", entry->section);
                loader->kind = _CONFIG_SECTION_INVALID;
                return 0;
        }
        return open_override(loader, entry, NULL, user->pw_uid);
}

static int open_section(ConfigLoader *loader, const ConfigEntry *entry) {
        const char *name = "";

        loader->kind = section_kind(entry->section, &name);
        switch (loader->kind) {
        case CONFIG_SECTION_POLICY:
        case CONFIG_SECTION_LIMITS:
        case CONFIG_SECTION_ARBITRATION:
        case CONFIG_SECTION_MEMLOCK:
        case CONFIG_SECTION_KVM:
                loader->target = loader->config;
                return 0;
        case CONFIG_SECTION_ASSIGNMENT:
                return open_assignment(loader, entry, name);
        case CONFIG_SECTION_VM:
                return open_override(loader, entry, name, 0);
        case CONFIG_SECTION_USER:
                return open_user(loader, entry, name);
        default:
                config_warn(&loader->context, entry->file, entry->line, "[%s]: unknown section",
                            entry->section);
                return 0;
        }
}

int config_apply_entry(const ConfigEntry *entry, void *userdata, _unused_ ConfigFault *fault) {
        ConfigLoader *loader = userdata;

        if (!entry->key)
                return open_section(loader, entry);
        if (loader->kind == _CONFIG_SECTION_INVALID)
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

int config_apply_defaults(ConfigLoader *loader) {
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
