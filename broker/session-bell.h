/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * When the kernel's table of sessions is read, besides for a lease that is about to be granted: when the
 * arbiter's doorbell rings.
 */

typedef struct Manager Manager;

/*
 * Listens to the arbiter that there is now (to nothing, if there is none), forgets what the last one's table
 * said, and reads. To be called whenever arbitration_get_arbiter() answers differently than before.
 */
int sessions_listen(Manager *manager);
/* Stops listening: before the arbiter goes. */
void sessions_deafen(Manager *manager);
