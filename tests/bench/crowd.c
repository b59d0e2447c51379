/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One user who takes all that a service of varlink gives: connections of several kinds, each as many as asked
 * for or as there may be. Says how many it has of each once it has them, as one line of JSON, and goes on
 * until it is killed. Beside it, neighbour.c measures what is left for others.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/connect.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/parse.h"

#define BROKER      "io.spebroker.Broker."
#define EVENTS_MAX  64
#define READ_SIZE   (256U * 1024U)
#define DEPTH       16U
#define PEERS_MAX   8192U
#define FULL_MAX    (4U * 1024U * 1024U)
#define COUNT_MAX   100000U
#define FLOOD_BATCH 64U
#define TURNS_MAX   1000U
#define QUIET_MSEC  200

typedef struct Kind {
        const char *name;
        const char *call; /* NULL: says nothing */
        bool half;        /* without its end */
        bool full;        /* as often as the socket takes it */
        bool reads;
        bool again; /* every answer is followed by another call, DEPTH of them at first */
        bool flood; /* is closed at once, and another one made, for ever: so many a second; 0: as many as can
                       be */
} Kind;

#define LIST_CALL "{\"method\":\"" BROKER "ListInstances\"}"
#define ACQUIRE_CALL(instance, more)                                                                   \
        "{\"method\":\"" BROKER "Acquire\",\"parameters\":{\"request\":{\"vm\":\"crowd\",\"vcpus\":1," \
        "\"bufferSize\":4096,\"instance\":\"" instance "\"},\"waitUSec\":3600000000}" more "}"

/* What is taken. */
#define ACQUIRE_NOW_CALL                                                                               \
        "{\"method\":\"" BROKER "Acquire\",\"parameters\":{\"request\":{\"vm\":\"crowd\",\"vcpus\":1," \
        "\"instance\":\"arm_spe_0\"}}}"

/* Stands against all leases of the instance. */
#define QUERY_ALL_CALL                                                                               \
        "{\"method\":\"" BROKER "Query\",\"parameters\":{\"request\":{\"vm\":\"crowd\",\"vcpus\":1," \
        "\"instance\":\"arm_spe_1\",\"mode\":\"exclusive\"}}}"

static const Kind kinds[] = {
        {.name = "silent"},
        {.name = "half", .call = "{\"method\":", .half = true},
        {.name = "full", .call = LIST_CALL, .full = true},
        {.name = "call", .call = LIST_CALL, .reads = true, .again = true},
        {.name = "leases", .call = "{\"method\":\"" BROKER "ListLeases\"}", .reads = true, .again = true},
        {.name = "refused", .call = ACQUIRE_NOW_CALL, .reads = true, .again = true},
        {.name = "refusals", .call = "{\"method\":\"" BROKER "ListRefusals\"}", .reads = true, .again = true},
        {.name = "watch", .call = "{\"method\":\"" BROKER "Watch\",\"more\":true}", .reads = true},
        {.name = "deaf", .call = "{\"method\":\"" BROKER "Watch\",\"more\":true}"},
        {.name = "check", .call = "{\"method\":\"" BROKER "CheckHost\"}", .reads = true, .again = true},
        {.name = "busy", .call = QUERY_ALL_CALL, .reads = true, .again = true},
        {.name = "hold", .call = ACQUIRE_CALL("arm_spe_1", ",\"more\":true"), .reads = true},
        {.name = "wait", .call = ACQUIRE_CALL("arm_spe_0", ",\"more\":true"), .reads = true},
        {.name = "flood", .call = LIST_CALL, .flood = true},
};

typedef struct Peer {
        const Kind *kind;
        int fd;
        unsigned owed; /* calls that could not be sent yet */
} Peer;

typedef struct Crowd {
        const char *path;
        int epoll_fd;
        char *buffer;
        Peer peers[PEERS_MAX];
        unsigned n;
        const Kind *flood;
        uint64_t flood_rate;
        uint64_t flood_begin_usec;
        uint64_t n_flooded;
} Crowd;

static bool send_call(int fd, const Kind *kind) {
        size_t n = strlen(kind->call) + (kind->half ? 0 : 1);

        return send(fd, kind->call, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

static void begin(Peer *peer) {
        const Kind *kind = peer->kind;
        unsigned n = kind->again ? DEPTH : 1;

        if (!kind->call)
                return;
        if (kind->full)
                n = FULL_MAX / (unsigned)strlen(kind->call);
        for (unsigned i = 0; i < n && send_call(peer->fd, kind); i++)
                ;
}

/* One that the service does not want is one less. */
static int add(Crowd *crowd, const Kind *kind) {
        struct epoll_event event = {.events = kind->reads ? EPOLLIN : 0};
        Peer *peer = &crowd->peers[crowd->n];
        int r;

        if (crowd->n == PEERS_MAX)
                return -EMFILE;
        *peer = (Peer){.kind = kind, .fd = -1};
        r = connect_unix(crowd->path, &peer->fd);
        if (r < 0)
                return r;
        event.data.ptr = peer;
        if (epoll_ctl(crowd->epoll_fd, EPOLL_CTL_ADD, peer->fd, &event) < 0) {
                r = -errno;
                closep(&peer->fd);
                return r;
        }

        crowd->n++;
        begin(peer);
        return 0;
}

static void answer(Crowd *crowd, Peer *peer) {
        ssize_t n = peer->kind->reads ? recv(peer->fd, crowd->buffer, READ_SIZE, MSG_DONTWAIT) : 0;

        if (n == 0 || (n < 0 && errno != EAGAIN)) {
                closep(&peer->fd);
                peer->fd = -1;
                return;
        }
        for (ssize_t i = 0; peer->kind->again && i < n; i++)
                peer->owed += crowd->buffer[i] == '\0';
        while (peer->owed > 0 && send_call(peer->fd, peer->kind))
                peer->owed--;
}

static int turn(Crowd *crowd, int timeout_msec) {
        struct epoll_event events[EVENTS_MAX];
        int n;

        n = epoll_wait(crowd->epoll_fd, events, EVENTS_MAX, timeout_msec);
        for (int i = 0; i < n; i++)
                answer(crowd, events[i].data.ptr);
        return n;
}

/* How many are due, after as long as it takes for one of them. */
static uint64_t flood_pace(Crowd *crowd) {
        struct timespec pause = {.tv_nsec = (long)(USEC_PER_SEC * NSEC_PER_USEC / crowd->flood_rate)};
        uint64_t due;

        (void)nanosleep(&pause, NULL);
        due = (clock_now_usec() - crowd->flood_begin_usec) * crowd->flood_rate / USEC_PER_SEC;
        return due - crowd->n_flooded;
}

static void flood(Crowd *crowd) {
        uint64_t n = crowd->flood_rate > 0 ? flood_pace(crowd) : FLOOD_BATCH;

        for (uint64_t i = 0; i < n; i++) {
                _cleanup_(closep) int fd = -1;

                if (connect_unix(crowd->path, &fd) == 0)
                        (void)send_call(fd, crowd->flood);
        }
        crowd->n_flooded += n;
}

static const Kind *find_kind(const char *name, size_t n) {
        for (size_t i = 0; i < ELEMENTS_OF(kinds); i++)
                if (strlen(kinds[i].name) == n && memcmp(kinds[i].name, name, n) == 0)
                        return &kinds[i];

        return NULL;
}

/* KIND:COUNT */
static int add_all(Crowd *crowd, const char *argument) {
        const char *colon = strchr(argument, ':');
        const Kind *kind = colon ? find_kind(argument, (size_t)(colon - argument)) : NULL;
        uint64_t count;

        if (!kind || parse_u64(colon + 1, COUNT_MAX, &count) != 0)
                return -EINVAL;
        if (kind->flood) {
                crowd->flood = kind;
                crowd->flood_rate = count;
                crowd->flood_begin_usec = clock_now_usec();
                return 0;
        }
        for (uint64_t i = 0; i < count && add(crowd, kind) == 0; i++)
                if (i % EVENTS_MAX == 0)
                        (void)turn(crowd, 0);
        return 0;
}

static void tell(const Crowd *crowd) {
        printf("{");
        for (size_t i = 0; i < ELEMENTS_OF(kinds); i++) {
                unsigned n = 0;

                for (unsigned k = 0; k < crowd->n; k++)
                        n += crowd->peers[k].kind == &kinds[i] && crowd->peers[k].fd >= 0;
                printf("%s\"%s\":%u", i > 0 ? "," : "", kinds[i].name, n);
        }
        printf("}\n");
        fflush(stdout);
}

int main(int argc, char **argv) {
        static Crowd crowd;

        crowd.path = argv[1];
        crowd.buffer = malloc(READ_SIZE);
        crowd.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (argc < 3 || !crowd.buffer || crowd.epoll_fd < 0)
                return 2;
        for (int i = 2; i < argc; i++)
                if (add_all(&crowd, argv[i]) < 0) {
                        fprintf(stderr, "usage: crowd SOCKET KIND:COUNT...\n");
                        return 2;
                }

        /* Until nothing more comes; those that call go on for ever. */
        for (unsigned i = 0; i < TURNS_MAX && !crowd.flood && turn(&crowd, QUIET_MSEC) > 0; i++)
                ;
        tell(&crowd);
        for (;;) {
                (void)turn(&crowd, crowd.flood ? 0 : -1);
                if (crowd.flood)
                        flood(&crowd);
        }
}
