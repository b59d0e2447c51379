/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <spebroker/spebroker.h>

#include "util/cleanup.h"
#include "varlink/json-write.h"

DEFINE_CLEANUP(struct spebroker_request *, spebroker_request_unref)

/* Writes it as the member "request". */
void request_write(const struct spebroker_request *request, JsonWriter *writer);

/*
 * A copy. With @repeatable, one that can be acquired with again and gives the same lease: if the request has
 * no id, it gets one that is nobody else's. -ENOMEM and getrandom()'s.
 */
int request_copy(const struct spebroker_request *request, bool repeatable,
                 struct spebroker_request **ret_request);

/* True if both ask for the same, whatever their ids. */
bool request_asks_as(const struct spebroker_request *a, const struct spebroker_request *b);
bool request_has_id(const struct spebroker_request *request);
