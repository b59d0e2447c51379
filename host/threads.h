/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The threads of a process that run VCPUs, and where each may run. They are known by the names that VMMs give
 * them, which whoever is named can choose freely: good enough to tell a VMM about itself, and for nothing
 * else. A process may have a hundred thousand threads, so a walk stops when its caller has had enough, and
 * goes on later where it was.
 */

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "host/cgroup.h"
#include "util/cpuset.h"

enum {
        _THREADS_E_SUCCESS,
        THREADS_E_GONE,  /* there is no such process or thread, or it is not to be seen */
        THREADS_E_END,   /* all have been walked */
        THREADS_E_LATER, /* as many have been looked at as the caller wanted */
};

/* True if a VMM names a thread so that runs a VCPU. */
bool thread_is_vcpu(const char *name);

/* The CPUs that @tid may run on, of those on line. THREADS_E_GONE. */
int thread_get_affinity(pid_t tid, CpuSet *ret_cpus);

typedef struct ThreadWalk {
        DIR *dir;    /* of a process, or NULL */
        FILE *group; /* of a control group, or NULL; neither: there is no walk */
} ThreadWalk;

#define THREAD_WALK_NULL ((ThreadWalk){0})

/* Begins with the first thread of @pid. THREADS_E_GONE. */
int thread_walk_begin(pid_t pid, ThreadWalk *ret_walk);
/* Begins with the first thread of those that are in @cgroup itself, not below it. THREADS_E_GONE. */
int thread_walk_begin_group(const Cgroup *cgroup, ThreadWalk *ret_walk);
bool thread_walk_is_open(const ThreadWalk *walk);
/*
 * The next thread that runs a VCPU, looking at @max threads at most, of which *@max is left. THREADS_E_END,
 * or THREADS_E_LATER: go on with this walk. The pid may have become another process's since the walk began:
 * whoever holds its pidfd asks that when the walk is over.
 */
int thread_walk_next(ThreadWalk *walk, unsigned *max, pid_t *ret_tid, CpuSet *ret_cpus);
void thread_walk_end(ThreadWalk *walk);
