/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Assignments as the daemon keeps them: those of the configuration, applied to the instances that are there,
 * those that administrators made, saved before they hold, and the Assign calls that wait until nothing is in
 * the way any more.
 */

#include <stdbool.h>
#include <sys/queue.h>

#include "policy/assignment.h"
#include "util/cleanup.h"
#include "util/cpuset.h"
#include "varlink/server/server.h"

typedef struct Manager Manager;
typedef struct Lease Lease;

typedef struct AssignWait {
        LIST_ENTRY(AssignWait) link;
        VarlinkCall *call;
        CpuSet cpus;
        unsigned n_barred; /* when it was last told */
        bool linked;
} AssignWait;

/* Puts the configuration's assignments into the table anew; Instance= means the CPUs it has now. */
int assign_apply_config(Manager *manager);
/* Logs the configuration's assignments that match nothing on this host. */
void assign_warn_unmatched(const Manager *manager);
/* Reads what was saved. Problems are logged; nothing that cannot be read is lost. */
int assign_load(Manager *manager);

/*
 * Assigns, or unassigns persistent and runtime ones, and saves: the new table holds only if it could be
 * saved, whole. Marks the model dirty.
 */
int assign_set(Manager *manager, const CpuSet *cpus, AssignmentOwner owner, const char *vm,
               AssignmentOrigin origin, uint64_t until_usec);
int assign_clear(Manager *manager, const CpuSet *cpus);

/* Drops those whose time is over; true if there were any. */
bool assign_expire(Manager *manager);
/* Tells whoever watches of the instances whose assignments have changed. */
void assign_tell(Manager *manager);

/* True if @lease is on its way out because assignments do not allow it on some of @cpus. */
bool assign_bars(const Manager *manager, const Lease *lease, const CpuSet *cpus);
/* Of @cpus, those on which assignments allow no host session. */
void assign_barred_to_sessions(const Manager *manager, const CpuSet *cpus, CpuSet *ret_cpus);
/* True if a lease or a session is still on some of @cpus where assignments do not allow it. */
bool assign_is_draining(const Manager *manager, const CpuSet *cpus);
/* How many such leases and sessions there are. */
unsigned assign_count_barred(const Manager *manager, const CpuSet *cpus);

/* A wait that has not begun: what can fail of it. */
int assign_wait_new(VarlinkCall *call, const CpuSet *cpus, AssignWait **ret_wait);
AssignWait *assign_wait_free(AssignWait *wait);
DEFINE_CLEANUP(AssignWait *, assign_wait_free)
/* Follows its call from now on, until nothing is in the way on its CPUs. */
void assign_wait_start(Manager *manager, AssignWait *wait);
/* Tells the waiting calls what has changed. */
void assign_answer_waits(Manager *manager);
