/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The operator's standing decisions, keyed by CPUs. At each origin an assignment carves its CPUs out of the
 * earlier ones of that origin, so at one origin a CPU has at most one; for a CPU the highest origin that
 * speaks of it decides, and where none does, the default owner.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/words.h"
#include "util/cpuset.h"

typedef struct Assignment {
        CpuSet cpus; /* never empty */
        AssignmentOwner owner;
        char *vm; /* NULL: every VM. Only for owner guest and any */
        AssignmentOrigin origin;
        uint64_t until_usec; /* CLOCK_REALTIME when it ends by itself, UINT64_MAX: never */
} Assignment;

typedef struct AssignmentTable {
        AssignmentOwner default_owner;
        /* All origins, disjoint within one; sorted by origin (rising), then lowest CPU. */
        Assignment **entries;
        size_t n;
        CpuSet spoken_of[_ASSIGNMENT_ORIGIN_MAX]; /* the union of each origin's: most sets carve nothing */
} AssignmentTable;

#define ASSIGNMENT_TABLE_NULL ((AssignmentTable){.default_owner = ASSIGNMENT_OWNER_ANY})
void assignment_table_deinit(AssignmentTable *table);

/*
 * Adds an assignment, carving its CPUs out of the others of its origin (those left empty are removed). Merges
 * with an equal one. On -ENOMEM nothing has changed.
 */
int assignment_table_set(AssignmentTable *table, const CpuSet *cpus, AssignmentOwner owner, const char *vm,
                         AssignmentOrigin origin, uint64_t until_usec);
/* Removes @cpus from all assignments of @origin. On -ENOMEM nothing has changed. */
int assignment_table_clear(AssignmentTable *table, const CpuSet *cpus, AssignmentOrigin origin);
/* Removes those that ended at or before @now_usec; true if there were any. */
bool assignment_table_expire(AssignmentTable *table, uint64_t now_usec);
/* The next until_usec, or UINT64_MAX. */
uint64_t assignment_table_next_expiry(const AssignmentTable *table);

/* The CPUs of which @a and @b do not say the same; the default owners are not compared. */
void assignment_table_diff(const AssignmentTable *a, const AssignmentTable *b, CpuSet *ret_cpus);

/* The assignment that decides for @cpu, or NULL: the default owner. */
const Assignment *assignment_table_lookup(const AssignmentTable *table, unsigned cpu);

/*
 * Takes out of *@cpus every CPU on which the VM may not have leases: those of owner host or none, those of
 * another VM, and those of any VM if @vm_origin is VM_ORIGIN_CALLER (a name that anybody can claim).
 */
void assignment_table_restrict(const AssignmentTable *table, const char *vm, VmOrigin vm_origin,
                               CpuSet *cpus);
/* All CPUs, of whatever instance, that assignment_table_restrict() would leave. */
void assignment_table_allowed_cpus(const AssignmentTable *table, const char *vm, VmOrigin vm_origin,
                                   CpuSet *ret_cpus);
/* The CPUs assigned to exactly this VM (none for VM_ORIGIN_CALLER). */
void assignment_table_own_cpus(const AssignmentTable *table, const char *vm, VmOrigin vm_origin,
                               CpuSet *ret_cpus);
/* All CPUs that are @owner's, for whatever VM; without any assignment, if it is the default owner. */
void assignment_table_owned_by(const AssignmentTable *table, AssignmentOwner owner, CpuSet *ret_cpus);
/*
 * Who decides for @cpu (owner and VM, NULL: none; borrowed from the table), and all CPUs for which the answer
 * is the same.
 */
void assignment_table_alike(const AssignmentTable *table, unsigned cpu, AssignmentOwner *ret_owner,
                            const char **ret_vm, CpuSet *ret_cpus);
