/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <spebroker/spebroker.h>

#include "util/cleanup.h"

DEFINE_CLEANUP(struct spebroker_checks *, spebroker_checks_unref)

/* From the parameters of CheckHost's reply, (checks: []Check); takes a reference. -EPROTO, -ENOMEM. */
int checks_new(struct json_object *parameters, struct spebroker_checks **ret_checks);
