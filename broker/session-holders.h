/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The processes that have sessions, each watched by pidfd: by the time that one fires, the kernel has closed
 * what its process had.
 */

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define SESSION_HOLDER_BUCKETS 256U

typedef struct SessionHolder SessionHolder;
/* A process of them has ended. It is watched no more. */
typedef void (*SessionHolderFn)(pid_t process, void *userdata);

typedef struct SessionHolders {
        sd_event *event;
        SessionHolderFn ended;
        void *userdata;
        LIST_HEAD(SessionHolderBucket, SessionHolder) by_pid[SESSION_HOLDER_BUCKETS];
} SessionHolders;

/* What sys/queue.h has for a head is all zero. */
#define SESSION_HOLDERS_NULL(e, fn, data) ((SessionHolders){.event = (e), .ended = (fn), .userdata = (data)})

void session_holders_deinit(SessionHolders *holders);

/* Those that are not added between the two are watched no more. */
void session_holders_begin(SessionHolders *holders);
/* -ESRCH: there is no such process any more; else what keeps it from being watched. */
int session_holders_add(SessionHolders *holders, pid_t process);
void session_holders_end(SessionHolders *holders);
