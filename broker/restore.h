/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Start is reconciliation: the leases that an earlier broker has granted come back into the model, before
 * anything is opened in the kernel and before anybody is answered. Those whose owners are gone end instead.
 */

#include "broker/manager.h"

/*
 * Reads the leases' files and takes over the owners' pidfds that systemd kept. Call it with the instances,
 * the assignments and the configuration in place, and before the first settle(): what it closes in the kernel
 * is then closed for these leases as well. -ENOMEM and the like; a lease that cannot be taken over for a
 * reason of its own is logged, and its file set aside.
 */
int leases_restore(Manager *manager);
