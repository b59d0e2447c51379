/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One peer's socket: its bytes in and out, and the call in progress. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>

#include "varlink/buffer.h"
#include "varlink/server/call.h"
#include "varlink/server/users.h"

/* What is watched of every socket; its end is told with and without more to read. */
#define CONNECTION_EVENTS ((uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET)

typedef struct Connection {
        VarlinkServer *server;
        TAILQ_ENTRY(Connection) link; /* in the server's connections; once closed, in its doomed ones */
        User *user;                   /* NULL once closed */
        TAILQ_ENTRY(Connection) ready_link;
        int fd;

        Buffer in;                /* received, not processed; no storage while empty */
        size_t scanned;           /* leading bytes of it that hold no NUL */
        uint64_t half_since_usec; /* CLOCK_MONOTONIC when half a message was first there; 0: there is none */
        Buffer out;               /* written, not sent; no storage while empty */
        size_t charged;           /* bytes of both that the user has been charged for */

        VarlinkCall call;
        VarlinkPeer peer;
        gid_t *groups;

        bool peer_complete : 1; /* the peer's pidfd and groups have been asked for */
        bool queued : 1;        /* among its user's that are ready for a turn */
        bool readable : 1;      /* there may be something to read: it is told only once */
        bool writable : 1;      /* it may take more: that it does is told only after it has taken none */
        bool ending : 1;        /* and behind it there is the end of file */
        bool hung_up : 1;       /* the peer has closed both ways */
        bool awaits_output : 1; /* it is told when the socket takes more */
        bool in_turn : 1;       /* its turn is running: it will flush by itself */
        bool read_closed : 1;   /* end of file, and all before it has been processed */
        bool write_closed : 1;  /* the peer is gone or reads no more: output goes nowhere */
        bool closed : 1;
} Connection;

/* How much is done in one turn. */
typedef struct TurnLimits {
        unsigned calls;    /* as many calls, or parts of a reply that is written in parts */
        size_t read_size;  /* bytes of input, SERVER_CHUNK_SIZE at most */
        size_t write_size; /* and of output */
} TurnLimits;

/* Who has connected @fd; pidfd and groups are left for connection_get_peer(). */
int peer_read(int fd, VarlinkPeer *ret_peer);

/* Takes over @fd, and the reference to @user, on success. */
int connection_new(VarlinkServer *server, User *user, int fd, const VarlinkPeer *peer,
                   Connection **ret_connection);
/* No more I/O from now on; what is left is freed when nothing can be using it. Idempotent. */
void connection_close(Connection *connection);
/* A call still pending learns that its connection is gone. */
void connection_tell_closed(Connection *connection);
/* The last of it. */
void connection_destroy(Connection *connection);

/* What the kernel says of its socket, which it says once. */
void connection_notify(Connection *connection, uint32_t events);
/* One round of work without waiting for the socket: calls, output, what follows from them. */
void connection_turn(Connection *connection, const TurnLimits *limits);
/* In the midst of a reply that is written in parts. */
bool connection_is_writing(const Connection *connection);
/* In the midst of a long reply, which is being written, or sent as fast as the socket takes it. */
bool connection_is_midway(const Connection *connection);

/* Closes the connection if its half message came before @before_usec; true if there is a younger one. */
bool connection_check_half(Connection *connection, uint64_t before_usec);

/* Where a reply is to be written. */
Buffer *connection_get_output(Connection *connection);
/* A reply is complete in the output, or could not be built (@error is -errno). */
void connection_output_ready(Connection *connection, int error);

const VarlinkPeer *connection_get_peer(Connection *connection);
