/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The last pass but one of settle: who stands against whom. */

typedef struct Manager Manager;

void settle_contention(Manager *manager);
/* A lease holds other CPUs than before: if that can make a difference, has settle look. */
void contention_may_change(Manager *manager);
