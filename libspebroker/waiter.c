/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * An epoll instance with a connection and a timer in it. That descriptors of epoll can be polled themselves
 * is what makes this fit into anybody's event loop.
 */

#include "libspebroker/waiter.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "util/cleanup.h"
#include "util/clock.h"

static int control(const Waiter *waiter, int operation, int fd, short events) {
        /* The two sets of flags have the same values. */
        struct epoll_event event = {.events = (uint32_t)events};

        return epoll_ctl(waiter->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

int waiter_open(Waiter *waiter) {
        _cleanup_(waiter_close) Waiter new = WAITER_NULL;
        int r;

        new.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (new.epoll_fd < 0)
                return -errno;
        new.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (new.timer_fd < 0)
                return -errno;

        r = control(&new, EPOLL_CTL_ADD, new.timer_fd, POLLIN);
        if (r < 0)
                return r;

        *waiter = new;
        new = WAITER_NULL;
        return 0;
}

void waiter_close(Waiter *waiter) {
        closep(&waiter->timer_fd);
        closep(&waiter->epoll_fd);
        *waiter = WAITER_NULL;
}

int waiter_watch(Waiter *waiter, int fd, short events) {
        bool other = fd != waiter->fd;
        int r = 0;

        if (waiter->epoll_fd < 0 || (!other && events == waiter->events))
                return 0;

        if (other && waiter->fd >= 0) {
                (void)control(waiter, EPOLL_CTL_DEL, waiter->fd, 0);
                waiter->fd = -1;
        }
        if (fd >= 0)
                r = control(waiter, other ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, events);
        if (r < 0)
                return r;

        waiter->fd = fd;
        waiter->events = events;
        return 0;
}

int waiter_set_deadline(Waiter *waiter, uint64_t deadline) {
        const struct itimerspec when = {.it_value = clock_timespec(deadline)};

        if (waiter->timer_fd < 0)
                return 0;

        /* Setting it also takes back that it has expired. */
        return timerfd_settime(waiter->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) < 0 ? -errno : 0;
}
