/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Uevents are the machine's, and anybody's: a broker in a test has none, so that nothing disturbs its quiet.
 */

#include "host/uevent.h"
#include "util/cleanup.h"

int uevent_monitor_new(_unused_ UeventMonitor **ret_monitor, const char **ret_reason) {
        *ret_reason = "this is a test";
        return UEVENT_E_UNAVAILABLE;
}

UeventMonitor *uevent_monitor_free(_unused_ UeventMonitor *monitor) {
        return NULL;
}

int uevent_monitor_fd(_unused_ const UeventMonitor *monitor) {
        return -1;
}

void uevent_monitor_receive(_unused_ UeventMonitor *monitor, _unused_ UeventNews *ret_news) {
}
