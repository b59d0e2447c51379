/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What query and run ask for. */

#include "speadm/speadm.h"

/* Returns SPEADM_USAGE, told, if the arguments make no request. */
int request_check(const Arguments *arguments);
/* Writes the member "request"; @id is its requestId, or NULL. */
void request_write(JsonWriter *writer, const Arguments *arguments, const char *id);

/* The command line, options and all, that asks for @offer instead: ready to paste. */
void request_print_offer(const Arguments *arguments, const char *verb, const struct json_object *offer);
