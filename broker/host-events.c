/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Uevents are hints, the host's tree is the truth: all that one does is to ask for a rescan, whichever tree
 * was named (with --root it may be another one than the uevent is about). Rescans are rare by construction:
 *
 * - all that ask for one share one timer, so that a batch of uevents is one rescan, after it has been read;
 * - between two rescans are RESCAN_INTERVAL_USEC, and nine tenths of the time, however many uevents come;
 * - the sources here have the priority of the connections, which therefore have their turns, too.
 *
 * A VM that comes or goes asks for nothing (host/uevent.h). What the rescan changes, settle() tells.
 */

#include "broker/host-events.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>

#include "broker/guest.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "host/uevent.h"
#include "util/clock.h"

#define RESCAN_INTERVAL_USEC (10 * USEC_PER_MSEC)
#define RESCAN_PAUSE_FACTOR  9 /* to what it took */

/* When to look again without a uevent: the time doubles with each such look. */
#define AGAIN_FIRST_USEC (50 * USEC_PER_MSEC)
#define AGAIN_MAX_USEC   USEC_PER_MIN

struct HostEvents {
        Manager *manager;
        UeventMonitor *monitor; /* NULL if there are no uevents for us */
        sd_event_source *monitor_source;
        sd_event_source *timer;
        uint64_t due_usec;      /* when the next rescan is; UINT64_MAX: none is needed */
        uint64_t earliest_usec; /* none before that */
        bool again;             /* the next one is because of what the last one found, and not for a uevent */
        uint64_t again_usec;    /* how long it was put off */
        bool told;              /* the journal knows that the last one failed */
        HostEventsCounters counters;
};

static void rescan_at(HostEvents *events, uint64_t usec, bool again) {
        if (usec < events->earliest_usec)
                usec = events->earliest_usec;
        events->again = again;
        if (usec >= events->due_usec)
                return;

        events->due_usec = usec;
        (void)sd_event_source_set_time(events->timer, usec);
        (void)sd_event_source_set_enabled(events->timer, SD_EVENT_ONESHOT);
}

static int on_uevents(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents,
                      void *userdata) {
        HostEvents *events = userdata;
        UeventNews news;

        uevent_monitor_receive(events->monitor, &news);
        events->counters.uevents += news.n_host;
        events->counters.uevents_of_vms += news.n_vms;
        events->counters.uevents_spoofed += news.n_spoofed;
        events->counters.uevent_losses += news.n_lost;

        if (news.kinds & UEVENT_KVM)
                guest_forget(events->manager);
        if (news.kinds & (UEVENT_TOPOLOGY | UEVENT_KVM))
                rescan_at(events, 0, false);
        return 0;
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        HostEvents *events = userdata;
        uint64_t begin = clock_now_usec(), end, pause;
        int r;

        events->due_usec = UINT64_MAX;
        r = manager_rescan(events->manager);
        if (r < 0 && !events->told)
                log_message(
                        LOG_WARNING,
                        "cannot look at the host again: %s; what is known of it stays, until the next try",
                        strerror(-r));
        events->told = r < 0;

        end = clock_now_usec();
        pause = (end - begin) * RESCAN_PAUSE_FACTOR;
        events->earliest_usec = end + (pause > RESCAN_INTERVAL_USEC ? pause : RESCAN_INTERVAL_USEC);
        return 0;
}

static void no_uevents(const char *reason) {
        log_message(
                LOG_WARNING,
                "no uevents: %s; changes of the host are seen only at 'speadm rescan', or when the broker "
                "starts",
                reason);
}

/* Without uevents the broker does what it can: only that there is no memory is an error. */
static int start_monitor(HostEvents *events) {
        const char *reason;
        int r;

        r = uevent_monitor_new(&events->monitor, &reason);
        if (r > 0)
                no_uevents(reason);
        if (r)
                return r < 0 ? r : 0;

        return sd_event_add_io(events->manager->event, &events->monitor_source,
                               uevent_monitor_fd(events->monitor), EPOLLIN, on_uevents, events);
}

int host_events_new(Manager *manager, HostEvents **ret_events) {
        _cleanup_(host_events_freep) HostEvents *events = calloc(1, sizeof(*events));
        int r;

        if (!events)
                return -ENOMEM;

        events->manager = manager;
        events->due_usec = UINT64_MAX;
        r = sd_event_add_time(manager->event, &events->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_timer,
                              events);
        if (r >= 0)
                r = start_monitor(events);
        if (r < 0)
                return r;

        *ret_events = steal_ptr(events);
        return 0;
}

HostEvents *host_events_free(HostEvents *events) {
        if (!events)
                return NULL;

        sd_event_source_disable_unref(events->monitor_source);
        sd_event_source_disable_unref(events->timer);
        uevent_monitor_free(events->monitor);
        free(events);
        return NULL;
}

static bool has_partial(const Topology *topology) {
        for (size_t i = 0; i < topology->n_spus; i++)
                if (!topology->spus[i].ready)
                        return true;
        return false;
}

/*
 * A scan that failed is tried again until it works. One that found a half-registered instance is repeated,
 * too: sysfs tells of a new device once its own files are there, but a driver may add more, or change what
 * they say, without a word. One that stays partial is left alone after some 100 seconds.
 */
void host_events_scanned(HostEvents *events, int r) {
        bool again = events->again && events->due_usec == UINT64_MAX; /* else it was not the timer's */

        events->again = false;
        events->due_usec = UINT64_MAX; /* whatever asked for one has it */
        (void)sd_event_source_set_enabled(events->timer, SD_EVENT_OFF);
        if (r == 0 && !has_partial(events->manager->topology))
                return;

        events->again_usec = again ? events->again_usec * 2 : AGAIN_FIRST_USEC;
        if (events->again_usec > AGAIN_MAX_USEC) {
                if (r == 0)
                        return;
                events->again_usec = AGAIN_MAX_USEC;
        }
        rescan_at(events, clock_now_usec() + events->again_usec, true);
}

const HostEventsCounters *host_events_counters(const HostEvents *events) {
        return &events->counters;
}
