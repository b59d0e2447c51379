/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <spebroker/spebroker.h>

#include "util/cleanup.h"

DEFINE_CLEANUP(struct spebroker_lease *, spebroker_lease_unref)

/* From the parameters of a reply, (lease: Lease, change: ?string); takes a reference. -EPROTO. */
int lease_new(struct json_object *parameters, struct spebroker_lease **ret_lease);

/* From a Lease object alone; takes a reference. */
int lease_new_listed(struct json_object *lease, struct spebroker_lease **ret_lease);

/* The same lease with another change (a literal, or @lease's own). -ENOMEM. */
int lease_new_changed(const struct spebroker_lease *lease, const char *change,
                      struct spebroker_lease **ret_lease);

/* The lease after its end, which nobody told: @reason is a literal. -ENOMEM. */
int lease_new_ended(const struct spebroker_lease *lease, const char *reason,
                    struct spebroker_lease **ret_lease);

/* True in that state. */
bool lease_is(const struct spebroker_lease *lease, const char *state);
