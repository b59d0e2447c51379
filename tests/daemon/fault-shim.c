/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Faults for a daemon under test: preloaded, it stands before the C library's wrappers of system calls (the
 * daemon's own calls, and those of the libraries that it uses), and makes chosen ones fail, do half of what
 * they were asked, or be the last thing that the process does. The daemon itself knows nothing of it.
 *
 * SPE_FAULTS names a file of rules, one per line; while there is no such file, nothing is touched. A file
 * that takes its place (by rename) counts from the beginning.
 *
 *   CALL:TEXT:WHICH:ACTION
 *
 *   CALL    the wrapper; open() is openat, unlink() unlinkat, renameat2() renameat, sendto() sendmsg, and
 *           what goes through syscall() has its own name: pidfd_open, pidfd_send_signal, kcmp, else syscall.
 *           All allocations are malloc. "*" is each call but malloc
 *   TEXT    of what the call is about: the path, with the directory; the file that a descriptor is open on,
 *           as /proc says; the bytes to be sent; or the program or library that allocates. Empty: whatever
 *           it is about
 *   WHICH   of the calls that fit: "3", "3+" (from then on), "2-5", "odd", "*"
 *   ACTION  the name of an errno: it fails, with nothing done
 *           short: of the bytes, half and at least one
 *           kill-before, kill-after: SIGKILL; torn: half of the bytes, then SIGKILL
 *           stop-before, stop-after: SIGSTOP, for whoever looks at what is there just then
 *           pass: nothing but a line in the log
 *
 * Of the rules that fit and are due the first acts; all that fit count. SPE_FAULTS_LOG names a file that gets
 * a line for each time: the rule's number from 0 on, the call, and what it was about. It works in the program
 * called SPE_FAULTS_PROGRAM alone, and not in those that start it.
 */

#include "tests/daemon/fault-rules.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define EXPORT __attribute__((__visibility__("default")))

/* The call, where a rule lets it come so far. */
#define CALL(failed, subject, name, call)                     \
        ({                                                    \
                Verdict verdict = rules_judge(name, subject); \
                __typeof__(call) result_ = (failed);          \
                                                              \
                if (!verdict_fails(&verdict))                 \
                        result_ = (call);                     \
                verdict_finish(&verdict);                     \
                result_;                                      \
        })

#define FD(n)          (&(Subject){.fd = (n), .other_fd = -1})
#define PATH(at, name) (&(Subject){.fd = (at), .other_fd = -1, .path = (name)})
#define DATA(p, n) \
        (&(Subject){.fd = -1, .other_fd = -1, .data = &(struct iovec){(void *)(p), (n)}, .n_data = 1})
#define WORD(at, words) (&(Subject){.fd = (at), .other_fd = -1, .word = (words)})

/* Files. What follows fixed arguments may not be there: it then comes through as whatever it is. */

EXPORT int openat(int dir_fd, const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
        return CALL(-1, PATH(dir_fd, path), "openat", NEXT(openat)(dir_fd, path, flags, mode));
}

EXPORT int open(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
        return CALL(-1, PATH(AT_FDCWD, path), "openat", NEXT(open)(path, flags, mode));
}

int openat64(int dir_fd, const char *path, int flags, ...)
        __attribute__((__alias__("openat"), __visibility__("default")));
int open64(const char *path, int flags, ...) __attribute__((__alias__("open"), __visibility__("default")));

EXPORT ssize_t read(int fd, void *buffer, size_t n) {
        return CALL(-1, FD(fd), "read", NEXT(read)(fd, buffer, verdict_part(&verdict, n)));
}

EXPORT ssize_t write(int fd, const void *buffer, size_t n) {
        return CALL(-1, FD(fd), "write", NEXT(write)(fd, buffer, verdict_part(&verdict, n)));
}

EXPORT int close(int fd) {
        return CALL(-1, FD(fd), "close", NEXT(close)(fd));
}

EXPORT int fsync(int fd) {
        return CALL(-1, FD(fd), "fsync", NEXT(fsync)(fd));
}

EXPORT int fchmod(int fd, mode_t mode) {
        return CALL(-1, FD(fd), "fchmod", NEXT(fchmod)(fd, mode));
}

EXPORT int renameat(int old_fd, const char *old, int new_fd, const char *new) {
        const Subject subject = {.fd = old_fd, .path = old, .other_fd = new_fd, .other_path = new};

        return CALL(-1, &subject, "renameat", NEXT(renameat)(old_fd, old, new_fd, new));
}

EXPORT int renameat2(int old_fd, const char *old, int new_fd, const char *new, unsigned flags) {
        const Subject subject = {.fd = old_fd, .path = old, .other_fd = new_fd, .other_path = new};

        return CALL(-1, &subject, "renameat", NEXT(renameat2)(old_fd, old, new_fd, new, flags));
}

EXPORT int unlinkat(int dir_fd, const char *path, int flags) {
        return CALL(-1, PATH(dir_fd, path), "unlinkat", NEXT(unlinkat)(dir_fd, path, flags));
}

EXPORT int unlink(const char *path) {
        return CALL(-1, PATH(AT_FDCWD, path), "unlinkat", NEXT(unlink)(path));
}

EXPORT int mkdirat(int dir_fd, const char *path, mode_t mode) {
        return CALL(-1, PATH(dir_fd, path), "mkdirat", NEXT(mkdirat)(dir_fd, path, mode));
}

EXPORT struct dirent *readdir(DIR *dir) {
        return CALL(NULL, FD(dirfd(dir)), "readdir", NEXT(readdir)(dir));
}

EXPORT struct dirent64 *readdir64(DIR *dir) {
        return CALL(NULL, FD(dirfd(dir)), "readdir", NEXT(readdir64)(dir));
}

EXPORT ssize_t getrandom(void *buffer, size_t n, unsigned flags) {
        return CALL(-1, WORD(-1, "random"), "getrandom",
                    NEXT(getrandom)(buffer, verdict_part(&verdict, n), flags));
}

/* Sockets. */

EXPORT int socket(int domain, int type, int protocol) {
        return CALL(-1, WORD(-1, "socket"), "socket", NEXT(socket)(domain, type, protocol));
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t n) {
        return CALL(-1, FD(fd), "bind", NEXT(bind)(fd, address, n));
}

EXPORT int listen(int fd, int backlog) {
        return CALL(-1, FD(fd), "listen", NEXT(listen)(fd, backlog));
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags) {
        return CALL(-1, FD(fd), "accept4", NEXT(accept4)(fd, address, n, flags));
}

EXPORT ssize_t recv(int fd, void *buffer, size_t n, int flags) {
        return CALL(-1, FD(fd), "recv", NEXT(recv)(fd, buffer, verdict_part(&verdict, n), flags));
}

EXPORT ssize_t send(int fd, const void *buffer, size_t n, int flags) {
        return CALL(-1, DATA(buffer, n), "send", NEXT(send)(fd, buffer, verdict_part(&verdict, n), flags));
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t n, int flags, const struct sockaddr *address,
                      socklen_t n_address) {
        return CALL(-1, DATA(buffer, n), "sendmsg",
                    NEXT(sendto)(fd, buffer, verdict_part(&verdict, n), flags, address, n_address));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
        const Subject subject = {
                .fd = -1, .other_fd = -1, .data = message->msg_iov, .n_data = message->msg_iovlen};

        return CALL(-1, &subject, "sendmsg", NEXT(sendmsg)(fd, message, flags));
}

/* A part of what there is room for, if that is one piece. */
static ssize_t receive_part(ssize_t (*next)(int, struct msghdr *, int), int fd, struct msghdr *message,
                            int flags, const Verdict *verdict) {
        struct iovec whole = message->msg_iovlen == 1 ? *message->msg_iov : (struct iovec){0};
        ssize_t n;

        if (message->msg_iovlen == 1)
                message->msg_iov->iov_len = verdict_part(verdict, whole.iov_len);
        n = next(fd, message, flags);
        if (message->msg_iovlen == 1)
                *message->msg_iov = whole;
        return n;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
        return CALL(-1, FD(fd), "recvmsg", receive_part(NEXT(recvmsg), fd, message, flags, &verdict));
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *n) {
        char word[32];

        (void)snprintf(word, sizeof(word), "option %i", option);
        return CALL(-1, WORD(fd, word), "getsockopt", NEXT(getsockopt)(fd, level, option, value, n));
}

/* Descriptors and events. */

EXPORT int epoll_ctl(int fd, int operation, int other, struct epoll_event *event) {
        static const char *const words[] = {"?", "add", "del", "mod"};

        return CALL(-1, WORD(other, words[operation & 3]), "epoll_ctl",
                    NEXT(epoll_ctl)(fd, operation, other, event));
}

EXPORT int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
        return CALL(-1, FD(fd), "epoll_wait", NEXT(epoll_wait)(fd, events, n, timeout));
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout) {
        return CALL(-1, FD(n > 0 ? fds[0].fd : -1), "poll", NEXT(poll)(fds, n, timeout));
}

EXPORT int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) {
        return CALL(-1, FD(fd), "timerfd_settime", NEXT(timerfd_settime)(fd, flags, new, old));
}

EXPORT int pipe2(int fds[2], int flags) {
        return CALL(-1, WORD(-1, "pipe"), "pipe2", NEXT(pipe2)(fds, flags));
}

EXPORT int fcntl(int fd, int command, ...) {
        void *argument;
        va_list ap;

        va_start(ap, command);
        argument = va_arg(ap, void *);
        va_end(ap);
        return CALL(-1, WORD(fd, command == F_DUPFD_CLOEXEC ? "dup" : "fcntl"), "fcntl",
                    NEXT(fcntl)(fd, command, argument));
}

int fcntl64(int fd, int command, ...) __attribute__((__alias__("fcntl"), __visibility__("default")));

EXPORT long syscall(long number, ...) {
        char word[32];
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (unsigned i = 0; i < 6; i++)
                a[i] = va_arg(ap, long); /* NOLINT(clang-analyzer-valist.Uninitialized): version 14's error */
        va_end(ap);
        (void)snprintf(word, sizeof(word), "%li", a[0]);
        return CALL(-1, WORD(-1, word),
                    number == SYS_pidfd_open          ? "pidfd_open"
                    : number == SYS_pidfd_send_signal ? "pidfd_send_signal"
                    : number == SYS_kcmp              ? "kcmp"
                                                      : "syscall",
                    NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

/* Memory. Each allocation is a "malloc", whatever it is called. */

static bool denied(void *caller) {
        static bool asking;
        Verdict verdict = {.action = ACTION_PASS};
        Dl_info object;

        if (asking || !rules_may_be_about_memory())
                return false;
        asking = true;
        if (rules_look())
                verdict = rules_judge(CALL_MEMORY,
                                      WORD(-1, dladdr(caller, &object) != 0 ? object.dli_fname : ""));
        asking = false;
        return verdict_fails(&verdict);
}

EXPORT void *malloc(size_t n) {
        return denied(__builtin_return_address(0)) ? NULL : NEXT(malloc)(n);
}

EXPORT void *calloc(size_t n, size_t size) {
        return denied(__builtin_return_address(0)) ? NULL : NEXT(calloc)(n, size);
}

EXPORT void *realloc(void *p, size_t n) {
        return denied(__builtin_return_address(0)) ? NULL : NEXT(realloc)(p, n);
}

EXPORT void *reallocarray(void *p, size_t n, size_t size) {
        return denied(__builtin_return_address(0)) ? NULL : NEXT(reallocarray)(p, n, size);
}
