/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Descriptors that go from one process to another, or are in flight. */

#include <string.h>
#include <sys/socket.h>

#include "util/cleanup.h"

_unused_ static void send_fd(int socket, int fd) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
        char byte = 0;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
        (void)!sendmsg(socket, &message, 0);
}

_unused_ static int receive_fd(int socket) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
        char byte;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        struct cmsghdr *header;
        int fd;

        assert_int_equal(recvmsg(socket, &message, MSG_CMSG_CLOEXEC), 1);
        header = CMSG_FIRSTHDR(&message);
        if (!header)
                return -1;
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
        return fd;
}
