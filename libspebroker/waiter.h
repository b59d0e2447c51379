/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One descriptor that stays the same over all connections, for an event loop to wait for: readable when the
 * connection of the moment has something to say, or the time for the next attempt has come.
 */

#include <stdint.h>

typedef struct Waiter {
        int epoll_fd; /* -1: not open, and then nothing here does anything */
        int timer_fd;
        int fd; /* the connection that is in it, or -1 */
        short events;
} Waiter;

#define WAITER_NULL ((Waiter){.epoll_fd = -1, .timer_fd = -1, .fd = -1})

int waiter_open(Waiter *waiter);
void waiter_close(Waiter *waiter);

/*
 * Waits for poll()'s @events of @fd from now on, and for no other; -1: for none. A connection is taken out
 * before it is closed: after a fork() closing would not do that.
 */
int waiter_watch(Waiter *waiter, int fd, short events);

/* Readable from @deadline on, a point in time of CLOCK_MONOTONIC in microseconds; 0: at no time. */
int waiter_set_deadline(Waiter *waiter, uint64_t deadline);
