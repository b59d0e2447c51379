/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Drives any varlink service on a unix socket: some connections, each of which keeps some calls in flight,
 * for some time. Prints one line of JSON: calls a second, the median and the 99th percentile of a call's time
 * in microseconds, and how many were answered with an error.
 *
 * A connection reads what there is, and answers each reply in it with a new call, all in one write: so a
 * service that batches is driven in batches.
 */

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "tests/connect.h"
#include "util/cleanup.h"
#include "util/parse.h"

#define CONNECTIONS_MAX 4096U
#define DEPTH_MAX       256U
#define EVENTS_MAX      64
#define READ_SIZE       (256U * 1024U)
#define SAMPLES_MAX     (16U * 1024U * 1024U)

static const char error_prefix[] = "{\"error\"";

typedef struct Peer {
        int fd;
        uint64_t sent_nsec[DEPTH_MAX]; /* of the calls in flight, a ring */
        unsigned first;
        unsigned n_in_flight;
        size_t n_matched; /* bytes of the reply being read that are those of an error */
        size_t n_reply;   /* bytes of it so far */
} Peer;

typedef struct Load {
        unsigned n_connections;
        unsigned depth;
        uint64_t duration_usec;
        const char *path;

        char *call; /* @depth copies */
        size_t n_call;
        char *buffer;
        Peer *peers;
        int epoll_fd;

        uint32_t *samples; /* nanoseconds */
        size_t n_samples;
        uint64_t n_calls;
        uint64_t n_errors;
} Load;

static uint64_t now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Calls are small, and a service that takes none of them is broken: a blocking write will do. */
static int peer_send(const Load *load, Peer *peer, unsigned n) {
        uint64_t now = now_nsec();

        for (unsigned i = 0; i < n; i++)
                peer->sent_nsec[(peer->first + peer->n_in_flight++) % DEPTH_MAX] = now;
        if (send(peer->fd, load->call, n * load->n_call, MSG_NOSIGNAL) != (ssize_t)(n * load->n_call))
                return -EPIPE;
        return 0;
}

static void load_count(Load *load, Peer *peer, uint64_t now) {
        uint64_t nsec = now - peer->sent_nsec[peer->first];

        if (load->n_samples < SAMPLES_MAX)
                load->samples[load->n_samples++] = nsec < UINT32_MAX ? (uint32_t)nsec : UINT32_MAX;
        load->n_calls++;
        load->n_errors += peer->n_matched == strlen(error_prefix);
        peer->first = (peer->first + 1) % DEPTH_MAX;
        peer->n_in_flight--;
        peer->n_matched = peer->n_reply = 0;
}

/* The beginning of a reply, which may come in pieces: is it that of an error? */
static void peer_match(Peer *peer, const char *bytes, size_t n) {
        for (size_t i = 0; i < n && peer->n_reply + i < strlen(error_prefix); i++)
                if (peer->n_matched == peer->n_reply + i && bytes[i] == error_prefix[peer->n_matched])
                        peer->n_matched++;
        peer->n_reply += n;
}

static int peer_receive(Load *load, Peer *peer) {
        unsigned n_replies = 0;
        uint64_t now;
        ssize_t n;

        n = recv(peer->fd, load->buffer, READ_SIZE, MSG_DONTWAIT);
        if (n <= 0)
                return n < 0 && errno == EAGAIN ? 0 : -ECONNRESET;

        now = now_nsec();
        for (const char *p = load->buffer, *end = p + n; p < end;) {
                const char *nul = memchr(p, '\0', (size_t)(end - p));

                peer_match(peer, p, (size_t)((nul ? nul : end) - p));
                if (!nul)
                        break;
                if (peer->n_in_flight == 0)
                        return -EPROTO;
                load_count(load, peer, now);
                n_replies++;
                p = nul + 1;
        }

        return n_replies > 0 ? peer_send(load, peer, n_replies) : 0;
}

static int load_start(Load *load) {
        for (unsigned i = 0; i < load->n_connections; i++) {
                struct epoll_event event = {.events = EPOLLIN, .data.ptr = &load->peers[i]};
                int r;

                r = connect_unix(load->path, &load->peers[i].fd);
                if (r < 0)
                        return r;
                if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, load->peers[i].fd, &event) < 0)
                        return -errno;
        }
        for (unsigned i = 0; i < load->n_connections; i++) {
                int r = peer_send(load, &load->peers[i], load->depth);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int load_run(Load *load) {
        uint64_t end = now_nsec() + load->duration_usec * 1000;
        struct epoll_event events[EVENTS_MAX];

        while (now_nsec() < end) {
                int n = epoll_wait(load->epoll_fd, events, EVENTS_MAX, 100);

                if (n < 0 && errno != EINTR)
                        return -errno;
                for (int i = 0; i < n; i++) {
                        int r = peer_receive(load, events[i].data.ptr);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int compare_samples(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

static double load_percentile(const Load *load, unsigned percent) {
        size_t i;

        if (load->n_samples == 0)
                return 0;
        i = (load->n_samples - 1) * percent / 100;
        return load->samples[i] / 1000.0;
}

static void load_print(Load *load, double seconds) {
        qsort(load->samples, load->n_samples, sizeof(*load->samples), compare_samples);
        printf("{\"calls\":%lu,\"errors\":%lu,\"rate\":%.0f,\"p50\":%.1f,\"p99\":%.1f}\n",
               (unsigned long)load->n_calls, (unsigned long)load->n_errors, (double)load->n_calls / seconds,
               load_percentile(load, 50), load_percentile(load, 99));
}

static void load_deinit(Load *load) {
        for (unsigned i = 0; load->peers && i < load->n_connections; i++)
                closep(&load->peers[i].fd);
        closep(&load->epoll_fd);
        free(load->call);
        free(load->buffer);
        free(load->peers);
        free(load->samples);
}

static int load_setup(Load *load, const char *method, const char *parameters) {
        _cleanup_(freep) char *call = NULL;
        int n;

        n = asprintf(&call, "{\"method\":\"%s\",\"parameters\":%s}", method, parameters);
        if (n < 0)
                return -ENOMEM;

        load->n_call = (size_t)n + 1;
        load->call = calloc(load->depth, load->n_call);
        load->buffer = malloc(READ_SIZE);
        load->peers = calloc(load->n_connections, sizeof(*load->peers));
        load->samples = malloc(SAMPLES_MAX * sizeof(*load->samples));
        load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (!load->call || !load->buffer || !load->peers || !load->samples || load->epoll_fd < 0)
                return -ENOMEM;

        for (unsigned i = 0; i < load->depth; i++)
                memcpy(load->call + i * load->n_call, call, load->n_call);
        for (unsigned i = 0; i < load->n_connections; i++)
                load->peers[i].fd = -1;
        return 0;
}

static int parse_arguments(int argc, char **argv, Load *load) {
        uint64_t value;
        int option;

        while ((option = getopt(argc, argv, "c:p:t:")) != -1)
                switch (option) {
                case 'c':
                        if (parse_u64(optarg, CONNECTIONS_MAX, &value) != 0 || value == 0)
                                return -EINVAL;
                        load->n_connections = (unsigned)value;
                        break;
                case 'p':
                        if (parse_u64(optarg, DEPTH_MAX, &value) != 0 || value == 0)
                                return -EINVAL;
                        load->depth = (unsigned)value;
                        break;
                case 't':
                        if (parse_duration(optarg, &load->duration_usec) != 0)
                                return -EINVAL;
                        break;
                default:
                        return -EINVAL;
                }
        return argc - optind == 2 || argc - optind == 3 ? 0 : -EINVAL;
}

static int load_measure(Load *load, const char *method, const char *parameters) {
        uint64_t begin;
        int r;

        r = load_setup(load, method, parameters);
        if (r < 0)
                return r;
        r = load_start(load);
        if (r < 0)
                return r;
        begin = now_nsec();
        r = load_run(load);
        if (r < 0)
                return r;

        load_print(load, (double)(now_nsec() - begin) / 1e9);
        return 0;
}

int main(int argc, char **argv) {
        Load load = {
                .n_connections = 1,
                .depth = 1,
                .duration_usec = 1000000,
                .epoll_fd = -1,
        };
        int r;

        if (parse_arguments(argc, argv, &load) < 0) {
                fprintf(stderr,
                        "usage: load [-c CONNECTIONS] [-p DEPTH] [-t TIME] SOCKET METHOD [PARAMETERS]\n");
                return 2;
        }

        load.path = argv[optind];
        r = load_measure(&load, argv[optind + 1], argc - optind == 3 ? argv[optind + 2] : "{}");
        load_deinit(&load);
        if (r < 0) {
                fprintf(stderr, "load: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
