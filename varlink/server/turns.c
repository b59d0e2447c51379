/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Turns. All sockets are in one epoll of our own, which is one source to the loop: the loop hands out its
 * events in the order in which they came, and looks at all that are ready for each one that it hands out, so
 * that with thousands of busy connections each call costs, and waits, for all of them.
 *
 * The sockets are edge-triggered: what has been told once is remembered in its connection. Whoever has
 * something to do is in its user's queue, the user is in one of two: `fresh` if it had nothing to do until
 * now, else `round`. Fresh ones come first, once: whoever is served goes to the end of the round, and leaves
 * it only when its turn comes there and it has nothing to do. So a user who asks for one thing now and then
 * waits for the turn that is running, and nobody can be fresh all the time at the expense of others.
 *
 * One turn is one connection's, of TURN_CALLS_MAX calls at most; of one, while different users are being
 * served, so that a turn is short. Between two of them the loop sees to everything else.
 */

#include "varlink/server/turns.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "varlink/server/server-private.h"

/* Calls answered in one turn; the others wait for the next. */
#define TURN_CALLS_MAX        16U
#define TURN_CALLS_MAX_SHARED 1U
/* So long after the last time that another user was served. */
#define SHARED_USEC UINT64_C(100000)

/* What is asked from the kernel at once, and how often before somebody is served. */
#define EVENTS_MAX  64
#define COLLECT_MAX 16U

static UserQueue *turns_queue_of(Turns *turns, UserPlace place) {
        return place == USER_FRESH ? &turns->fresh : &turns->round;
}

static void turns_place(Turns *turns, User *user, UserPlace place) {
        if (user->place != USER_IDLE)
                TAILQ_REMOVE(turns_queue_of(turns, user->place), user, place_link);
        user->place = place;
        if (place != USER_IDLE)
                TAILQ_INSERT_TAIL(turns_queue_of(turns, place), user, place_link);
}

void turns_wake(Turns *turns) {
        const uint64_t one = 1;

        if (turns->awake || turns->running)
                return;

        while (write(turns->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
                ;
        turns->awake = true;
}

void turns_queue(Turns *turns, Connection *connection) {
        User *user = connection->user;

        if (connection->closed || connection->queued)
                return;

        connection->queued = true;
        TAILQ_INSERT_TAIL(&user->ready, connection, ready_link);
        if (user->place == USER_IDLE)
                turns_place(turns, user, USER_FRESH);
        turns->n_ready++;
        turns_wake(turns);
}

void turns_unqueue(Turns *turns, Connection *connection) {
        if (!connection->queued)
                return;

        connection->queued = false;
        TAILQ_REMOVE(&connection->user->ready, connection, ready_link);
        turns->n_ready--;
}

void turns_forget_user(Turns *turns, User *user) {
        turns_place(turns, user, USER_IDLE);
}

/* Whose turn it is; NULL: nobody has anything to do. */
static Connection *turns_next(Turns *turns) {
        User *user;

        while ((user = TAILQ_FIRST(&turns->fresh) ?: TAILQ_FIRST(&turns->round))) {
                Connection *connection = TAILQ_FIRST(&user->ready);

                if (connection) {
                        turns_place(turns, user, USER_ROUND);
                        turns_unqueue(turns, connection);
                        return connection;
                }
                turns_place(turns, user, USER_IDLE);
        }

        return NULL;
}

static unsigned turns_calls_max(Turns *turns, sd_event *event, uid_t uid) {
        uint64_t now = 0;

        (void)sd_event_now(event, CLOCK_MONOTONIC, &now);
        if (uid != turns->last_uid && turns->last_uid != (uid_t)-1)
                turns->shared_until_usec = now + SHARED_USEC;
        turns->last_uid = uid;
        return now < turns->shared_until_usec ? TURN_CALLS_MAX_SHARED : TURN_CALLS_MAX;
}

/* What the sockets have to say. */
static void turns_collect(Turns *turns) {
        struct epoll_event events[EVENTS_MAX];
        int n = EVENTS_MAX;

        for (unsigned i = 0; i < COLLECT_MAX && (n == EVENTS_MAX || (n < 0 && errno == EINTR)); i++) {
                n = epoll_wait(turns->epoll_fd, events, EVENTS_MAX, 0);
                for (int k = 0; k < n; k++)
                        if (events[k].data.ptr)
                                connection_notify(events[k].data.ptr, events[k].events);
        }
}

static void turns_sleep(Turns *turns) {
        uint64_t ignored;

        while (read(turns->wake_fd, &ignored, sizeof(ignored)) < 0 && errno == EINTR)
                ;
        turns->awake = false;
}

static int turns_on_io(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents,
                       void *userdata) {
        VarlinkServer *server = userdata;
        Turns *turns = &server->turns;
        Connection *connection;

        server_enter(server);
        turns->running = true;
        turns_collect(turns);
        connection = turns_next(turns);
        if (connection)
                connection_turn(connection, turns_calls_max(turns, server->event, connection->peer.uid));
        turns->running = false;
        if (turns->n_ready > 0)
                turns_wake(turns);
        else if (turns->awake)
                turns_sleep(turns);
        server_leave(server);
        return 0;
}

int turns_watch(Turns *turns, Connection *connection) {
        struct epoll_event event = {.events = CONNECTION_EVENTS, .data.ptr = connection};

        return epoll_ctl(turns->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0 ? -errno : 0;
}

void turns_unwatch(Turns *turns, Connection *connection) {
        (void)epoll_ctl(turns->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
}

int turns_watch_output(Turns *turns, Connection *connection, bool output) {
        struct epoll_event event = {.events = CONNECTION_EVENTS | (output ? EPOLLOUT : 0),
                                    .data.ptr = connection};

        return epoll_ctl(turns->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) < 0 ? -errno : 0;
}

int turns_init(Turns *turns, VarlinkServer *server) {
        struct epoll_event event = {.events = EPOLLIN};

        TAILQ_INIT(&turns->fresh);
        TAILQ_INIT(&turns->round);
        turns->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        turns->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (turns->epoll_fd < 0 || turns->wake_fd < 0 ||
            epoll_ctl(turns->epoll_fd, EPOLL_CTL_ADD, turns->wake_fd, &event) < 0)
                return -errno;

        return sd_event_add_io(server->event, &turns->source, turns->epoll_fd, EPOLLIN, turns_on_io, server);
}

void turns_deinit(Turns *turns) {
        sd_event_source_disable_unref(turns->source);
        closep(&turns->epoll_fd);
        closep(&turns->wake_fd);
}
