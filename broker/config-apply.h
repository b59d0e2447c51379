/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The entries of the files, applied to a Config one after the other. What has to be true of several values
 * together is checked by the caller, at the end.
 */

#include <errno.h>

#include "broker/config-value.h"

#define CONFIG_KEYS_MAX 64U

typedef enum ConfigSectionKind {
        CONFIG_SECTION_POLICY,
        CONFIG_SECTION_LIMITS,
        CONFIG_SECTION_ARBITRATION,
        CONFIG_SECTION_MEMLOCK,
        CONFIG_SECTION_KVM,
        CONFIG_SECTION_ASSIGNMENT,
        CONFIG_SECTION_VM,
        CONFIG_SECTION_USER,
        _CONFIG_SECTION_MAX,
        _CONFIG_SECTION_INVALID = -EINVAL,
} ConfigSectionKind;

typedef struct ConfigLoader {
        Config *config;
        ConfigContext context;
        ConfigSectionKind kind;       /* of the section that is being read; invalid: it is skipped */
        void *target;                 /* what that section fills */
        bool is_set[CONFIG_KEYS_MAX]; /* by some file */
} ConfigLoader;

/* A ConfigEntryFn; @userdata is the ConfigLoader. */
int config_apply_entry(const ConfigEntry *entry, void *userdata, ConfigFault *ret_fault);
/* Gives the keys of sections without a name that no file set their defaults. */
int config_apply_defaults(ConfigLoader *loader);
