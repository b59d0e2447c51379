/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* systemd's end of the socket for notifications. Nothing here waits. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define NOTIFY_TEXT_MAX 1024U

/* Hands out each message that is there, with the descriptor that came along (the callee's), or -1. */
static inline unsigned notify_receive(int notify, void (*obey)(const char *text, int fd)) {
        unsigned n_messages = 0;

        for (;; n_messages++) {
                union {
                        struct cmsghdr header;
                        char room[CMSG_SPACE(sizeof(int))];
                } control;
                char text[NOTIFY_TEXT_MAX];
                struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
                struct msghdr message = {
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control),
                };
                struct cmsghdr *header;
                int fd = -1;
                ssize_t n;

                n = recvmsg(notify, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
                if (n < 0)
                        break;
                text[n] = 0;
                header = CMSG_FIRSTHDR(&message);
                if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
                        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
                obey(text, fd);
        }

        assert_int_equal(errno, EAGAIN);
        return n_messages;
}
