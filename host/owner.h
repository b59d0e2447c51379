/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A process that may own leases, held by pidfd: as long as the pidfd is open and not readable, the pid means
 * this process and no other. Everything else about it (start time, user, command, unit, affinity) is read
 * from the running kernel's /proc once, when the owner is made, and checked to be of the same process by
 * asking the pidfd again afterwards.
 *
 * Or a control group (host/cgroup.h): all processes that are in it or below it at a time, none too.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "host/cgroup.h"
#include "util/cleanup.h"
#include "util/cpuset.h"

enum {
        _OWNER_E_SUCCESS,
        OWNER_E_NO_PROCESS, /* it is gone, was never there, or is not a process (a thread) */
        OWNER_E_NOT_PEER,   /* there is a process of that pid, but it cannot be the one that was meant */
        OWNER_E_NO_CGROUP,  /* there is no such control group */
};

/* Bytes of /proc/PID/status: a process may have 65,536 supplementary groups. */
#define OWNER_STATUS_MAX (1U << 20)

/* Room for owner_format(). */
#define OWNER_TEXT_MAX (CGROUP_PATH_MAX + sizeof("cgroup "))

typedef struct Owner {
        pid_t pid;           /* 0: it is a control group */
        int pidfd;           /* -1 then */
        uint64_t start_time; /* ticks since boot, /proc/PID/stat field 22: names the process for ever */
        uid_t uid;           /* real uid; of a group, its directory's */
        char command[17];    /* comm; empty if unreadable, and of a group */
        Cgroup *cgroup;      /* NULL: it is a process */
        char *unit;          /* systemd system unit, or NULL */
        char *machine;       /* systemd machine, or NULL */
} Owner;

/* Opens @pid. */
int owner_new(pid_t pid, Owner **ret_owner);
/* The process of @pidfd (borrowed). OWNER_E_NO_PROCESS also for a descriptor of something else. */
int owner_new_pidfd(int pidfd, Owner **ret_owner);
/*
 * Opens the peer of a connection: through @pidfd (borrowed) where the kernel gave one, else by @pid, which
 * then must have uid @uid and have been started before the connection was accepted.
 */
int owner_new_peer(pid_t pid, uid_t uid, int pidfd, uint64_t accepted_boottime_usec, Owner **ret_owner);
/* Opens the control group of @path: OWNER_E_NO_CGROUP. */
int owner_new_cgroup(const char *path, Owner **ret_owner);
Owner *owner_free(Owner *owner);
DEFINE_CLEANUP(Owner *, owner_free)

/* A group is, until it is removed. */
bool owner_is_alive(const Owner *owner);
/* How people are told of it: "COMMAND (pid PID)", or in short "pid PID"; "cgroup PATH". Return @text. */
const char *owner_format(const Owner *owner, char text[static OWNER_TEXT_MAX]);
const char *owner_format_short(const Owner *owner, char text[static OWNER_TEXT_MAX]);
/* True if it was started at or before @boottime_usec: it can be the peer of a connection accepted then. */
bool owner_started_before(const Owner *owner, uint64_t boottime_usec);
/* The CPUs that the process may run on (union over its threads is not taken: its main thread's). Of a group,
 * that is not known: OWNER_E_NO_PROCESS. */
int owner_get_affinity(const Owner *owner, CpuSet *ret_cpus);

/* "qemu-3-web1" is "web1": libvirt's machine names change with every start. Returns a pointer into @machine.
 */
const char *owner_machine_vm_name(const char *machine);
/* The VM's name by the owner's unit: NULL for units that stand for a login and not a service
 * (session-*.scope, user@*.service, init.scope). */
const char *owner_unit_vm_name(const char *unit);
