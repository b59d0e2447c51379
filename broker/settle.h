/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Brings the model back in line with the facts, once per turn of the loop and only where something is dirty:
 * instances, then leases that are no longer allowed, then deadlines, then waiters in order, then contention.
 */

typedef struct Manager Manager;

void settle(Manager *manager);
