/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Assignments made with 'speadm assign', on disk: one file per origin, below the root
 * (broker/assignment-record.h has what is in it). Persistent ones last; runtime ones count only in the boot
 * in which they were made.
 */

#include "policy/assignment.h"

#define ASSIGNMENT_STORE_PERSISTENT_PATH "var/lib/spe-broker/assignments.json"
#define ASSIGNMENT_STORE_RUNTIME_PATH    "run/spe-broker/assignments.json"

enum {
        _ASSIGNMENT_STORE_E_SUCCESS,
        ASSIGNMENT_STORE_E_SET_ASIDE, /* the file is not one of ours, or torn: it is now called *.bad */
};

/* Where those of @origin are, below the root. */
const char *assignment_store_path(AssignmentOrigin origin);

/* Writes the entries of @origin, persistent or runtime, whole or not at all. Returns 0 or -errno. */
int assignment_store_save(int root_fd, const AssignmentTable *table, AssignmentOrigin origin,
                          const char *boot_id);
/*
 * Writes the entries of both, which are those of @before but for @cpus: both or, if it fails or whoever calls
 * dies, neither. Returns 0 or -errno.
 */
int assignment_store_save_both(int root_fd, const AssignmentTable *before, const AssignmentTable *table,
                               const CpuSet *cpus, const char *boot_id);

/*
 * Adds what the file of @origin says to @table. An absent file, and the runtime file of another boot, say
 * nothing. A file that is not good is set aside whole and adds nothing; *@ret_problem is then the sentence
 * for the journal, which the caller frees.
 */
int assignment_store_load(int root_fd, AssignmentOrigin origin, const char *boot_id, AssignmentTable *table,
                          char **ret_problem);
