/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * sd_notify() takes a descriptor and memory, which may be what there is none of just then. The timer has all
 * that it needs before that.
 */

#include "broker/ready.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "broker/log.h"
#include "broker/manager.h"

#define RETRY_USEC  UINT64_C(100000)
#define STATUS_SIZE 256U

struct Ready {
        sd_event_source *timer;   /* on: it has still to be told */
        char status[STATUS_SIZE]; /* empty: none, or it has been told */
};

/* Without a socket to tell it to, or with one that nobody reads, nobody waits for it. */
static bool is_for_want(int error) {
        return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == EAGAIN;
}

/* 0: that is it; else why it has to be told again. */
static int tell(Ready *ready) {
        char text[sizeof("READY=1\nSTATUS=") + STATUS_SIZE] = "READY=1";
        int r;

        if (*ready->status)
                (void)snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", ready->status);
        r = sd_notify(0, text);
        if (is_for_want(-r))
                return r;

        ready->status[0] = '\0';
        return 0;
}

static int again(sd_event_source *timer) {
        int r;

        r = sd_event_source_set_time_relative(timer, RETRY_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *timer, uint64_t usec, void *userdata) {
        Ready *ready = userdata;

        (void)usec;
        return tell(ready) < 0 ? again(timer) : 0;
}

int ready_new(sd_event *event, Ready **ret_ready) {
        _cleanup_(ready_freep) Ready *ready = NULL;
        int r;

        ready = calloc(1, sizeof(*ready));
        if (!ready)
                return -ENOMEM;

        r = sd_event_add_time_relative(event, &ready->timer, CLOCK_MONOTONIC, 0, 0, on_timer, ready);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(ready->timer, MANAGER_PRIORITY_SETTLE + 1);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(ready->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret_ready = steal_ptr(ready);
        return 0;
}

Ready *ready_free(Ready *ready) {
        if (!ready)
                return NULL;

        sd_event_source_disable_unref(ready->timer);
        free(ready);
        return NULL;
}

void ready_tell(Ready *ready, const char *status) {
        int r;

        if (status)
                (void)snprintf(ready->status, sizeof(ready->status), "%s", status);
        r = tell(ready);
        if (r == 0)
                return;

        log_message(LOG_WARNING, "cannot tell systemd that all is ready: %s; it is told later", strerror(-r));
        r = again(ready->timer);
        if (r < 0)
                log_message(LOG_ERR, "nor can it be told later: %s", strerror(-r));
}
