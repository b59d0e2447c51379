/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "libspebroker/context.h"

/* The lease as it is listed now, among those of @vm, or of all if that is NULL. SPEBROKER_ENDED if it is not.
 */
int lease_find(struct spebroker *context, const char *vm, const char *lease_id,
               struct spebroker_lease **ret_lease);
