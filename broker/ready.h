/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Tells systemd that the start, or a reload, is done. It waits for that word and has nothing else to go by,
 * so the word is said again until it has got through.
 */

#include <systemd/sd-event.h>

#include "util/cleanup.h"

typedef struct Ready Ready;

int ready_new(sd_event *event, Ready **ret_ready);
Ready *ready_free(Ready *ready);
DEFINE_CLEANUP(Ready *, ready_free)

/* READY=1, now or as soon as the loop can. @status: a line for 'systemctl status', or NULL. */
void ready_tell(Ready *ready, const char *status);
