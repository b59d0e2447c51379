/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The values of the configuration: one setter per type, which reads a value's text into a field or says in
 * the fault what would have been accepted.
 */

#include "broker/config-file.h"

/*
 * In a memory field until all is read: this flag and a percentage of the host's memory, which
 * config_memory_resolve() makes bytes of. A size never has this bit.
 */
#define CONFIG_MEMORY_PERCENT (UINT64_C(1) << 63)

/* @warn and @warn_userdata are for what is odd but not wrong; @field is of the type that the setter is for.
 */
typedef struct ConfigContext {
        ConfigWarningFn warn; /* may be NULL */
        void *userdata;
        ConfigFault *fault;
} ConfigContext;

typedef int (*ConfigSetFn)(const ConfigContext *context, const ConfigEntry *entry, void *field);

int config_set_owner(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_mode(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* ArbitrationLevel, or CONFIG_LEVEL_AUTO. */
int config_set_level(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* ConfigSwitch. */
int config_set_switch(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* GateLevel, or CONFIG_GATE_AUTO. */
int config_set_gate(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_duration(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_groups(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* Empty means everyone. */
int config_set_groups_or_everyone(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* A size that is representable as it is: the default, which nobody asked to be rounded. */
int config_set_exact_buffer_size(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_buffer_size(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_memory(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* The same two, where empty means that nothing is said: 0. */
int config_set_optional_buffer_size(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_optional_memory(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_count(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* int64_t, a number of KVM's interface; empty means KVM_NUMBER_UNSET. A feature is one of fewer bits. */
int config_set_kvm_number(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_kvm_feature(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* char *; empty means NULL. */
int config_set_name(const ConfigContext *context, const ConfigEntry *entry, void *field);
int config_set_vm(const ConfigContext *context, const ConfigEntry *entry, void *field);
/* Sets cpus and has_cpus of a ConfigAssignment. */
int config_set_cpus(const ConfigContext *context, const ConfigEntry *entry, void *field);

void config_warn(const ConfigContext *context, const char *file, unsigned line, const char *format, ...)
        __attribute__((__format__(__printf__, 4, 5)));

/* Makes bytes of a percentage of @mem_total. */
void config_memory_resolve(uint64_t *memory, uint64_t mem_total);
