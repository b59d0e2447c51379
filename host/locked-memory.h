/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How much memory a process has locked: VmLck of /proc/PID/status, which everybody may read. A process locks
 * and unlocks what it likes with mlock(), but what the kernel has charged to it for something else (KVM, for
 * the profiling buffers of a VM) stays in the sum until that is gone.
 */

#include <stdint.h>

#include "host/owner.h"

/* OWNER_E_NO_PROCESS if it is gone, or /proc does not show it. */
int locked_memory_read(const Owner *owner, uint64_t *ret_bytes);
