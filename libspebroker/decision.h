/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <spebroker/spebroker.h>

#include "util/cleanup.h"

DEFINE_CLEANUP(struct spebroker_decision *, spebroker_decision_unref)

/* From the parameters of Query's reply, (decision: Decision); takes a reference. -EPROTO, -ENOMEM. */
int decision_new(struct json_object *parameters, struct spebroker_decision **ret_decision);
