/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How many file descriptors the configured limits can make this process hold (RLIMIT_NOFILE, LimitNOFILE= of
 * the unit), and have systemd keep (FileDescriptorStoreMax=). Whoever raises the former is told when the
 * latter do not fit, before a user finds it out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/manager.h"

typedef struct DescriptorCount {
        uint64_t process;
        uint64_t store;
} DescriptorCount;

/* The most that @config can take on a host of @n_cpus CPUs. @is_kept: systemd has a store. */
DescriptorCount descriptors_needed(const Config *config, size_t n_cpus, bool is_kept);

/* Takes what this process may have (the hard limit), where it was started with less. */
void descriptors_raise_limit(void);

/* Logs, as warnings, which limits of the running configuration do not fit, and what to set. */
void descriptors_warn(const Manager *manager);
