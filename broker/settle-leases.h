/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Brings the leases in line with the instances and the assignments, and tells of each that changed, once.
 */

typedef struct Manager Manager;

void settle_leases(Manager *manager);
