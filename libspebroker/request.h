/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <spebroker/spebroker.h>

#include "util/cleanup.h"
#include "varlink/json-write.h"

DEFINE_CLEANUP(struct spebroker_request *, spebroker_request_unref)

/* Writes it as the member "request". */
void request_write(const struct spebroker_request *request, JsonWriter *writer);

/* True if acquiring again with it answers with the same lease. */
bool request_is_repeatable(const struct spebroker_request *request);
