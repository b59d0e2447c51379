/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The configuration: /etc/spe-broker/spe-broker.conf and spe-broker.conf.d/ *.conf, read whole into one
 * value. Every key stands once, in the table of config.c: section, name, type, default, where it goes. A file
 * that cannot be used yields a fault with file and line, and no value, so that the running one stays in
 * force. Group names are resolved here, so that no request waits for a name service.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/limits.h"
#include "policy/words.h"
#include "util/cleanup.h"
#include "util/cpuset.h"
#include "util/kvm-numbers.h"

#define CONFIG_PATH "etc/spe-broker/spe-broker.conf" /* below the root; drop-ins are in CONFIG_PATH.d */

enum {
        _CONFIG_E_SUCCESS,
        CONFIG_E_INVALID, /* told by the ConfigFault */
};

/* Where and what: for the journal, for Reload's error, for the console. */
typedef struct ConfigFault {
        char *file;
        unsigned line; /* 0: the file as a whole */
        char *message;
} ConfigFault;

#define CONFIG_FAULT_NULL ((ConfigFault){0})
void config_fault_deinit(ConfigFault *fault);

typedef struct GroupList {
        gid_t *gids;
        size_t n;
        bool everyone; /* the key is empty and that means everyone (ReadGroup) */
} GroupList;

typedef struct ConfigAssignment {
        char *name;     /* of the section [Assignment NAME] */
        char *instance; /* or NULL; resolved to CPUs when it is applied */
        bool has_cpus;
        CpuSet cpus;
        AssignmentOwner owner;
        char *vm;   /* or NULL */
        char *file; /* where it stands, for warnings */
        unsigned line;
} ConfigAssignment;

/* Of Config.level: no level by name. */
#define CONFIG_LEVEL_AUTO _ARBITRATION_LEVEL_MAX

/* A yes or no, and whether a file says it. */
typedef enum ConfigSwitch {
        CONFIG_SWITCH_NO,
        CONFIG_SWITCH_YES,
        CONFIG_SWITCH_YES_BY_DEFAULT,
} ConfigSwitch;

/* Of Config.gate: no level by name. */
#define CONFIG_GATE_AUTO _GATE_LEVEL_MAX

typedef struct Config {
        AssignmentOwner default_owner;
        LeaseMode default_mode;
        uint64_t revoke_grace_usec;
        uint64_t gone_grace_usec;
        GroupList read_group;
        GroupList acquire_group;
        GroupList orchestrator_group;
        GroupList admin_group;
        Limits limits; /* owns its overrides; percentages are resolved against MemTotal */
        unsigned max_connections;
        unsigned max_connections_per_user;
        ArbitrationLevel level; /* CONFIG_LEVEL_AUTO: the best that this host has */
        GateLevel gate;         /* CONFIG_GATE_AUTO: log where that can be */
        ConfigSwitch manage_memlock;
        int64_t kvm_numbers[_KVM_NUMBER_MAX]; /* as kvm_numbers() takes them */
        ConfigAssignment *assignments;        /* in the order of the files */
        size_t n_assignments;
} Config;

/* Told for each thing that is odd but not wrong: unknown key or section. */
typedef void (*ConfigWarningFn)(const char *file, unsigned line, const char *message, void *userdata);

/*
 * Reads CONFIG_PATH below @root_fd, or @path (of the caller's file system) with its own .d directory if
 * given. First the file, then every *.conf of the directory by name; a key said again overrides, and sections
 * of one name are one section. Names of sections and keys are taken without regard to case, what follows
 * "Assignment", "VM" and "User" is not. A default file that is absent is fine: the defaults hold; a @path
 * that is absent is not. proc/meminfo is below @facts_fd. On CONFIG_E_INVALID *@ret_fault is set.
 */
int config_load(int root_fd, int facts_fd, const char *path, ConfigWarningFn warn, void *userdata,
                Config **ret_config, ConfigFault *ret_fault);
Config *config_free(Config *config);
DEFINE_CLEANUP(Config *, config_free)

/* One row per key, for the man page's test: what spe-broker.conf(5) must say. */
typedef struct ConfigKey {
        const char *section; /* as in the man page: "Limits", "Assignment NAME" */
        const char *name;
        const char *default_text; /* "": none */
} ConfigKey;
/* The key number @i, or NULL beyond the last. */
const ConfigKey *config_key(size_t i);
