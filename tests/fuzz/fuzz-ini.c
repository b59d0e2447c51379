/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A configuration file: it is refused with a fault that names it, or every value of it is within its bounds.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/config.h"
#include "util/buffer-size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void warn(const char *file, _unused_ unsigned line, const char *message, _unused_ void *userdata) {
        require(file && *file == '/' && message && *message);
}

static void check(const Config *config) {
        const Limits *limits = &config->limits;

        require(config->default_owner >= 0 && config->default_owner < _ASSIGNMENT_OWNER_MAX);
        require(config->default_mode >= 0 && config->default_mode < _LEASE_MODE_MAX);
        require(buffer_size_is_representable(limits->default_buffer_size));
        require(limits->max_buffer_size >= BUFFER_SIZE_MIN && limits->max_buffer_size <= BUFFER_SIZE_MAX);
        require(limits->max_memory > 0 && limits->max_memory <= INT64_MAX);
        require(limits->max_memory_per_vm > 0 && limits->max_memory_per_vm <= INT64_MAX);
        require(limits->max_memory_per_user > 0 && limits->max_memory_per_user <= INT64_MAX);
        require(limits->max_leases > 0 && config->max_connections > 0);
        for (size_t i = 0; i < limits->n_overrides; i++)
                require(limits->overrides[i].max_memory <= INT64_MAX &&
                        limits->overrides[i].max_buffer_size <= BUFFER_SIZE_MAX);
        for (size_t i = 0; i < config->n_assignments; i++) {
                const ConfigAssignment *a = &config->assignments[i];

                require(a->name && *a->name && a->file && a->line > 0);
                require(a->owner >= 0 && a->owner < _ASSIGNMENT_OWNER_MAX);
                require(a->instance || a->has_cpus);
                require(a->has_cpus == !cpuset_is_empty(&a->cpus));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static int file_fd = -1, root_fd = -1;
        ConfigFault fault = CONFIG_FAULT_NULL;
        Config *config = NULL;
        char path[32];
        int r;

        if (file_fd < 0) {
                file_fd = memfd_create("spe-broker.conf", MFD_CLOEXEC);
                root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
                require(file_fd >= 0 && root_fd >= 0);
        }
        require(ftruncate(file_fd, 0) == 0 && pwrite(file_fd, data, size, 0) == (ssize_t)size);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);

        r = config_load(root_fd, root_fd, path, warn, NULL, &config, &fault);
        require(r == 0 || r == CONFIG_E_INVALID);
        require((r == 0) == (config != NULL) && (r == 0) == (fault.message == NULL));
        if (r == 0)
                check(config);
        else
                require(strcmp(fault.file, path) == 0 && *fault.message);
        config_free(config);
        config_fault_deinit(&fault);
        return 0;
}
