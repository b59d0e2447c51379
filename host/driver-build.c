/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Whether the kernel has the driver. depmod's lists (modules.builtin, modules.dep) name every driver that is
 * installed, however it is compressed and wherever a package has put it; the configuration says what was
 * built, and the two differ where a distribution packs a part of the modules apart.
 */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "host/driver-build.h"
#include "util/cleanup.h"
#include "util/fs.h"

#define LIST_MAX      (4U << 20)
#define LIST_PATH_MAX 256U

static int read_of_kernel(int root_fd, const char *head, const char *release, const char *tail,
                          char **ret_text) {
        char path[LIST_PATH_MAX];
        size_t n;
        int length = snprintf(path, sizeof(path), "%s%s%s", head, release, tail);

        if (length < 0 || (size_t)length >= sizeof(path))
                return FS_E_NOT_FOUND;
        return fs_read_all(root_fd, path, LIST_MAX, ret_text, &n);
}

int kernel_config_read(int root_fd, const char *release, char **ret_config) {
        char *config = NULL;
        int r;

        if (release[0] == '\0') {
                *ret_config = NULL;
                return 0;
        }
        r = read_of_kernel(root_fd, "boot/config-", release, "", &config);
        if (r > 0)
                r = read_of_kernel(root_fd, "lib/modules/", release, "/config", &config);
        if (r < 0)
                return r;

        *ret_config = config;
        return 0;
}

KernelOption kernel_config_option(const char *config, const char *name) {
        size_t n = strlen(name);

        if (!config)
                return KERNEL_OPTION_UNKNOWN;
        for (const char *p = config; (p = strstr(p, name)); p += n) {
                if ((p > config && p[-1] != '\n') || p[n] != '=')
                        continue;
                return p[n + 1] == 'y'   ? KERNEL_OPTION_BUILTIN
                       : p[n + 1] == 'm' ? KERNEL_OPTION_MODULE
                                         : KERNEL_OPTION_OFF;
        }
        return KERNEL_OPTION_OFF;
}

/* Whether a list of modules has the driver; 0 with *@ret_known false where there is no such list. */
static int list_has_driver(int root_fd, const char *release, const char *tail, bool *ret_known,
                           bool *ret_has) {
        _cleanup_(freep) char *text = NULL;
        int r;

        r = read_of_kernel(root_fd, "lib/modules/", release, tail, &text);
        if (r < 0)
                return r;
        *ret_known = r == 0;
        *ret_has = r == 0 && strstr(text, "/arm_spe_pmu.ko");
        return 0;
}

int driver_build_find(int root_fd, const char *release, const char *config, DriverKind running,
                      DriverBuild *ret_build) {
        bool builtin_known = false, module_known = false, builtin = false, module = false;
        KernelOption option = kernel_config_option(config, "CONFIG_ARM_SPE_PMU");
        int r;

        if (running != DRIVER_UNKNOWN) {
                *ret_build = running == DRIVER_MODULE ? DRIVER_BUILD_MODULE : DRIVER_BUILD_BUILTIN;
                return 0;
        }
        if (release[0] != '\0') {
                r = list_has_driver(root_fd, release, "/modules.builtin", &builtin_known, &builtin);
                if (r == 0)
                        r = list_has_driver(root_fd, release, "/modules.dep", &module_known, &module);
                if (r < 0)
                        return r;
        }

        if (builtin || option == KERNEL_OPTION_BUILTIN)
                *ret_build = DRIVER_BUILD_BUILTIN;
        else if (module)
                *ret_build = DRIVER_BUILD_MODULE;
        else if (option == KERNEL_OPTION_MODULE)
                *ret_build = module_known ? DRIVER_BUILD_MISSING : DRIVER_BUILD_MODULE;
        else if (option == KERNEL_OPTION_OFF || (builtin_known && module_known))
                *ret_build = DRIVER_BUILD_NONE;
        else
                *ret_build = DRIVER_BUILD_UNKNOWN;
        return 0;
}
