/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * For commands that wait for something of the broker's: it may go away meanwhile, and come back.
 */

#include "speadm/speadm.h"
#include "util/backoff.h"

/* Between two attempts to connect. */
#define RECONNECT_BACKOFF_USEC UINT64_C(5000000)

typedef struct Reconnect {
        Backoff backoff;
        bool away; /* it was told that the broker has gone */
} Reconnect;

#define RECONNECT_INIT ((Reconnect){.backoff = BACKOFF_INIT(RECONNECT_BACKOFF_USEC)})

/*
 * The connection is gone: tells so, once, and connects anew, which is tried until @deadline, or until there
 * is something to read from @wake_fd (-1: nothing). True if there is a connection.
 */
bool reconnect(Reconnect *reconnect, Speadm *speadm, int wake_fd, uint64_t deadline);

/* The broker has said something: it is back, and that is told, if it was away. */
void reconnect_done(Reconnect *reconnect);
