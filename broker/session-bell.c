/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A ring says only that there is something to read, so any number of them is one read. A first ring is
 * answered at once; after that the bell is not listened to for a while, at least BELL_PAUSE_USEC, and nine
 * times the CPU time that it took to read, decide and tell: a process that opens and closes events in a loop,
 * or ten thousand sessions, leave most of the time to others. Clients are answered after it, so that nobody
 * is told what was true before the bell rang; owners' exits come first.
 */

#include "broker/session-bell.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "broker/log.h"
#include "broker/manager.h"
#include "broker/session-refusal.h"
#include "broker/settle.h"
#include "util/clock.h"

#define BELL_PAUSE_USEC   (10 * USEC_PER_MSEC)
#define BELL_PAUSE_FACTOR 9 /* to what it took */

/* Settle's, which follows in the same turn. */
#define BELL_PRIORITY MANAGER_PRIORITY_SETTLE

/* That it failed is logged once; the next ring is the next try. */
static void note(SessionTable *table, int r) {
        if (r < 0 && !table->failed)
                log_message(LOG_WARNING,
                            "cannot read the kernel's table of host sessions: %s; what is known of them "
                            "stays, until the next try",
                            strerror(-r));
        table->failed = r < 0;
}

static void answer(Manager *manager) {
        Arbiter *arbiter = arbitration_get_arbiter(manager->arbitration);
        SessionTable *table = &manager->sessions;
        uint64_t begin = clock_cpu_usec(), pause;
        bool changed;
        int r;

        /* First what was refused: by whom it was may be gone already in what is read then. */
        r = arbiter_process(arbiter, session_refused, manager);
        if (arbiter_get_hook(arbiter) == ARBITER_HOOK_TRACEPOINTS)
                session_doubt_settle(manager); /* it may have been a close */
        if (r == 0)
                r = sessions_read(manager, &changed);
        note(table, r);
        if (manager->dirty)
                settle(manager); /* its time counts, too */

        if (!table->bell) /* by now there is another arbiter, or none */
                return;

        pause = (clock_cpu_usec() - begin) * BELL_PAUSE_FACTOR;
        (void)sd_event_source_set_enabled(table->bell, SD_EVENT_OFF);
        (void)sd_event_source_set_time(
                table->bell_timer, clock_now_usec() + (pause > BELL_PAUSE_USEC ? pause : BELL_PAUSE_USEC));
        (void)sd_event_source_set_enabled(table->bell_timer, SD_EVENT_ONESHOT);
}

static int on_bell(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents,
                   void *userdata) {
        answer(userdata);
        return 0;
}

/* The pause is over. What rang meanwhile still does; what the kernel was about to decide on, it has. */
static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        Manager *manager = userdata;
        SessionTable *table = &manager->sessions;

        (void)sd_event_source_set_enabled(table->bell, SD_EVENT_ON);
        if (!table->current && !table->failed)
                answer(manager);
        return 0;
}

static int add_sources(Manager *manager, int fd) {
        SessionTable *table = &manager->sessions;
        int r;

        r = sd_event_add_io(manager->event, &table->bell, fd, EPOLLIN, on_bell, manager);
        if (r >= 0)
                r = sd_event_source_set_priority(table->bell, BELL_PRIORITY);
        if (r >= 0)
                r = sd_event_add_time(manager->event, &table->bell_timer, CLOCK_MONOTONIC, UINT64_MAX, 1,
                                      on_timer, manager);
        if (r >= 0)
                r = sd_event_source_set_enabled(table->bell_timer, SD_EVENT_OFF);
        return r;
}

int sessions_listen(Manager *manager) {
        const Arbiter *arbiter = arbitration_get_arbiter(manager->arbitration);
        int fd = arbiter ? arbiter_get_fd(arbiter) : -1, r;
        bool changed;

        sessions_deafen(manager);
        if (fd >= 0) {
                r = add_sources(manager, fd);
                if (r < 0) {
                        sessions_deafen(manager);
                        return r;
                }
        }

        manager->sessions.current = false;
        r = sessions_read(manager, &changed);
        note(&manager->sessions, r);
        session_doubt_settle(manager); /* those who have them are watched from now on */
        return 0;
}

void sessions_deafen(Manager *manager) {
        SessionTable *table = &manager->sessions;

        table->bell = sd_event_source_disable_unref(table->bell);
        table->bell_timer = sd_event_source_disable_unref(table->bell_timer);
}
