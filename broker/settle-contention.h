/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The last pass but one of settle: who stands against whom. */

#include "util/cpuset.h"

typedef struct Manager Manager;

void settle_contention(Manager *manager);
/* @cpus are held by another lease than before, or by none: if that can make a difference, has settle look. */
void contention_may_change(Manager *manager, const CpuSet *cpus);
