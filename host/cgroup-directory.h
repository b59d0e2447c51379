/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of host/cgroup.h share. */

#include <sys/stat.h>

/* The directory of the group of @path, which is valid; CGROUP_E_NONE. */
int cgroup_open_directory(const char *path, int *ret_fd, struct stat *ret_stat);
