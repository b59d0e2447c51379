/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The calling side: one connected socket, one buffer each way, and one byte per call in flight that says
 * whether it may be answered more than once. Replies have no ids, so that queue is what gives a reply its
 * meaning: whatever does not fit its head (a reply to nothing, a continued reply to a plain call) means that
 * the two ends disagree about what has been said, and the connection is dead from then on.
 *
 * MSG_DONTWAIT on each call instead of O_NONBLOCK: a descriptor that was handed over may share its file
 * description with somebody who wants it to block.
 */

#include "varlink/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/clock.h"
#include "varlink/json-read.h"

#define INPUT_MAX  ((size_t)64 * 1024 * 1024)
#define OUTPUT_MAX ((size_t)16 * 1024 * 1024)
#define READ_SIZE  ((size_t)16 * 1024)
/* Calls in flight, a byte each. */
#define QUEUE_MAX ((size_t)64 * 1024)

struct VarlinkClient {
        int fd;
        bool dead;      /* nothing that arrives can be trusted any more */
        bool send_shut; /* the peer reads no more; what it has already said may still arrive */
        Buffer out;
        Buffer in;
        size_t scanned; /* bytes at the start of in that hold no NUL */
        Buffer queue;   /* the flags of the calls in flight */
        JsonWriter writer;
        unsigned flags;        /* of the call being written */
        size_t pending_before; /* bytes in out before it */
};

void varlink_reply_deinit(VarlinkReply *reply) {
        json_object_put(reply->message);
        *reply = VARLINK_REPLY_NULL;
}

/* Takes @fd over on success. */
static int client_new(int fd, VarlinkClient **ret_client) {
        VarlinkClient *client;

        client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;

        client->fd = fd;
        client->out = BUFFER_INIT(OUTPUT_MAX);
        client->in = BUFFER_INIT(INPUT_MAX);
        client->queue = BUFFER_INIT(QUEUE_MAX);

        *ret_client = client;
        return 0;
}

/*
 * A non-blocking connect() to a unix socket fails at once when the backlog is full, which is what happens
 * when every VM of a host starts together; a blocking one waits in line, as long as SO_SNDTIMEO says. There
 * 0 would be for ever.
 */
static int connect_unix(int fd, const struct sockaddr_un *address, uint64_t timeout_usec) {
        const struct timeval timeout = {.tv_sec = (time_t)(timeout_usec / USEC_PER_SEC),
                                        .tv_usec = (suseconds_t)(timeout_usec % USEC_PER_SEC)};
        int r;

        if (timeout_usec > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
                return -errno;

        do
                r = connect(fd, (const struct sockaddr *)address, sizeof(*address));
        while (r < 0 && errno == EINTR);

        if (r >= 0)
                return 0;
        if (errno == ENOENT || errno == ECONNREFUSED)
                return VARLINK_CLIENT_E_NO_SERVICE;
        if (errno == EAGAIN)
                return VARLINK_CLIENT_E_TIMEOUT;

        return -errno;
}

/* A program that was started with stdout or stderr closed must not print into the connection. */
static int move_above_stdio(int *fd) {
        int above;

        if (*fd > STDERR_FILENO)
                return 0;

        above = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (above < 0)
                return -errno;

        close(*fd);
        *fd = above;
        return 0;
}

int varlink_client_new_path(const char *path, VarlinkClient **ret_client) {
        return varlink_client_new_path_within(path, VARLINK_CLIENT_CONNECT_TIMEOUT_USEC, ret_client);
}

int varlink_client_new_path_within(const char *path, uint64_t timeout_usec, VarlinkClient **ret_client) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(closep) int fd = -1;
        size_t n;
        int r;

        n = strlen(path);
        if (n == 0)
                return -EINVAL;
        if (n >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, n);

        if (timeout_usec > VARLINK_CLIENT_CONNECT_TIMEOUT_USEC)
                timeout_usec = VARLINK_CLIENT_CONNECT_TIMEOUT_USEC;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (timeout_usec == 0 ? SOCK_NONBLOCK : 0), 0);
        if (fd < 0)
                return -errno;

        r = move_above_stdio(&fd);
        if (r < 0)
                return r;

        r = connect_unix(fd, &address, timeout_usec);
        if (r != 0)
                return r;

        r = client_new(fd, ret_client);
        if (r != 0)
                return r;

        steal_fd(&fd);
        return 0;
}

int varlink_client_new_fd(int fd, VarlinkClient **ret_client) {
        socklen_t n = sizeof(int);
        int type;

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0)
                return -errno;
        if (type != SOCK_STREAM)
                return -EPROTOTYPE;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;

        return client_new(fd, ret_client);
}

VarlinkClient *varlink_client_free(VarlinkClient *client) {
        if (!client)
                return NULL;

        close(client->fd);
        buffer_deinit(&client->out);
        buffer_deinit(&client->in);
        buffer_deinit(&client->queue);
        free(client);
        return NULL;
}

int varlink_client_get_fd(const VarlinkClient *client) {
        return client->fd;
}

static bool has_unsent(const VarlinkClient *client) {
        return !client->send_shut && buffer_pending(&client->out) > 0;
}

short varlink_client_get_events(const VarlinkClient *client) {
        return has_unsent(client) ? POLLIN | POLLOUT : POLLIN;
}

static int client_die(VarlinkClient *client) {
        client->dead = true;
        return VARLINK_CLIENT_E_CLOSED;
}

/* Sends what the socket takes. A peer that reads no more may still have said why, so that is no error here.
 */
static int client_send(VarlinkClient *client) {
        while (has_unsent(client)) {
                ssize_t n;

                n = send(client->fd, client->out.data + client->out.start, buffer_pending(&client->out),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n >= 0) {
                        buffer_consume(&client->out, (size_t)n);
                        continue;
                }
                if (errno == EINTR)
                        continue;
                if (errno == EAGAIN)
                        return 0;
                if (errno == EPIPE || errno == ECONNRESET) {
                        client->send_shut = true;
                        return 0;
                }

                return -errno;
        }

        return 0;
}

int varlink_client_begin(VarlinkClient *client, const char *method, unsigned flags, JsonWriter **ret_writer) {
        if (client->dead || client->send_shut)
                return VARLINK_CLIENT_E_CLOSED;

        client->flags = flags;
        client->pending_before = buffer_pending(&client->out);

        json_writer_init(&client->writer, &client->out);
        json_write_object_begin(&client->writer, NULL);
        json_write_string(&client->writer, "method", method);
        if (flags & VARLINK_CALL_MORE)
                json_write_bool(&client->writer, "more", true);
        if (flags & VARLINK_CALL_ONEWAY)
                json_write_bool(&client->writer, "oneway", true);
        json_write_object_begin(&client->writer, "parameters");

        *ret_writer = &client->writer;
        return 0;
}

int varlink_client_end(VarlinkClient *client) {
        const char flags = (char)client->flags;
        int r;

        json_write_object_end(&client->writer);
        json_write_object_end(&client->writer);
        r = json_writer_finish(&client->writer);
        if (r < 0)
                return r;

        r = buffer_append(&client->out, "", 1);
        if (r == 0 && !(client->flags & VARLINK_CALL_ONEWAY))
                r = buffer_append(&client->queue, &flags, 1);
        if (r < 0) {
                /* All or nothing: half a message would swallow the next one. */
                client->out.end = client->out.start + client->pending_before;
                return r;
        }

        /* It is queued. What goes wrong from here on is the next process()'s to tell. */
        (void)client_send(client);
        return 0;
}

/* The members a reply may have; a name with a dot is a vendor's extension, for whoever knows it. */
static int reply_add_member(VarlinkReply *reply, const char *name, struct json_object *value) {
        if (strcmp(name, "parameters") == 0) {
                if (value && !json_object_is_type(value, json_type_object))
                        return VARLINK_CLIENT_E_CLOSED;
                reply->parameters = value;
        } else if (strcmp(name, "error") == 0) {
                if (value && !json_object_is_type(value, json_type_string))
                        return VARLINK_CLIENT_E_CLOSED;
                reply->error = value ? json_object_get_string(value) : NULL;
        } else if (strcmp(name, "continues") == 0) {
                if (value && !json_object_is_type(value, json_type_boolean))
                        return VARLINK_CLIENT_E_CLOSED;
                reply->continues = value && json_object_get_boolean(value);
        } else if (!strchr(name, '.'))
                return VARLINK_CLIENT_E_CLOSED;

        return 0;
}

static int reply_parse(const char *bytes, size_t n, VarlinkReply *ret_reply) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        struct json_object_iterator i, end;
        int r;

        r = json_read(bytes, n, &reply.message, NULL);
        if (r < 0)
                return r;
        if (r > 0 || !json_object_is_type(reply.message, json_type_object))
                return VARLINK_CLIENT_E_CLOSED;

        end = json_object_iter_end(reply.message);
        for (i = json_object_iter_begin(reply.message); !json_object_iter_equal(&i, &end);
             json_object_iter_next(&i)) {
                r = reply_add_member(&reply, json_object_iter_peek_name(&i), json_object_iter_peek_value(&i));
                if (r != 0)
                        return r;
        }
        if (reply.error && reply.continues)
                return VARLINK_CLIENT_E_CLOSED;

        *ret_reply = reply;
        reply = VARLINK_REPLY_NULL;
        return 0;
}

/* Takes the next complete message from the input, VARLINK_CLIENT_E_AGAIN if there is none. */
static int client_take(VarlinkClient *client, VarlinkReply *ret_reply) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        size_t pending = buffer_pending(&client->in);
        const char *begin, *nul;
        int r;

        if (pending == 0)
                return VARLINK_CLIENT_E_AGAIN;
        begin = client->in.data + client->in.start;

        nul = memchr(begin + client->scanned, 0, pending - client->scanned);
        if (!nul) {
                client->scanned = pending;
                return VARLINK_CLIENT_E_AGAIN;
        }
        if (buffer_pending(&client->queue) == 0)
                return client_die(client);

        r = reply_parse(begin, (size_t)(nul - begin), &reply);
        if (r < 0)
                return r;
        if (r > 0)
                return client_die(client);
        if (reply.continues && !(client->queue.data[client->queue.start] & VARLINK_CALL_MORE))
                return client_die(client);

        client->scanned = 0;
        buffer_consume(&client->in, (size_t)(nul - begin) + 1);
        if (!reply.continues)
                buffer_consume(&client->queue, 1);

        *ret_reply = reply;
        reply = VARLINK_REPLY_NULL;
        return 0;
}

/* Reads once. VARLINK_CLIENT_E_AGAIN if there is nothing. */
static int client_receive(VarlinkClient *client) {
        ssize_t n;
        int r;

        r = buffer_reserve(&client->in, READ_SIZE);
        if (r == -ENOBUFS)
                return client_die(client);
        if (r < 0)
                return r;

        do
                n = recv(client->fd, client->in.data + client->in.end, READ_SIZE, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);

        if (n > 0) {
                client->in.end += (size_t)n;
                return 0;
        }
        if (n == 0 || errno == ECONNRESET)
                return client_die(client);
        if (errno == EAGAIN)
                return VARLINK_CLIENT_E_AGAIN;

        return -errno;
}

int varlink_client_process(VarlinkClient *client, VarlinkReply *ret_reply) {
        int r;

        if (client->dead)
                return VARLINK_CLIENT_E_CLOSED;

        r = client_send(client);
        if (r < 0)
                return r;

        for (;;) {
                r = client_take(client, ret_reply);
                if (r != VARLINK_CLIENT_E_AGAIN)
                        return r;

                r = client_receive(client);
                if (r != 0)
                        return r;
        }
}

/* Waits for the socket until @deadline. */
static int client_poll(VarlinkClient *client, uint64_t deadline) {
        struct pollfd pfd = {.fd = client->fd, .events = varlink_client_get_events(client)};
        const uint64_t left = clock_left(deadline);
        const struct timespec ts = clock_timespec(left);
        int r;

        r = ppoll(&pfd, 1, left != UINT64_MAX ? &ts : NULL, NULL);
        if (r < 0)
                return errno == EINTR ? 0 : -errno;

        return r > 0 ? 0 : VARLINK_CLIENT_E_TIMEOUT;
}

int varlink_client_wait(VarlinkClient *client, uint64_t timeout_usec, VarlinkReply *ret_reply) {
        const uint64_t deadline = clock_deadline(timeout_usec);
        int r;

        for (;;) {
                r = varlink_client_process(client, ret_reply);
                if (r != VARLINK_CLIENT_E_AGAIN)
                        return r;
                if (buffer_pending(&client->queue) == 0 && !has_unsent(client))
                        return VARLINK_CLIENT_E_AGAIN;

                r = client_poll(client, deadline);
                if (r == VARLINK_CLIENT_E_TIMEOUT)
                        client->dead = true;
                if (r != 0)
                        return r;
        }
}
