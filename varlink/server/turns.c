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
 * One turn is one connection's, of so many calls and bytes at most; of few, while there are several users, so
 * that a turn is short. Between two of them the loop sees to everything else. A connection in the midst of a
 * long reply, which takes several turns, is its user's next one: so of each user there is one such reply, and
 * its storage, at a time, but for what peers leave unread.
 *
 * A call is not interrupted, and some take long. So where there are other users, one whose turn was long, or
 * the turns of one reply in sum, rests for a multiple of it: whoever comes then is served at once most of the
 * time.
 */

#include "varlink/server/turns.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "varlink/server/server-private.h"

/* What is done in one turn; the rest waits for the next. */
static const TurnLimits turn_alone = {.calls = 16, .read_size = SERVER_CHUNK_SIZE, .write_size = SIZE_MAX};
static const TurnLimits turn_shared = {.calls = 1, .read_size = 8U * 1024U, .write_size = 32U * 1024U};
/* So long after the last time that another user was served. */
#define SHARED_USEC UINT64_C(100000)

/* Of the processor's time: a turn that was as long, and how many times that its user rests, within bounds. */
#define LONG_TURN_USEC UINT64_C(500)
#define REST_FACTOR    4U
#define REST_MAX_USEC  UINT64_C(20000)

/* What is asked from the kernel at once, and how often before somebody is served. */
#define EVENTS_MAX  64
#define COLLECT_MAX 16U

static UserQueue *turns_queue_of(Turns *turns, UserPlace place) {
        switch (place) {
        case USER_FRESH:
                return &turns->fresh;
        case USER_ROUND:
                return &turns->round;
        case USER_RESTS:
                return &turns->resting;
        default:
                return NULL;
        }
}

static void turns_place(Turns *turns, User *user, UserPlace place) {
        if (user->place != USER_IDLE)
                TAILQ_REMOVE(turns_queue_of(turns, user->place), user, place_link);
        if (user->place == USER_RESTS)
                turns->n_ready += user->n_ready;
        user->place = place;
        if (place == USER_RESTS)
                turns->n_ready -= user->n_ready;
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
        if (connection_is_midway(connection))
                TAILQ_INSERT_HEAD(&user->ready, connection, ready_link);
        else
                TAILQ_INSERT_TAIL(&user->ready, connection, ready_link);
        user->n_ready++;
        if (user->place == USER_RESTS)
                return;

        turns->n_ready++;
        if (user->place == USER_IDLE)
                turns_place(turns, user, USER_FRESH);
        turns_wake(turns);
}

void turns_unqueue(Turns *turns, Connection *connection) {
        User *user = connection->user;

        if (!connection->queued)
                return;

        connection->queued = false;
        TAILQ_REMOVE(&user->ready, connection, ready_link);
        user->n_ready--;
        if (user->place != USER_RESTS)
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

/* Whether there are other users beside the one who is served, or have been lately. */
static bool turns_are_shared(const VarlinkServer *server, uint64_t now_usec) {
        return server->users.n_items > 1 || now_usec < server->turns.shared_until_usec;
}

static const TurnLimits *turns_limits(VarlinkServer *server, uid_t uid) {
        Turns *turns = &server->turns;
        uint64_t now = 0;

        (void)sd_event_now(server->event, CLOCK_MONOTONIC, &now);
        if (uid != turns->last_uid && turns->last_uid != (uid_t)-1)
                turns->shared_until_usec = now + SHARED_USEC;
        turns->last_uid = uid;
        return turns_are_shared(server, now) ? &turn_shared : &turn_alone;
}

static void turns_arm(Turns *turns) {
        uint64_t next = UINT64_MAX;
        const User *user;

        TAILQ_FOREACH(user, &turns->resting, place_link)
                if (user->rests_until_usec < next)
                        next = user->rests_until_usec;

        (void)sd_event_source_set_time(turns->rest_timer, next);
        (void)sd_event_source_set_enabled(turns->rest_timer,
                                          next == UINT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static int turns_on_rested(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        Turns *turns = &((VarlinkServer *)userdata)->turns;
        uint64_t now = clock_now_usec();
        User *user, *next;

        for (user = TAILQ_FIRST(&turns->resting); user; user = next) {
                next = TAILQ_NEXT(user, place_link);
                if (user->rests_until_usec <= now)
                        turns_place(turns, user, user->n_ready > 0 ? USER_ROUND : USER_IDLE);
        }

        turns_arm(turns);
        if (turns->n_ready > 0)
                turns_wake(turns);
        return 0;
}

/* After a turn of @user, or those of one reply, that took @took_usec. Without others there is nobody to rest
 * for. */
static void turns_let_rest(VarlinkServer *server, User *user, uint64_t took_usec) {
        uint64_t rest_usec = took_usec * REST_FACTOR, now_usec;
        Turns *turns = &server->turns;

        if (took_usec < LONG_TURN_USEC)
                return;
        now_usec = clock_now_usec();
        if (!turns_are_shared(server, now_usec))
                return;

        user->rests_until_usec = now_usec + (rest_usec < REST_MAX_USEC ? rest_usec : REST_MAX_USEC);
        turns_place(turns, user, USER_RESTS);
        turns_arm(turns);
}

/* Its user is gone if that was the end of the last connection. */
static void turns_serve(VarlinkServer *server, Connection *connection) {
        const TurnLimits *limits = turns_limits(server, connection->peer.uid);
        uint64_t begin = clock_cpu_usec();
        User *user;

        connection_turn(connection, limits);
        user = connection->user;
        if (!user)
                return;

        user->took_usec += clock_cpu_usec() - begin;
        if (connection_is_writing(connection))
                return;
        turns_let_rest(server, user, user->took_usec);
        user->took_usec = 0;
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
                turns_serve(server, connection);
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
        int r;

        TAILQ_INIT(&turns->fresh);
        TAILQ_INIT(&turns->round);
        TAILQ_INIT(&turns->resting);
        turns->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        turns->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (turns->epoll_fd < 0 || turns->wake_fd < 0 ||
            epoll_ctl(turns->epoll_fd, EPOLL_CTL_ADD, turns->wake_fd, &event) < 0)
                return -errno;

        r = sd_event_add_time(server->event, &turns->rest_timer, CLOCK_MONOTONIC, UINT64_MAX, 1,
                              turns_on_rested, server);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(turns->rest_timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        return sd_event_add_io(server->event, &turns->source, turns->epoll_fd, EPOLLIN, turns_on_io, server);
}

void turns_deinit(Turns *turns) {
        sd_event_source_disable_unref(turns->source);
        sd_event_source_disable_unref(turns->rest_timer);
        closep(&turns->epoll_fd);
        closep(&turns->wake_fd);
}
