/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What server.c, connection.c and call.c share. */

#include "varlink/server/connection.h"
#include "varlink/server/registry.h"
#include "varlink/server/server.h"
#include "varlink/server/turns.h"
#include "varlink/server/users.h"

#define SERVER_CHUNK_SIZE (64U * 1024U) /* one read */

typedef struct Listener {
        VarlinkServer *server;
        SLIST_ENTRY(Listener) link;
        sd_event_source *source;
        int fd;
} Listener;

typedef TAILQ_HEAD(ConnectionList, Connection) ConnectionList;

struct VarlinkServer {
        sd_event *event;
        VarlinkServiceInfo info;
        Registry registry;
        VarlinkServerLimits limits;
        VarlinkServerCounters counters;
        Users users;
        Turns turns;

        SLIST_HEAD(ListenerList, Listener) listeners;
        sd_event_source *resume; /* looks again at listeners that ran out of descriptors */
        int reserve_fd;          /* given up to accept, and so to refuse, one connection more */

        ConnectionList connections;
        ConnectionList doomed;       /* closed, to be freed when no callback is running */
        sd_event_source *half_timer; /* looks for messages that take too long; off while there is none */

        struct json_object *no_parameters; /* {} for calls without any */
        char *chunk;                       /* what all connections read into */
        Buffer spare;                      /* storage of a drained output, for the next one */

        unsigned n_entered; /* callbacks from the loop that are running */
        bool freed;
};

/* Bracket every callback from the loop: what was closed or freed meanwhile goes away at the outermost leave.
 */
void server_enter(VarlinkServer *server);
void server_leave(VarlinkServer *server);

/* A connection has been closed: forgets it in counts and lists, and frees it later. */
void server_connection_closed(VarlinkServer *server, Connection *connection);

/* Half a message has come: it will be looked at again. Returns the time, never 0. */
uint64_t server_watch_half(VarlinkServer *server);

/* org.varlink.service. */
int server_add_service_interface(VarlinkServer *server);
