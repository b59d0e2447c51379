/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once
#include "policy/assignment.h"
int assignment_store_save(int root_fd, const AssignmentTable *table, AssignmentOrigin origin,
                          const char *boot_id);
int assignment_store_load(int root_fd, AssignmentOrigin origin, const char *boot_id, AssignmentTable *table,
                          char **ret_problem);
