/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What query and run ask for. */

#include "speadm/speadm.h"

/* Writes the member "request". Returns SPEADM_USAGE, told, if the arguments make none. */
int request_check(const Arguments *arguments);
void request_write(JsonWriter *writer, const Arguments *arguments);

/* The command line, options and all, that asks for @offer instead: ready to paste. */
void request_print_offer(const Arguments *arguments, const char *verb, const struct json_object *offer);
