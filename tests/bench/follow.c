/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * How long it takes from a uevent of the kernel to whoever wants to know. Has the kernel send uevents, one
 * after the other, and prints the median and the 99th percentile in microseconds as a line of JSON, of
 *
 *   follow N watch SOCKET FILE A B   the event on a Watch stream of the broker, which looks at FILE, that is
 * A and B in turn follow N bare                    the limit: a process that waits for a uevent, and then
 * writes a byte
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/netlink.h>

#include "tests/connect.h"
#include "util/cleanup.h"
#include "util/parse.h"

#define UEVENT_PATH   "/sys/devices/system/cpu/cpu0/uevent"
#define KERNEL_GROUP  1
#define ROUNDS_MAX    100000U
#define DEADLINE_MSEC 10000
#define READ_SIZE     (1024U * 1024U)
/* Beyond the broker's interval between two rescans: that is a bound on its work, and not on this. */
#define PAUSE_NSEC 30000000L

static const char call[] = "{\"method\":\"io.spebroker.Broker.Watch\",\"more\":true}";
static const char wanted[] = "\"kind\":\"instance\"";

typedef struct Follow {
        int fd;      /* where the answer comes */
        bool stream; /* it is a message of a Watch stream, else a byte */
        const char *file;
        const char *texts[2];
        char *buffer;
        size_t n;
} Follow;

static uint64_t now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Reads until the next NUL (or byte); 0 once it is there and what was wanted. */
static int await(Follow *follow) {
        for (;;) {
                struct pollfd fd = {.fd = follow->fd, .events = POLLIN};
                char *end = follow->stream ? memchr(follow->buffer, '\0', follow->n)
                                           : (follow->n > 0 ? follow->buffer : NULL);
                ssize_t n;

                if (end) {
                        bool good = !follow->stream || strstr(follow->buffer, wanted);

                        follow->n -= (size_t)(end - follow->buffer) + 1;
                        memmove(follow->buffer, end + 1, follow->n);
                        if (good)
                                return 0;
                        continue;
                }
                if (poll(&fd, 1, DEADLINE_MSEC) <= 0)
                        return -ETIME;
                n = read(follow->fd, follow->buffer + follow->n, READ_SIZE - follow->n);
                if (n <= 0)
                        return n < 0 ? -errno : -ECONNRESET;
                follow->n += (size_t)n;
        }
}

/* The host changes; whoever looks sees the old text or the new one. */
static int change(const Follow *follow, unsigned i) {
        _cleanup_(freep) char *beside = NULL;
        _cleanup_(fclosep) FILE *f = NULL;

        if (!follow->file)
                return 0;
        if (asprintf(&beside, "%s.new", follow->file) < 0) {
                beside = NULL;
                return -ENOMEM;
        }
        f = fopen(beside, "we");
        if (!f || fprintf(f, "%s\n", follow->texts[i % 2]) < 0 || fflush(f) != 0)
                return -errno;
        return rename(beside, follow->file) < 0 ? -errno : 0;
}

static int measure(Follow *follow, int uevent_fd, unsigned n, uint32_t *samples) {
        const struct timespec pause = {.tv_nsec = PAUSE_NSEC};

        for (unsigned i = 0; i < n; i++) {
                uint64_t begin;
                int r;

                (void)nanosleep(&pause, NULL);
                r = change(follow, i);
                if (r < 0)
                        return r;
                begin = now_nsec();
                if (pwrite(uevent_fd, "online", strlen("online"), 0) < 0)
                        return -errno;
                r = await(follow);
                if (r < 0)
                        return r;
                samples[i] = (uint32_t)(now_nsec() - begin);
        }
        return 0;
}

static int compare_samples(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

static double usec_at(const uint32_t *samples, unsigned n, unsigned percent) {
        size_t i = (size_t)(n - 1) * percent / 100;

        return samples[i] / 1000.0;
}

static void print(uint32_t *samples, unsigned n) {
        qsort(samples, n, sizeof(*samples), compare_samples);
        printf("{\"events\":%u,\"p50\":%.1f,\"p99\":%.1f}\n", n, usec_at(samples, n, 50),
               usec_at(samples, n, 99));
}

/* One byte for each of our uevents. Whose they are is told by the action, which the kernel's own rarely have.
 */
static void relay(int fd) {
        struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1U << (KERNEL_GROUP - 1)};
        static const char expected[] = "online@";
        char message[8192];
        int uevents;

        uevents = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
        if (uevents < 0 || bind(uevents, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            write(fd, "", 1) != 1)
                return;
        for (;;) {
                ssize_t n = recv(uevents, message, sizeof(message), 0);

                if (n < 0 && errno != ENOBUFS)
                        return;
                if (n >= (ssize_t)strlen(expected) && memcmp(message, expected, strlen(expected)) == 0 &&
                    write(fd, "", 1) != 1)
                        return;
        }
}

static int start_bare(Follow *follow, pid_t *ret_pid) {
        int fds[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(fds[0]);
                relay(fds[1]);
                _exit(EXIT_FAILURE);
        }

        close(fds[1]);
        follow->fd = fds[0];
        *ret_pid = pid;
        return await(follow); /* it has subscribed */
}

static int start_watch(Follow *follow, const char *path) {
        int r;

        r = connect_unix(path, &follow->fd);
        if (r < 0)
                return r;
        if (send(follow->fd, call, sizeof(call), MSG_NOSIGNAL) != sizeof(call))
                return -errno;
        follow->stream = true;
        return 0;
}

static int run(Follow *follow, unsigned n, const char *path) {
        _cleanup_(freep) uint32_t *samples = calloc(n, sizeof(*samples));
        _cleanup_(closep) int uevent_fd = open(UEVENT_PATH, O_WRONLY | O_CLOEXEC);
        pid_t pid = 0;
        int r;

        if (uevent_fd < 0)
                return -errno;
        if (!samples)
                return -ENOMEM;

        r = path ? start_watch(follow, path) : start_bare(follow, &pid);
        if (r == 0)
                r = measure(follow, uevent_fd, n, samples);
        if (pid > 0) {
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
        }
        if (r == 0)
                print(samples, n);
        return r;
}

int main(int argc, char **argv) {
        Follow follow = {.fd = -1};
        bool watch = argc == 7 && strcmp(argv[2], "watch") == 0;
        uint64_t n;
        int r;

        if ((!watch && !(argc == 3 && strcmp(argv[2], "bare") == 0)) ||
            parse_u64(argv[1], ROUNDS_MAX, &n) != 0 || n == 0) {
                fprintf(stderr, "usage: follow N watch SOCKET FILE A B | follow N bare\n");
                return 2;
        }
        if (watch) {
                follow.file = argv[4];
                follow.texts[0] = argv[5];
                follow.texts[1] = argv[6];
        }

        follow.buffer = malloc(READ_SIZE);
        r = follow.buffer ? run(&follow, (unsigned)n, watch ? argv[3] : NULL) : -ENOMEM;
        free(follow.buffer);
        closep(&follow.fd);
        if (r < 0) {
                fprintf(stderr, "follow: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
