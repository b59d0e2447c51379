/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A control group of the running kernel's unified hierarchy (cgroup2), known by its path there and by its id.
 * A path can be removed and made anew, and is another group then; an id cannot within one boot: kernfs hands
 * them out counting, 64 bits of them. So path and id together name a group for ever, and nothing has to be
 * held for that. What is held open is cgroup.events, by which the kernel tells when the last process has left
 * the group and all below it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/cleanup.h"

/* Bytes of a path, as in the line "0::PATH" of /proc/PID/cgroup. */
#define CGROUP_PATH_MAX 4095U
/* So many processes and groups are looked at below one; who has more is not listed whole. */
#define CGROUP_PROCESSES_MAX 65536U
#define CGROUP_GROUPS_MAX    4096U

enum {
        _CGROUP_E_SUCCESS,
        CGROUP_E_NONE,       /* there is no such group (any more), or none that can have processes */
        CGROUP_E_INCOMPLETE, /* it has more than is listed, or something of it cannot be read */
};

typedef struct Cgroup {
        int events_fd;
        uint64_t id;
        uid_t uid; /* to whom its directory belongs: root, or to whom it was delegated */
        char path[];
} Cgroup;

/* Absolute, without empty, "." and ".." components, and not the root, which is nobody's own. */
bool cgroup_path_is_valid(const char *path);

/* Opens the group of @path; a threaded one, in which threads are and not processes, counts as none. */
int cgroup_new(const char *path, Cgroup **ret_cgroup);
Cgroup *cgroup_free(Cgroup *cgroup);
DEFINE_CLEANUP(Cgroup *, cgroup_free)

/* Whether a process is in it or below it. Also has events_fd be quiet (EPOLLPRI) until that, or whether it is
 * frozen, changes. That a group is removed rings nowhere: none with a process in it can be. */
int cgroup_read_populated(const Cgroup *cgroup, bool *ret_populated);
/* Whether it has not been removed. Unlike cgroup_read_populated(), it leaves events_fd as it is: whoever
 * waits for that is still told. */
bool cgroup_is_there(const Cgroup *cgroup);
/* Whether @path, of another group or a process, is the group's or below it. */
bool cgroup_has_path(const Cgroup *cgroup, const char *path);
/*
 * The path of the group that @pid is in. CGROUP_E_NONE: there is no such process, or it is in none that can
 * be named from here. Whether @pid was the process that is meant all along, the caller asks its pidfd.
 */
int cgroup_path_of_process(pid_t pid, char **ret_path);
/* The processes in it and below it, in ascending order; with CGROUP_E_INCOMPLETE, some of them. */
int cgroup_list(const Cgroup *cgroup, pid_t **ret_pids, size_t *ret_n);
/*
 * Sends @sig to each process in it or below it; with SIGKILL, also to those that they start meanwhile, as far
 * as that comes to an end. 0, CGROUP_E_NONE if there was none, or -errno: at least one could not be sent it.
 */
int cgroup_kill(const Cgroup *cgroup, int sig);

/*
 * The systemd system unit whose group @path is, or is below: its first component that is no slice. NULL in
 * *@ret_unit if there is none.
 */
int cgroup_get_unit(const char *path, char **ret_unit);
