/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a value of each type may be. Every refusal is one sentence of the same form, "Key=value: not a size
 * (64M, 2G, ...)", so that the operator sees what was read and what would be accepted.
 */

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "broker/config-value.h"
#include "broker/request.h"
#include "util/buffer-size.h"
#include "util/error.h"
#include "util/parse.h"

#define COUNT_MAX  (1U << 20)
#define GROUPS_MAX 64U

/* One day: longer than anybody waits, and far from where sums of times overflow. */
#define DURATION_MAX_USEC (UINT64_C(86400) * 1000000)

/* As much of a value as a message repeats. */
#define SHOWN_MAX 72U

void config_warn(const ConfigContext *context, const char *file, unsigned line, const char *format, ...) {
        _cleanup_(freep) char *message = NULL;
        va_list ap;
        int n;

        if (!context->warn)
                return;
        va_start(ap, format);
        n = vasprintf(&message, format, ap);
        va_end(ap);
        if (n < 0) {
                message = NULL;
                return;
        }
        context->warn(file, line, message, context->userdata);
}

/* A value fit for a message: short, and nothing that a terminal would obey. */
static const char *show(const char *value, char buffer[static SHOWN_MAX]) {
        int n = snprintf(buffer, SHOWN_MAX, "%s", value);

        if (n >= (int)SHOWN_MAX)
                (void)snprintf(buffer + SHOWN_MAX - 4, 4, "...");
        for (char *p = buffer; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        *p = '?';
        return buffer;
}

static int refuse(const ConfigContext *context, const ConfigEntry *entry, const char *why) {
        char buffer[SHOWN_MAX];

        return config_fault_set(context->fault, entry->file, entry->line, "%s=%s: %s", entry->key,
                                show(entry->value, buffer), why);
}

int config_set_owner(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        AssignmentOwner owner = assignment_owner_from_string(entry->value);

        if (owner < 0)
                return refuse(context, entry, "not an owner (host, guest, any, none)");
        *(AssignmentOwner *)field = owner;
        return 0;
}

int config_set_mode(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        LeaseMode mode = lease_mode_from_string(entry->value);

        if (mode < 0)
                return refuse(context, entry, "not a mode (exclusive, guest, shared)");
        *(LeaseMode *)field = mode;
        return 0;
}

int config_set_switch(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        bool yes = strcasecmp(entry->value, "yes") == 0;

        if (!yes && strcasecmp(entry->value, "no") != 0)
                return refuse(context, entry, "not a switch (yes, no)");
        if (!yes)
                *(ConfigSwitch *)field = CONFIG_SWITCH_NO;
        else
                *(ConfigSwitch *)field = entry->line > 0 ? CONFIG_SWITCH_YES : CONFIG_SWITCH_YES_BY_DEFAULT;
        return 0;
}

int config_set_level(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        ArbitrationLevel level = arbitration_level_from_string(entry->value);

        if (strcmp(entry->value, "auto") == 0)
                level = CONFIG_LEVEL_AUTO;
        if (level < 0)
                return refuse(context, entry, "not a level (auto, enforce, reserve, observe, none)");
        *(ArbitrationLevel *)field = level;
        return 0;
}

int config_set_gate(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        GateLevel level = gate_level_from_string(entry->value);

        if (strcmp(entry->value, "auto") == 0)
                level = CONFIG_GATE_AUTO;
        if (level < 0)
                return refuse(context, entry, "not a level of the gate (auto, enforce, log, off)");
        *(GateLevel *)field = level;
        return 0;
}

int config_set_duration(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        uint64_t usec;
        int r;

        r = parse_duration(entry->value, &usec);
        if (r == PARSE_E_SYNTAX)
                return refuse(context, entry, "not a time (10, 250ms, 1h 30min, ...)");
        if (r || usec > DURATION_MAX_USEC)
                return refuse(context, entry, "too long a time (1d at most)");
        *(uint64_t *)field = usec;
        return 0;
}

/* A number, or a name that this host knows; false if it does not. */
static bool resolve_group(const char *name, gid_t *ret_gid) {
        const struct group *group;
        uint64_t gid;

        if (parse_u64(name, UINT32_MAX - 1, &gid) == 0) {
                *ret_gid = (gid_t)gid;
                return true;
        }
        group = getgrnam(name);
        if (!group)
                return false;
        *ret_gid = group->gr_gid;
        return true;
}

static int add_group(const ConfigContext *context, const ConfigEntry *entry, const char *name,
                     GroupList *list) {
        char buffer[SHOWN_MAX];

        if (list->n == GROUPS_MAX)
                return refuse(context, entry, "too many groups");
        if (!resolve_group(name, &list->gids[list->n])) {
                /* A default's group may well be missing: then only root, and whoever else is named, may. */
                if (entry->line > 0)
                        config_warn(context, entry->file, entry->line, "%s=: no group %s on this host",
                                    entry->key, show(name, buffer));
                return 0;
        }
        list->n++;
        return 0;
}

int config_set_groups(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        static const char separators[] = " \t,";
        _cleanup_(freep) char *text = strdup(entry->value);
        GroupList list = {.gids = calloc(GROUPS_MAX, sizeof(*list.gids))}, *old = field;
        char *save = NULL;
        int r = 0;

        if (!text || !list.gids) {
                free(list.gids);
                return -ENOMEM;
        }
        for (char *name = strtok_r(text, separators, &save); name && r == 0;
             name = strtok_r(NULL, separators, &save))
                r = add_group(context, entry, name, &list);
        if (r) {
                free(list.gids);
                return r;
        }

        free(old->gids);
        *old = list;
        return 0;
}

int config_set_groups_or_everyone(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        GroupList *list = field;
        int r;

        r = config_set_groups(context, entry, field);
        if (r == 0)
                list->everyone = entry->value[strspn(entry->value, " \t,")] == '\0';
        return r;
}

int config_set_buffer_size(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        uint64_t size;
        int r;

        r = parse_size(entry->value, &size);
        if (r == PARSE_E_SYNTAX)
                return refuse(context, entry, "not a size (64M, 2G, ...)");
        if (r || size > BUFFER_SIZE_MAX)
                return refuse(context, entry, "too large for a buffer");
        if (size < BUFFER_SIZE_MIN)
                return refuse(context, entry, "too small for a buffer (4K at least)");
        *(uint64_t *)field = size;
        return 0;
}

int config_set_exact_buffer_size(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        char text[FORMAT_SIZE_MAX], why[128];
        uint64_t size = 0;
        int r;

        r = config_set_buffer_size(context, entry, &size);
        if (r)
                return r;
        if (!buffer_size_is_representable(size)) {
                (void)snprintf(why, sizeof(why), "no size that a guest's MaxBuffSize can hold (%s can)",
                               format_size(buffer_size_floor(size), text));
                return refuse(context, entry, why);
        }
        *(uint64_t *)field = size;
        return 0;
}

int config_set_optional_buffer_size(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        if (*entry->value == '\0') {
                *(uint64_t *)field = 0;
                return 0;
        }
        return config_set_buffer_size(context, entry, field);
}

int config_set_memory(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        bool percent;
        uint64_t value;

        switch (parse_size_or_percent(entry->value, &value, &percent)) {
        case 0:
                break;
        case PARSE_E_RANGE:
                return refuse(context, entry, "out of range (1% to 100%, or a size)");
        default:
                return refuse(context, entry, "neither a size (64M, 2G, ...) nor a part of the memory (5%)");
        }
        if (value == 0)
                return refuse(context, entry, "nothing at all (to keep VMs off, assign the CPUs)");

        *(uint64_t *)field = percent ? value | CONFIG_MEMORY_PERCENT : value;
        return 0;
}

int config_set_optional_memory(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        if (*entry->value == '\0') {
                *(uint64_t *)field = 0;
                return 0;
        }
        return config_set_memory(context, entry, field);
}

void config_memory_resolve(uint64_t *memory, uint64_t mem_total) {
        uint64_t percent = *memory & ~CONFIG_MEMORY_PERCENT;

        if (*memory & CONFIG_MEMORY_PERCENT)
                *memory = mem_total / 100 * percent + mem_total % 100 * percent / 100;
}

int config_set_count(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        uint64_t value;
        int r;

        r = parse_u64(entry->value, COUNT_MAX, &value);
        if (r == PARSE_E_SYNTAX)
                return refuse(context, entry, "not a number");
        if (r || value == 0)
                return refuse(context, entry, "out of range (1 to 1048576)");
        *(unsigned *)field = (unsigned)value;
        return 0;
}

static int set_kvm(const ConfigContext *context, const ConfigEntry *entry, uint32_t max, int64_t *field) {
        char why[64];
        uint64_t value;
        int r;

        if (*entry->value == '\0') {
                *field = KVM_NUMBER_UNSET;
                return 0;
        }
        r = parse_u64(entry->value, max, &value);
        if (r == PARSE_E_SYNTAX)
                return refuse(context, entry, "not a number");
        if (r) {
                (void)snprintf(why, sizeof(why), "out of range (0 to %u)", max);
                return refuse(context, entry, why);
        }
        *field = (int64_t)value;
        return 0;
}

int config_set_kvm_number(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        return set_kvm(context, entry, KVM_NUMBER_VALUE_MAX, field);
}

int config_set_kvm_feature(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        return set_kvm(context, entry, KVM_FEATURE_VALUE_MAX, field);
}

int config_set_name(_unused_ const ConfigContext *context, const ConfigEntry *entry, void *field) {
        char *copy = NULL;

        if (*entry->value != '\0') {
                copy = strdup(entry->value);
                if (!copy)
                        return -ENOMEM;
        }
        free(*(char **)field);
        *(char **)field = copy;
        return 0;
}

int config_set_vm(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        if (*entry->value != '\0' && !request_vm_name_is_valid(entry->value))
                return refuse(context, entry, "not a VM's name (1 to 255 bytes, no control characters)");
        return config_set_name(context, entry, field);
}

int config_set_cpus(const ConfigContext *context, const ConfigEntry *entry, void *field) {
        ConfigAssignment *assignment = field;
        CpuSet cpus;

        switch (cpuset_parse(entry->value, strlen(entry->value), &cpus)) {
        case 0:
                assignment->cpus = cpus;
                assignment->has_cpus = !cpuset_is_empty(&cpus);
                return 0;
        case CPUSET_E_RANGE:
                return refuse(context, entry, "a CPU beyond 4095, the last one supported");
        default:
                return refuse(context, entry, "not a list of CPUs (0-3,8)");
        }
}
