/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <spebroker/spebroker.h>

#include "util/cleanup.h"

/* An error reply: its name and its parameters (NULL: none). Takes a reference. -EPROTO, -ENOMEM. */
int refusal_new_error(const char *error, struct json_object *parameters,
                      struct spebroker_refusal **ret_refusal);

/* A Refusal object of a decision. Takes a reference. -EPROTO, -ENOMEM. */
int refusal_new_object(struct json_object *object, struct spebroker_refusal **ret_refusal);

struct spebroker_refusal *refusal_free(struct spebroker_refusal *refusal);
DEFINE_CLEANUP(struct spebroker_refusal *, refusal_free)
