/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The broker's errors: a sentence for each, and the exit status. */

#include <json-c/json.h>

#include "speadm/speadm.h"

/* Tells @error, a full name, with its @parameters. Returns the exit status. */
int failure_tell(const Speadm *speadm, const char *error, struct json_object *parameters);

/* The exit status alone: @fields are those of the error, or of a Refusal. */
int failure_exit_status(const char *error, const struct json_object *fields);
/* The name without its interface: "Busy". */
const char *failure_short_name(const char *error);
