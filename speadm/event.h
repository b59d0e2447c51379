/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Events of the broker's as lines for people, each with the time. */

#include <json-c/json.h>

void event_print(const struct json_object *event);

/* What an event says of one object. */
void event_print_lease(const char *change, const struct json_object *lease);
void event_print_instance(const struct json_object *instance);
void event_print_session(const char *change, const struct json_object *session);
