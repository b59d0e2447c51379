/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a Watch stream begins with: all leases, host sessions and instances, as they are at one moment, when
 * the last part of it is written.
 */

#include <stdbool.h>

#include "util/cleanup.h"
#include "varlink/json-write.h"

typedef struct Manager Manager;
typedef struct Snapshot Snapshot;

/* NULL: no memory. */
Snapshot *snapshot_new(Manager *manager);
Snapshot *snapshot_free(Snapshot *snapshot);
DEFINE_CLEANUP(Snapshot *, snapshot_free)

/*
 * Writes some more of the member "snapshot" to @w, where nothing else is written until it is whole: true.
 * What changes from then on is to be told. If @w has an error it is as good as whole; @snapshot may be NULL
 * then.
 */
bool snapshot_write_part(Snapshot *snapshot, JsonWriter *w);
