/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A process that is not there any more when it is to be watched is an end like any other, so there is no gap
 * between finding a session and watching who has it. A pid that another process has got meanwhile means a
 * watch too many, and no more.
 */

#include "broker/session-holders.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

struct SessionHolder {
        LIST_ENTRY(SessionHolder) link;
        SessionHolders *holders;
        pid_t process;
        int pidfd;
        sd_event_source *source;
        bool met;
};

static void holder_free(SessionHolder *holder) {
        sd_event_source_disable_unref(holder->source);
        if (holder->pidfd >= 0)
                close(holder->pidfd);
        free(holder);
}

static void holder_forget(SessionHolder *holder) {
        LIST_REMOVE(holder, link);
        holder_free(holder);
}

static struct SessionHolderBucket *bucket_of(SessionHolders *holders, pid_t process) {
        return &holders->by_pid[(unsigned)process % SESSION_HOLDER_BUCKETS];
}

static int on_end(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents,
                  void *userdata) {
        SessionHolder *holder = userdata;
        SessionHolders *holders = holder->holders;
        pid_t process = holder->process;

        holder_forget(holder);
        holders->ended(process, holders->userdata);
        return 0;
}

static int watch(SessionHolders *holders, pid_t process) {
        SessionHolder *holder = calloc(1, sizeof(*holder));
        int r;

        if (!holder)
                return -ENOMEM;

        *holder = (SessionHolder){.holders = holders, .process = process, .met = true};
        holder->pidfd = (int)syscall(SYS_pidfd_open, process, 0);
        r = holder->pidfd < 0 ? -errno
                              : sd_event_add_io(holders->event, &holder->source, holder->pidfd, EPOLLIN,
                                                on_end, holder);
        if (r < 0) {
                holder_free(holder);
                return r;
        }

        LIST_INSERT_HEAD(bucket_of(holders, process), holder, link);
        return 0;
}

int session_holders_add(SessionHolders *holders, pid_t process) {
        SessionHolder *holder;

        LIST_FOREACH(holder, bucket_of(holders, process), link)
                if (holder->process == process) {
                        holder->met = true;
                        return 0;
                }

        return watch(holders, process);
}

void session_holders_begin(SessionHolders *holders) {
        SessionHolder *holder;

        for (size_t i = 0; i < SESSION_HOLDER_BUCKETS; i++)
                LIST_FOREACH(holder, &holders->by_pid[i], link)
                        holder->met = false;
}

void session_holders_end(SessionHolders *holders) {
        SessionHolder *holder, *next;

        for (size_t i = 0; i < SESSION_HOLDER_BUCKETS; i++)
                for (holder = LIST_FIRST(&holders->by_pid[i]); holder; holder = next) {
                        next = LIST_NEXT(holder, link);
                        if (!holder->met)
                                holder_forget(holder);
                }
}

void session_holders_deinit(SessionHolders *holders) {
        session_holders_begin(holders);
        session_holders_end(holders);
}
