/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The server: its listeners, the limits on who may connect, and the lists of connections.
 *
 * A handler may do anything from within a callback: answer calls of other connections, close connections by
 * overfilling them, free the server. So nothing is freed while a callback of ours is on the stack: what is
 * closed becomes doomed, and goes when the outermost callback returns to the loop.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "util/error.h"
#include "varlink/server/server-private.h"

/* After running out of descriptors or memory, listeners are looked at again. */
#define RESUME_USEC UINT64_C(500000)

/* So many are accepted before it is somebody's turn; each takes as long as a short turn. */
#define ACCEPT_MAX 4U

/* At most such a part of all connections is kept for root. */
#define ROOT_SHARE 8U

/* Linux 6.16; before that a plain recv() drops what a peer attaches just as well. */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static void server_refuse_rights(int fd) {
        static const int no = 0;

        (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}

static int open_reserve(void) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void server_connection_closed(VarlinkServer *server, Connection *connection) {
        User *user = steal_ptr(connection->user);

        TAILQ_REMOVE(&server->connections, connection, link);
        TAILQ_INSERT_TAIL(&server->doomed, connection, link);
        users_charge(&server->users, user, connection->charged, 0);
        if (user->n == 1)
                turns_forget_user(&server->turns, user);
        users_unref(&server->users, user);
        server->counters.connections--;
        if (server->n_entered == 0)
                turns_wake(&server->turns);
}

static void server_reap(VarlinkServer *server) {
        for (Connection *connection; (connection = TAILQ_FIRST(&server->doomed));) {
                TAILQ_REMOVE(&server->doomed, connection, link);
                connection_destroy(connection);
        }
}

static void server_destroy(VarlinkServer *server) {
        assert(TAILQ_EMPTY(&server->connections));

        closep(&server->reserve_fd);
        buffer_deinit(&server->spare);
        free(server->chunk);
        json_object_put(server->no_parameters);
        users_deinit(&server->users);
        registry_deinit(&server->registry);
        sd_event_source_disable_unref(server->resume);
        sd_event_source_disable_unref(server->half_timer);
        turns_deinit(&server->turns);
        sd_event_unref(server->event);
        free(server);
}

void server_enter(VarlinkServer *server) {
        server->n_entered++;
}

void server_leave(VarlinkServer *server) {
        if (server->n_entered == 1)
                server_reap(server); /* whose callbacks may close more, or free the server */
        if (--server->n_entered == 0 && server->freed)
                server_destroy(server);
}

static uint64_t server_now(const VarlinkServer *server) {
        uint64_t usec = 1;

        (void)sd_event_now(server->event, CLOCK_MONOTONIC, &usec);
        return usec;
}

static void server_arm_half_timer(VarlinkServer *server) {
        (void)sd_event_source_set_time_relative(server->half_timer, server->limits.message_usec);
        (void)sd_event_source_set_enabled(server->half_timer, SD_EVENT_ONESHOT);
}

uint64_t server_watch_half(VarlinkServer *server) {
        int enabled = SD_EVENT_OFF;

        (void)sd_event_source_get_enabled(server->half_timer, &enabled);
        if (enabled == SD_EVENT_OFF)
                server_arm_half_timer(server);
        return server_now(server);
}

/* Looks at all connections, once per message_usec at most: a message may take up to twice that long. */
static int server_on_half_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        VarlinkServer *server = userdata;
        uint64_t now = server_now(server), allowed = server->limits.message_usec;
        Connection *next;
        bool again = false;

        server_enter(server);
        for (Connection *c = TAILQ_FIRST(&server->connections); c; c = next) {
                next = TAILQ_NEXT(c, link);
                again |= connection_check_half(c, now > allowed ? now - allowed : 0);
        }
        if (again)
                server_arm_half_timer(server);
        server_leave(server);
        return 0;
}

static void server_set_listening(VarlinkServer *server, bool listening) {
        Listener *listener;

        SLIST_FOREACH(listener, &server->listeners, link)
        (void)sd_event_source_set_enabled(listener->source, listening ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int server_on_resume(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        server_set_listening(userdata, true);
        return 0;
}

/* Nothing can be accepted now: waits, since a listener left enabled would keep the loop spinning. */
static void server_pause_listening(VarlinkServer *server) {
        server_set_listening(server, false);
        (void)sd_event_source_set_time_relative(server->resume, RESUME_USEC);
        (void)sd_event_source_set_enabled(server->resume, SD_EVENT_ONESHOT);
}

static unsigned server_get_connections_max(const VarlinkServer *server) {
        unsigned max = server->limits.connections_max;
        struct rlimit limit;

        /* A quarter of the descriptors stays for everything else. */
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 4 * 3 < max)
                max = (unsigned)(limit.rlim_cur / 4 * 3);
        return max;
}

/* Of all, some are root's, who has to be able to do something about it. */
static bool server_has_room(const VarlinkServer *server, uid_t uid) {
        unsigned max = server_get_connections_max(server), kept = server->limits.connections_for_root;
        unsigned n_root;

        if (server->counters.connections >= max ||
            users_count(&server->users, uid) >= server->limits.connections_per_user_max)
                return false;
        if (uid == 0)
                return true;

        if (kept > max / ROOT_SHARE)
                kept = max / ROOT_SHARE;
        n_root = users_count(&server->users, 0);
        return server->counters.connections - n_root < max - kept;
}

/* Takes over @fd on success. */
static int server_add_connection(VarlinkServer *server, int fd, const VarlinkPeer *peer) {
        Connection *connection;
        User *user;
        int r;

        r = users_ref(&server->users, peer->uid, &user);
        if (r < 0)
                return r;

        r = connection_new(server, user, fd, peer, &connection);
        if (r < 0) {
                users_unref(&server->users, user);
                return r;
        }

        TAILQ_INSERT_TAIL(&server->connections, connection, link);
        server->counters.connections++;
        return 0;
}

static void server_welcome(VarlinkServer *server, int fd) {
        VarlinkPeer peer;

        if (peer_read(fd, &peer) == 0 && server_has_room(server, peer.uid) &&
            server_add_connection(server, fd, &peer) == 0)
                return;

        close(fd);
        server->counters.refused_connections++;
}

/*
 * Out of descriptors: gives up the reserve to accept one peer and hang up, so that it does not wait in vain.
 * -EAGAIN if nobody is waiting, which accept4() looks at only once it has a descriptor.
 */
static int server_refuse_one(VarlinkServer *server, int listener_fd) {
        int fd, r;

        if (server->reserve_fd < 0)
                return -EMFILE;

        close(steal_fd(&server->reserve_fd));
        fd = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);
        r = fd < 0 ? -errno : 0;
        if (fd >= 0) {
                close(fd);
                server->counters.refused_connections++;
        }
        server->reserve_fd = open_reserve();
        return r;
}

/* 0 if there may be more to accept. */
static int listener_accept(Listener *listener) {
        VarlinkServer *server = listener->server;
        int fd;

        fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
                server_welcome(server, fd);
                return 0;
        }

        if (errno == EMFILE || errno == ENFILE)
                return server_refuse_one(server, listener->fd);
        return errno == EINTR || errno == ECONNABORTED ? 0 : -errno;
}

static int listener_on_io(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents,
                          void *userdata) {
        Listener *listener = userdata;
        int r = 0;

        /* One that was given up and could not be had again: before anybody else gets a descriptor. */
        if (listener->server->reserve_fd < 0)
                listener->server->reserve_fd = open_reserve();

        /* The kernel's queue is everybody's, and ours are each user's: more are taken out of it than one user
         * puts in, who is hung up on once he has as many as he may. */
        for (unsigned i = 0; i < ACCEPT_MAX && r == 0; i++)
                r = listener_accept(listener);
        if (r < 0 && r != -EAGAIN)
                server_pause_listening(listener->server);
        return 0;
}

static void listener_free(Listener *listener) {
        sd_event_source_disable_unref(listener->source);
        close(listener->fd);
        free(listener);
}

int varlink_server_listen_fd(VarlinkServer *server, int fd) {
        _cleanup_(freep) Listener *listener = NULL;
        int flags, r;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        server_refuse_rights(fd);

        listener = calloc(1, sizeof(*listener));
        if (!listener)
                return -ENOMEM;
        listener->server = server;
        listener->fd = fd;
        r = sd_event_add_io(server->event, &listener->source, fd, EPOLLIN, listener_on_io, listener);
        if (r < 0)
                return r;

        SLIST_INSERT_HEAD(&server->listeners, listener, link);
        steal_ptr(listener);
        return 0;
}

int varlink_server_add_connection_fd(VarlinkServer *server, int fd) {
        VarlinkPeer peer;
        int r;

        r = peer_read(fd, &peer);
        if (r < 0)
                return r;

        server_refuse_rights(fd);
        return server_add_connection(server, fd, &peer);
}

int varlink_server_add_interface(VarlinkServer *server, const char *idl_text, const VarlinkMethod *methods,
                                 size_t n_methods, void *userdata) {
        return registry_add(&server->registry, idl_text, methods, n_methods, userdata);
}

void varlink_server_set_limits(VarlinkServer *server, const VarlinkServerLimits *limits) {
        server->limits = *limits;
}

void varlink_server_get_counters(const VarlinkServer *server, VarlinkServerCounters *ret_counters) {
        *ret_counters = server->counters;
}

/* The sources that exist from start to end, so that nothing can fail when they are needed. */
static int server_add_sources(VarlinkServer *server) {
        int r;

        r = turns_init(&server->turns, server);
        if (r < 0)
                return r;

        r = sd_event_add_time_relative(server->event, &server->resume, CLOCK_MONOTONIC, RESUME_USEC, 0,
                                       server_on_resume, server);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(server->resume, SD_EVENT_OFF);
        if (r < 0)
                return r;

        r = sd_event_add_time_relative(server->event, &server->half_timer, CLOCK_MONOTONIC, 0, 0,
                                       server_on_half_timer, server);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(server->half_timer, SD_EVENT_OFF);
}

static int server_setup(VarlinkServer *server) {
        int r;

        server->chunk = malloc(SERVER_CHUNK_SIZE);
        server->no_parameters = json_object_new_object();
        if (!server->chunk || !server->no_parameters)
                return -ENOMEM;

        server->reserve_fd = open_reserve();
        if (server->reserve_fd < 0)
                return -errno;

        r = server_add_sources(server);
        if (r < 0)
                return r;

        return error_fold(server_add_service_interface(server));
}

int varlink_server_new(sd_event *event, const VarlinkServiceInfo *info, VarlinkServer **ret_server) {
        VarlinkServer *server;
        int r;

        server = calloc(1, sizeof(*server));
        if (!server)
                return -ENOMEM;

        *server = (VarlinkServer){
                .event = sd_event_ref(event),
                .info = *info,
                .limits = VARLINK_SERVER_LIMITS_DEFAULT,
                .connections = TAILQ_HEAD_INITIALIZER(server->connections),
                .doomed = TAILQ_HEAD_INITIALIZER(server->doomed),
                .reserve_fd = -1,
                .turns = TURNS_INIT,
        };
        r = server_setup(server);
        if (r < 0) {
                server_destroy(server);
                return r;
        }

        *ret_server = server;
        return 0;
}

VarlinkServer *varlink_server_free(VarlinkServer *server) {
        Connection *connection;

        if (!server)
                return NULL;

        server_enter(server);
        server->freed = true;
        for (Listener *listener; (listener = SLIST_FIRST(&server->listeners));) {
                SLIST_REMOVE_HEAD(&server->listeners, link);
                listener_free(listener);
        }
        while (!TAILQ_EMPTY(&server->connections))
                connection_close(TAILQ_FIRST(&server->connections));
        /* Now, not when the memory goes: the caller is about to free what the callbacks are for. */
        TAILQ_FOREACH(connection, &server->doomed, link)
                connection_tell_closed(connection);
        server_leave(server);
        return NULL;
}
