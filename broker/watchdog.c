/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * sd_event_set_watchdog() says that the loop turns; but one that turns for the broker's own work alone, as
 * a source above the clients' is never done, serves nobody. So this is a timer of its own, the last of what
 * comes before the clients: it is heard only from a loop that has got that far. Clients cannot hold it up,
 * however many they are.
 */

#include "broker/watchdog.h"

#include <systemd/sd-daemon.h>
#include <time.h>

#include "broker/manager.h"

/* A part of the time after which systemd loses patience, and how exact that has to be. */
#define INTERVAL(usec) ((usec) / 2)
#define ACCURACY(usec) ((usec) / 8 + 1)

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        uint64_t patience;
        int r;

        (void)usec;
        (void)userdata;
        (void)sd_notify(0, "WATCHDOG=1");
        if (sd_watchdog_enabled(0, &patience) <= 0)
                return 0;

        r = sd_event_source_set_time_relative(source, INTERVAL(patience));
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int watchdog_new(sd_event *event, sd_event_source **ret_source) {
        sd_event_source *source;
        uint64_t patience;
        int r;

        r = sd_watchdog_enabled(0, &patience);
        if (r < 0)
                return r;
        if (r == 0) {
                *ret_source = NULL;
                return 0;
        }

        r = sd_event_add_time_relative(event, &source, CLOCK_MONOTONIC, 0, ACCURACY(patience), on_timer,
                                       NULL);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(source, MANAGER_PRIORITY_SETTLE + 1);
        if (r < 0) {
                sd_event_source_disable_unref(source);
                return r;
        }

        *ret_source = source;
        return 0;
}
