/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The limit that a service can be measured against: frames by NUL and nothing else. Each message is answered
 * with the bytes of one file, all of one read's in one write. Nothing is parsed, and nothing is checked.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/cleanup.h"
#include "util/fs.h"

#define READ_SIZE   (64U * 1024U)
#define REPLIES_MAX 1024U
#define REPLY_MAX   ((size_t)1024 * 1024)
#define EVENTS_MAX  64

typedef struct Raw {
        int epoll_fd;
        int listener_fd;
        char *replies; /* REPLIES_MAX copies */
        size_t n_reply;
} Raw;

static int raw_listen(Raw *raw, const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));

        raw->listener_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (raw->listener_fd < 0 ||
            bind(raw->listener_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            listen(raw->listener_fd, SOMAXCONN) < 0)
                return -errno;
        return 0;
}

static int raw_watch(const Raw *raw, int fd) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

        return epoll_ctl(raw->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int raw_read_reply(Raw *raw, const char *path) {
        _cleanup_(freep) char *reply = NULL;
        size_t n;
        int r;

        r = fs_read_all(AT_FDCWD, path, REPLY_MAX, &reply, &n);
        if (r != 0)
                return r < 0 ? r : -ENOENT;

        raw->n_reply = n + 1;
        raw->replies = malloc(REPLIES_MAX * raw->n_reply);
        if (!raw->replies)
                return -ENOMEM;
        for (size_t i = 0; i < REPLIES_MAX; i++)
                memcpy(raw->replies + i * raw->n_reply, reply, raw->n_reply);
        return 0;
}

static void raw_serve(const Raw *raw, int fd) {
        char buffer[READ_SIZE];
        size_t n_replies = 0;
        ssize_t n;

        n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0) {
                close(fd);
                return;
        }

        for (ssize_t i = 0; i < n; i++)
                n_replies += buffer[i] == '\0' && n_replies < REPLIES_MAX;
        if (n_replies > 0 && send(fd, raw->replies, n_replies * raw->n_reply, MSG_NOSIGNAL) < 0)
                close(fd);
}

static int raw_run(const Raw *raw) {
        struct epoll_event events[EVENTS_MAX];

        for (;;) {
                int n = epoll_wait(raw->epoll_fd, events, EVENTS_MAX, -1);

                if (n < 0 && errno != EINTR)
                        return -errno;
                for (int i = 0; i < n; i++)
                        if (events[i].data.fd == raw->listener_fd)
                                (void)raw_watch(raw, accept4(raw->listener_fd, NULL, NULL, SOCK_CLOEXEC));
                        else
                                raw_serve(raw, events[i].data.fd);
        }
}

int main(int argc, char **argv) {
        Raw raw = {.listener_fd = -1};
        int r;

        if (argc != 3) {
                fprintf(stderr, "usage: raw-server SOCKET REPLY-FILE\n");
                return 2;
        }

        raw.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        r = raw_read_reply(&raw, argv[2]);
        if (r == 0)
                r = raw_listen(&raw, argv[1]);
        if (r == 0)
                r = raw_watch(&raw, raw.listener_fd);
        if (r == 0)
                r = raw_run(&raw);

        fprintf(stderr, "raw-server: %s\n", strerror(-r));
        return EXIT_FAILURE;
}
