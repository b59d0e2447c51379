/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Tells systemd that all is well, as often as WatchdogSec= of the unit wants to hear it.
 */

#include <systemd/sd-event.h>

/* NULL in *@ret_source: nobody wants to hear it. */
int watchdog_new(sd_event *event, sd_event_source **ret_source);
