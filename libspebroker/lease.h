/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <spebroker/spebroker.h>

#include "util/cleanup.h"

DEFINE_CLEANUP(struct spebroker_lease *, spebroker_lease_unref)

/* From the parameters of a reply, (lease: Lease, change: ?string); takes a reference. -EPROTO. */
int lease_new(struct json_object *parameters, struct spebroker_lease **ret_lease);

/* True while it is not yet granted. */
bool lease_is_queued(const struct spebroker_lease *lease);
