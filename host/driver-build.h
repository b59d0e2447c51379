/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whether this kernel comes with the driver arm_spe_pmu: what is running says it, else the lists of modules,
 * else the kernel's configuration.
 */

#include "host/topology.h"

/* What a kernel's configuration says of an option. */
typedef enum KernelOption {
        KERNEL_OPTION_UNKNOWN, /* no configuration to be read */
        KERNEL_OPTION_OFF,
        KERNEL_OPTION_MODULE,
        KERNEL_OPTION_BUILTIN,
} KernelOption;

typedef enum DriverBuild {
        DRIVER_BUILD_UNKNOWN,
        DRIVER_BUILD_NONE,    /* not built */
        DRIVER_BUILD_MISSING, /* built as a module, which is not installed */
        DRIVER_BUILD_MODULE,
        DRIVER_BUILD_BUILTIN,
} DriverBuild;

/* The text of the configuration of kernel @release; *@ret_config is NULL if there is none to be read. */
int kernel_config_read(int root_fd, const char *release, char **ret_config);

/* What "CONFIG_X" is in @config (NULL: unknown). An option that is not in it is off. */
KernelOption kernel_config_option(const char *config, const char *name);

/* @release: of the kernel, or empty; @running: what the topology says of the driver. */
int driver_build_find(int root_fd, const char *release, const char *config, DriverKind running,
                      DriverBuild *ret_build);
