/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who is served next. Users take turns, not connections: of two users, one with a thousand busy connections
 * and one with a single call, the latter waits for one turn of the former. A user's connections take turns in
 * that user's.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "varlink/server/users.h"

typedef struct Connection Connection;
typedef struct VarlinkServer VarlinkServer;

typedef struct Turns {
        sd_event_source *source; /* of the epoll */
        sd_event_source *rest_timer;
        int epoll_fd; /* all connections, and wake_fd */
        int wake_fd;  /* an eventfd, readable while there is something to do that no socket tells */
        bool awake;   /* it is */
        bool running; /* a turn is: whether there is more to do is seen at its end */
        UserQueue fresh;
        UserQueue round;
        UserQueue resting;
        unsigned n_ready;           /* connections that have something to do, of users who do not rest */
        uid_t last_uid;             /* whose turn it was */
        uint64_t shared_until_usec; /* CLOCK_MONOTONIC; others have had turns lately */
} Turns;

#define TURNS_INIT ((Turns){.epoll_fd = -1, .wake_fd = -1, .last_uid = (uid_t)-1})

int turns_init(Turns *turns, VarlinkServer *server);
void turns_deinit(Turns *turns);

/* The connection's socket is watched for what it says, and with @output for that it takes more. 0 or -errno.
 */
int turns_watch(Turns *turns, Connection *connection);
/* Before it is closed: where another process has a copy of its socket, closing it alone does not end the
 * watch. */
void turns_unwatch(Turns *turns, Connection *connection);
int turns_watch_output(Turns *turns, Connection *connection, bool output);

/* The connection gets a turn soon. */
void turns_queue(Turns *turns, Connection *connection);
void turns_unqueue(Turns *turns, Connection *connection);
/* @user is about to go. */
void turns_forget_user(Turns *turns, User *user);
/* The loop comes back even if there is nobody to be served. */
void turns_wake(Turns *turns);
