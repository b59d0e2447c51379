/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A peer's socket. One turn (turns.c) is one read, the complete messages in it one after the other, one write
 * of their replies; or some more of a reply that is written in parts. All of it is bounded, so that nobody
 * starves the others. Work that is left over gets another turn.
 *
 * Reads go to a chunk that all connections share, and are processed there; only what is left (half a message,
 * calls behind a pending one) is copied to the connection. Storage for output is lent by the server and
 * returned when all is sent. So an idle connection holds no buffer at all.
 *
 * Invariants: while a call is pending, or output is above the mark, nothing is read and nothing is processed,
 * so the peer's own socket buffer fills and stops it. A connection whose peer half-closed answers all that
 * was received before it is closed; a pending call goes on until the peer has closed the other half too.
 * connection_close() frees nothing that a caller up the stack may be using.
 */

#include "varlink/server/connection.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "util/error.h"
#include "varlink/server/server-private.h"

/* Pending output above which a connection is not served: it reads too slowly. */
#define OUTPUT_MARK (256U * 1024U)

/* Linux 6.5; the C library of an older distribution does not name it. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static bool connection_may_process(const Connection *connection) {
        return !connection->closed && !connection->call.active &&
               buffer_pending(&connection->out) <= OUTPUT_MARK;
}

/* Bytes are there that may complete a message. */
static bool connection_has_input(const Connection *connection) {
        return connection->scanned < buffer_pending(&connection->in);
}

static void connection_malformed(Connection *connection) {
        connection->server->counters.malformed++;
        /* What was right gets its answer: one attempt, nobody waits for it. */
        if (buffer_pending(&connection->out) > 0)
                (void)send(connection->fd, connection->out.data + connection->out.start,
                           buffer_pending(&connection->out), MSG_DONTWAIT | MSG_NOSIGNAL);
        connection_close(connection);
}

/*
 * Runs the calls in @bytes, of which the first @scanned hold no NUL, while the connection may process.
 * Returns how many bytes are done with, and in *@ret_scanned how many of the others hold no NUL.
 */
static size_t connection_process(Connection *connection, unsigned calls_max, const char *bytes, size_t n,
                                 size_t scanned, size_t *ret_scanned) {
        size_t message_max = connection->server->limits.message_max, done = 0;

        for (unsigned i = 0; i < calls_max && connection_may_process(connection); i++) {
                const char *end = memchr(bytes + scanned, '\0', n - scanned);
                size_t length = end ? (size_t)(end - bytes) - done : n - done;

                if (length > message_max ||
                    (end && call_dispatch(&connection->call, bytes + done, length) != 0)) {
                        connection_malformed(connection);
                        break;
                }
                if (!end) {
                        *ret_scanned = length;
                        return done;
                }
                done = scanned = (size_t)(end - bytes) + 1;
                connection->half_since_usec = 0;
        }

        *ret_scanned = 0;
        return done;
}

static void connection_process_buffered(Connection *connection, const TurnLimits *limits) {
        Buffer *in = &connection->in;
        size_t done;

        done = connection_process(connection, limits->calls, in->data + in->start, buffer_pending(in),
                                  connection->scanned, &connection->scanned);
        buffer_consume(in, done);
        if (buffer_pending(in) == 0)
                buffer_deinit(in);
}

/* What was read goes behind what is buffered; without anything buffered it is processed where it is. */
static int connection_received(Connection *connection, const TurnLimits *limits, const char *chunk,
                               size_t n) {
        size_t done;
        int r;

        if (buffer_pending(&connection->in) > 0) {
                r = buffer_append(&connection->in, chunk, n);
                if (r == 0)
                        connection_process_buffered(connection, limits);
                return r;
        }

        done = connection_process(connection, limits->calls, chunk, n, 0, &connection->scanned);
        return buffer_append(&connection->in, chunk + done, n - done);
}

/*
 * What is there. Less than there was room for is all of it, and more is told anew; but not behind the end of
 * file, which is told before it is read, and not behind descriptors that the peer attached, where the kernel
 * stops. Without room for them it drops those. After half a message it is worth another look.
 */
static void connection_read(Connection *connection, const TurnLimits *limits) {
        struct iovec iov = {.iov_base = connection->server->chunk, .iov_len = limits->read_size};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        const char *chunk = connection->server->chunk;
        ssize_t n;

        n = recvmsg(connection->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n > 0) {
                connection->readable = (size_t)n == limits->read_size || chunk[n - 1] != '\0' ||
                                       connection->ending || (message.msg_flags & MSG_CTRUNC);
                if (connection_received(connection, limits, chunk, (size_t)n) < 0)
                        connection_close(connection);
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR))
                connection->readable = errno == EINTR;
        else {
                connection->readable = false;
                connection->read_closed = true;
        }
}

static void connection_discard_output(Connection *connection) {
        connection->write_closed = true;
        buffer_deinit(&connection->out);
}

/* Returns the storage of an output that has been sent, to the server for whoever writes next. */
static void connection_return_output(Connection *connection) {
        Buffer *spare = &connection->server->spare, *out = &connection->out;

        if (!spare->data && out->size <= OUTPUT_MARK) {
                spare->data = steal_ptr(out->data);
                spare->size = out->size;
        }
        buffer_deinit(out);
}

Buffer *connection_get_output(Connection *connection) {
        Buffer *spare = &connection->server->spare, *out = &connection->out;
        size_t limit = connection->server->limits.output_max;

        if (!out->data) {
                out->data = steal_ptr(spare->data);
                out->size = spare->size;
                spare->size = 0;
        }
        /* Storage that is there may be filled: a buffer's size is never above its limit. */
        out->limit = limit > out->size ? limit : out->size;
        return out;
}

void connection_output_ready(Connection *connection, int error) {
        if (connection->closed)
                return;

        if (error < 0) {
                if (error == -ENOBUFS)
                        connection->server->counters.overflows++;
                connection_close(connection);
        } else if (!connection->in_turn)
                turns_queue(&connection->server->turns, connection);
}

bool connection_is_writing(const Connection *connection) {
        return connection->call.part;
}

/* There is something to send: not half a message. */
static bool connection_has_output(const Connection *connection) {
        return buffer_pending(&connection->out) > 0 && !connection_is_writing(connection);
}

bool connection_is_midway(const Connection *connection) {
        return connection_is_writing(connection) ||
               (connection->writable && buffer_pending(&connection->out) > OUTPUT_MARK);
}

/*
 * Sends what the socket takes at once, and the turn allows. Returns true if that was the last of it. That the
 * socket takes more is told only after it has taken none; a send that was cut short, or interrupted, is worth
 * another.
 */
static bool connection_flush(Connection *connection, size_t size) {
        Buffer *out = &connection->out;
        size_t pending = buffer_pending(out);
        ssize_t n;

        if (connection->write_closed) {
                connection_discard_output(connection);
                return false;
        }
        if (pending == 0) {
                if (out->data)
                        connection_return_output(connection); /* a oneway call wrote and took back */
                return false;
        }
        if (!connection_has_output(connection))
                return false;

        n = send(connection->fd, out->data + out->start, pending < size ? pending : size,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        connection->writable = n >= 0 || errno == EINTR;
        if (n < 0) {
                if (errno == EPIPE || errno == ECONNRESET)
                        connection_discard_output(connection);
                else if (errno != EAGAIN && errno != EINTR)
                        connection_close(connection);
                return false;
        }
        if ((size_t)n < pending) {
                buffer_consume(out, (size_t)n);
                return false;
        }

        connection_return_output(connection);
        return true;
}

/* Storage that holds anything. */
static size_t buffer_held(const Buffer *buffer) {
        return buffer_pending(buffer) > 0 ? buffer->size : 0;
}

/*
 * Many connections that each stay below their own limits are still too much from one user, and many users too
 * much in all: nobody may have more than what is left free, so that there is always room for whoever has
 * nothing yet. Whoever leaves bytes waiting when the user has too many goes; who sends and reads as it should
 * has none.
 */
static bool connection_within_share(Connection *connection) {
        VarlinkServer *server = connection->server;
        const VarlinkServerLimits *limits = &server->limits;
        size_t held = buffer_held(&connection->in) + buffer_held(&connection->out), sum;

        if (held == connection->charged)
                return true;

        users_charge(&server->users, connection->user, connection->charged, held);
        connection->charged = held;
        sum = connection->user->bytes;
        if (held == 0 || (sum <= limits->user_buffer_max && server->users.bytes <= limits->buffer_max &&
                          sum <= limits->buffer_max - server->users.bytes))
                return true;

        server->counters.overflows++;
        return false;
}

/* Nothing will come of this connection any more. */
static bool connection_is_over(const Connection *connection) {
        if (connection->call.active)
                return connection->write_closed; /* nobody waits for the answer: cancelled */

        /* The end of file is read only after all that came before it has been processed. */
        return connection->read_closed && (connection->write_closed || buffer_pending(&connection->out) == 0);
}

static int connection_update_events(Connection *connection) {
        bool output = connection_has_output(connection);
        int r;

        if (output == connection->awaits_output)
                return 0;

        r = turns_watch_output(&connection->server->turns, connection, output);
        if (r < 0)
                return r;
        connection->awaits_output = output;
        return 0;
}

/* It can go on by itself. */
static bool connection_is_ready(const Connection *connection) {
        return connection_is_writing(connection) ||
               (connection->writable && connection_has_output(connection)) ||
               (connection_may_process(connection) &&
                (connection_has_input(connection) || connection->readable));
}

bool connection_check_half(Connection *connection, uint64_t before_usec) {
        if (connection->half_since_usec == 0)
                return false;
        /* While we do not read, the rest of it cannot come. */
        if (connection->half_since_usec > before_usec || !connection_may_process(connection))
                return true;

        connection_malformed(connection);
        return false;
}

/* Half a message is there, and nothing else to wait for. */
static void connection_note_half(Connection *connection) {
        if (buffer_pending(&connection->in) == 0 || connection_has_input(connection) ||
            connection->half_since_usec > 0)
                return;

        connection->half_since_usec = server_watch_half(connection->server);
}

/* The end of every turn: sends, tells, and decides what the connection waits for now. */
static void connection_finish_turn(Connection *connection, const TurnLimits *limits) {
        if (connection->closed)
                return;

        if (connection_flush(connection, limits->write_size) && connection->call.drained)
                connection->call.drained(&connection->call, connection->call.userdata);
        connection->in_turn = false;

        if (connection->closed)
                return;
        if (!connection_within_share(connection) || connection_is_over(connection) ||
            connection_update_events(connection) < 0) {
                connection_close(connection);
                return;
        }

        if (connection_is_ready(connection))
                turns_queue(&connection->server->turns, connection);
        connection_note_half(connection);
}

static void connection_go_on_writing(Connection *connection, unsigned parts_max) {
        VarlinkCall *call = &connection->call;

        for (unsigned i = 0; i < parts_max && call->part && !connection->write_closed; i++)
                call->part(call, call->userdata);
}

void connection_turn(Connection *connection, const TurnLimits *limits) {
        connection->in_turn = true;
        if (connection->hung_up)
                connection_discard_output(connection);
        if (connection_is_writing(connection))
                connection_go_on_writing(connection, limits->calls);
        else if (connection_may_process(connection)) {
                if (connection_has_input(connection))
                        connection_process_buffered(connection, limits);
                else if (connection->readable)
                        connection_read(connection, limits);
        }
        /* What comes next from a peer that is gone is the end, which takes no turn of its own. */
        if (connection->hung_up && connection->readable && connection_may_process(connection) &&
            !connection_has_input(connection))
                connection_read(connection, limits);
        connection_finish_turn(connection, limits);
}

void connection_notify(Connection *connection, uint32_t events) {
        if (events & ~(uint32_t)EPOLLOUT)
                connection->readable = true;
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                connection->ending = true;
        if (events & (EPOLLHUP | EPOLLERR))
                connection->hung_up = true;

        /* Behind a call, or a reader who is slow, nothing is read. */
        if (connection_is_ready(connection) || connection->hung_up || connection->awaits_output)
                turns_queue(&connection->server->turns, connection);
}

/* The peer's groups, however many; none where the kernel does not tell. */
static void connection_read_groups(Connection *connection) {
        socklen_t size = 32 * sizeof(gid_t);

        /* The first try is a guess; if it was too small the kernel says how much it takes. */
        for (unsigned i = 0; i < 2; i++) {
                gid_t *groups = malloc(size);
                int r;

                if (!groups)
                        return;
                if (getsockopt(connection->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0) {
                        connection->groups = groups;
                        connection->peer.groups = groups;
                        connection->peer.n_groups = size / sizeof(*groups);
                        return;
                }
                r = errno;
                free(groups);
                if (r != ERANGE)
                        return;
        }
}

/*
 * The socket pins the process and its credentials as of connect(), so these are the same whenever they are
 * asked for; a connection that never needs them does not hold a descriptor for them. No failure here is the
 * connection's: no descriptors left, a process that is gone, a kernel that knows no SO_PEERPIDFD.
 */
const VarlinkPeer *connection_get_peer(Connection *connection) {
        socklen_t size = sizeof(connection->peer.pidfd);
        int pidfd;

        if (connection->peer_complete || connection->closed)
                return &connection->peer;

        connection->peer_complete = true;
        if (getsockopt(connection->fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
                connection->peer.pidfd = pidfd;
        connection_read_groups(connection);
        return &connection->peer;
}

int peer_read(int fd, VarlinkPeer *ret_peer) {
        struct ucred credentials;
        socklen_t size = sizeof(credentials);
        struct timespec now;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
                return -errno;

        *ret_peer = (VarlinkPeer){
                .pid = credentials.pid,
                .uid = credentials.uid,
                .gid = credentials.gid,
                .pidfd = -1,
                .accepted_boottime_usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000,
        };
        return 0;
}

int connection_new(VarlinkServer *server, User *user, int fd, const VarlinkPeer *peer,
                   Connection **ret_connection) {
        _cleanup_(freep) Connection *connection = calloc(1, sizeof(*connection));
        int r;

        if (!connection)
                return -ENOMEM;

        *connection = (Connection){
                .server = server,
                .user = user,
                .fd = fd,
                .in = BUFFER_INIT(SIZE_MAX), /* message_max bounds it */
                .call.connection = connection,
                .peer = *peer,
        };
        r = turns_watch(&server->turns, connection);
        if (r < 0)
                return r;

        *ret_connection = steal_ptr(connection);
        return 0;
}

void connection_close(Connection *connection) {
        if (connection->closed)
                return;

        turns_unqueue(&connection->server->turns, connection);
        turns_unwatch(&connection->server->turns, connection);
        connection->closed = true;
        close(steal_fd(&connection->fd));
        server_connection_closed(connection->server, connection);
}

void connection_tell_closed(Connection *connection) {
        VarlinkCallFn closed = connection->call.closed;

        connection->call.closed = NULL; /* once */
        if (connection->call.active && closed)
                closed(&connection->call, connection->call.userdata);
}

void connection_destroy(Connection *connection) {
        assert(connection->closed);

        connection_tell_closed(connection);
        call_end(&connection->call);
        closep(&connection->peer.pidfd);
        free(connection->groups);
        buffer_deinit(&connection->in);
        buffer_deinit(&connection->out);
        free(connection);
}
