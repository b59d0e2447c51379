/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The last pass but one of settle: who stands against whom. */

#include "util/cpuset.h"

typedef struct Lease Lease;
typedef struct Manager Manager;

void settle_contention(Manager *manager);
/* @cpus are held by another lease than before, or by none: if that can make a difference, has settle look. */
void contention_may_change(Manager *manager, const CpuSet *cpus);
/* @lease has just been granted: who is told of that reads whether it is contended from the beginning. The
 * next settle tells of it as of any other. */
void contention_begin(Manager *manager, Lease *lease);
