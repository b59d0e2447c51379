/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * How long a user waits who asks for one thing at a time: a list, a lease and its release, a new connection
 * with a call. Prints the median and the 99th percentile of each in microseconds, as one line of JSON.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "tests/connect.h"
#include "util/cleanup.h"
#include "util/parse.h"

#define BROKER      "io.spebroker.Broker."
#define SAMPLES_MAX 100000U
#define READ_SIZE   (1024U * 1024U)
#define LEASE_ID    "\"leaseId\":\""
#define ID_LENGTH   32

typedef struct Neighbour {
        const char *path;
        int fd;
        char *buffer; /* the last reply */
        double *samples;
        unsigned n;
} Neighbour;

typedef bool (*Step)(Neighbour *neighbour);

static double now_usec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static bool connect_to(Neighbour *neighbour) {
        closep(&neighbour->fd);
        neighbour->fd = -1;
        return connect_unix(neighbour->path, &neighbour->fd) == 0;
}

/* A call and its reply, which is no error. */
static bool call(Neighbour *neighbour, const char *message) {
        size_t n = 0;

        if (send(neighbour->fd, message, strlen(message) + 1, MSG_NOSIGNAL) < 0)
                return false;
        while (n == 0 || neighbour->buffer[n - 1] != '\0') {
                ssize_t k = recv(neighbour->fd, neighbour->buffer + n, READ_SIZE - n, 0);

                if (k <= 0)
                        return false;
                n += (size_t)k;
        }
        return strncmp(neighbour->buffer, "{\"error\"", strlen("{\"error\"")) != 0;
}

static bool step_list(Neighbour *neighbour) {
        return call(neighbour, "{\"method\":\"" BROKER "ListInstances\"}");
}

static bool step_pair(Neighbour *neighbour) {
        char release[256];
        const char *id;

        if (!call(neighbour,
                  "{\"method\":\"" BROKER "Acquire\",\"parameters\":{\"request\":{\"vm\":\"neighbour\","
                  "\"vcpus\":1,\"bufferSize\":4096,\"instance\":\"arm_spe_1\"}}}"))
                return false;
        id = strstr(neighbour->buffer, LEASE_ID);
        if (!id)
                return false;
        (void)snprintf(release, sizeof(release),
                       "{\"method\":\"" BROKER "Release\",\"parameters\":{\"leaseId\":\"%.*s\"}}", ID_LENGTH,
                       id + strlen(LEASE_ID));
        return call(neighbour, release);
}

static bool step_connect(Neighbour *neighbour) {
        return connect_to(neighbour) && step_list(neighbour);
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static bool measure(Neighbour *neighbour, const char *name, Step step, bool last) {
        for (unsigned i = 0; i < neighbour->n; i++) {
                double begin = now_usec();

                if (!step(neighbour)) {
                        fprintf(stderr, "neighbour: %s: %s: %s\n", name, strerror(errno), neighbour->buffer);
                        return false;
                }
                neighbour->samples[i] = now_usec() - begin;
        }

        qsort(neighbour->samples, neighbour->n, sizeof(*neighbour->samples), compare);
        printf("\"%s\":{\"p50\":%.1f,\"p99\":%.1f}%s", name, neighbour->samples[neighbour->n / 2],
               neighbour->samples[neighbour->n * 99 / 100], last ? "}\n" : ",");
        return true;
}

int main(int argc, char **argv) {
        Neighbour neighbour = {.fd = -1};
        uint64_t n;

        if (argc != 3 || parse_u64(argv[2], SAMPLES_MAX, &n) != 0 || n == 0) {
                fprintf(stderr, "usage: neighbour SOCKET TIMES\n");
                return 2;
        }
        neighbour.path = argv[1];
        neighbour.n = (unsigned)n;
        neighbour.buffer = calloc(1, READ_SIZE);
        neighbour.samples = calloc(neighbour.n, sizeof(*neighbour.samples));
        if (!neighbour.buffer || !neighbour.samples || !connect_to(&neighbour))
                return EXIT_FAILURE;

        printf("{");
        if (!measure(&neighbour, "list", step_list, false) ||
            !measure(&neighbour, "pair", step_pair, false) ||
            !measure(&neighbour, "connect", step_connect, true))
                return EXIT_FAILURE;
        closep(&neighbour.fd);
        free(neighbour.buffer);
        free(neighbour.samples);
        return EXIT_SUCCESS;
}
