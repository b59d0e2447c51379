/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Host sessions as the rules see them: where they reach, and which leases that stands against. KVM switches
 * the SPU behind perf's back, so a CPU-wide session has silent holes wherever a VCPU with SPE runs; a task's
 * own event is scheduled out before a VCPU thread runs, so it loses nothing unless that thread is its target.
 */

#include <stdbool.h>

#include "policy/assignment.h"
#include "policy/words.h"
#include "util/cpuset.h"

/* Where all sessions together reach: what stands against a new lease. */
typedef struct SessionOccupancy {
        CpuSet cpu_wide;   /* CPU-wide sessions */
        CpuSet task_bound; /* task and taskcpu sessions */
        /*
         * Where the kernel keeps a lease from being held off at level reserve: all CPUs of an instance on
         * which there is any task-bound session, and CPUs where somebody's session is that nobody could see.
         */
        CpuSet unholdable;
} SessionOccupancy;

#define SESSION_OCCUPANCY_NULL ((SessionOccupancy){0})
/* Nothing conflicts with anything. */
bool session_occupancy_is_empty(const SessionOccupancy *sessions);

/* The CPUs where a session of @kind that reaches @reach stands against a lease of @mode on @cpus, of an owner
 * whose process is its target (@of_owner). @guest_cpus: those that assignments keep for guests. */
void session_conflicts(SessionKind kind, const CpuSet *reach, bool of_owner, LeaseMode mode,
                       const CpuSet *cpus, const CpuSet *guest_cpus, CpuSet *ret_cpus);

/*
 * The CPUs on which a new lease of @mode would conflict with present sessions. @own: where task-bound
 * sessions reach whose target is its owner. Nothing conflicts with a shared one.
 */
void session_occupancy_conflicts(const SessionOccupancy *sessions, LeaseMode mode, const CpuSet *own,
                                 const CpuSet *guest_cpus, CpuSet *ret_cpus);
