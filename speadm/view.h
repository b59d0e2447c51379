/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What there was by the events so far, so that it can be told what is another after some were missed.
 */

#include <json-c/json.h>

/* Objects by what tells them apart; NULL before the first snapshot. */
typedef struct View {
        struct json_object *leases;
        struct json_object *instances;
        struct json_object *sessions;
} View;

#define VIEW_NULL ((View){0})
void view_deinit(View *view);

/* An event has been told: 0 or -ENOMEM. A snapshot replaces everything, and what it changes is printed. */
int view_update(View *view, const struct json_object *event);
