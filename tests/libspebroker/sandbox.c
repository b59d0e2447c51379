/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A VMM in a sandbox: sandbox PHASE ALLOWED [SOCKET | CALLS STREAM]. It does what belongs to a phase of its
 * life with a seccomp filter that kills it for any system call but the ALLOWED ones (comma-separated); what
 * comes before that phase it does before it sets the filter. Contexts are made of the socket's path, or of
 * two connected descriptors. Where the test has to do something in between, "ready" is said, and a line read.
 * The name of a system call that is not known here is a failure.
 */

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <spebroker/spebroker.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/parse.h"

static const struct {
        const char *name;
        int number;
} known[] = {
        {"brk", SYS_brk},
        {"clock_gettime", SYS_clock_gettime},
        {"close", SYS_close},
        {"connect", SYS_connect},
        {"epoll_create1", SYS_epoll_create1},
        {"epoll_ctl", SYS_epoll_ctl},
        {"exit_group", SYS_exit_group},
        {"fcntl", SYS_fcntl},
        {"getpid", SYS_getpid},
        {"getrandom", SYS_getrandom},
        {"getsockopt", SYS_getsockopt},
        {"madvise", SYS_madvise},
        {"mmap", SYS_mmap},
        {"mprotect", SYS_mprotect},
        {"mremap", SYS_mremap},
        {"munmap", SYS_munmap},
        {"ppoll", SYS_ppoll},
        {"read", SYS_read},
        {"recvfrom", SYS_recvfrom},
        {"sendto", SYS_sendto},
        {"setsockopt", SYS_setsockopt},
        {"socket", SYS_socket},
        {"timerfd_create", SYS_timerfd_create},
        {"timerfd_settime", SYS_timerfd_settime},
        {"write", SYS_write},
};

_Noreturn static void fail(const char *what, int r) {
        fprintf(stderr, "%s: %d\n", what, r);
        exit(EXIT_FAILURE);
}

static int number_of(const char *name) {
        for (size_t i = 0; i < ELEMENTS_OF(known); i++)
                if (strcmp(known[i].name, name) == 0)
                        return known[i].number;

        fail(name, 0);
}

static void enter_sandbox(char *allowed) {
        struct sock_filter filter[2 * ELEMENTS_OF(known) + 2];
        struct sock_fprog program = {.filter = filter};
        unsigned short n = 0;

        filter[n++] =
                (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        for (char *name = strtok(allowed, ","); name; name = strtok(NULL, ",")) {
                if (n + 3U > ELEMENTS_OF(filter))
                        fail("too many", n);
                filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number_of(name), 0, 1);
                filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        }
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
        program.len = n;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                fail("seccomp", -1);
}

static void require(const char *what, int r, int expected) {
        if (r != expected)
                fail(what, r);
}

/* What process() says next. ppoll() by number, as poll() is another call on some architectures. */
static int await(struct spebroker *stream, struct spebroker_lease **ret_lease) {
        for (;;) {
                struct pollfd pfd = {.fd = spebroker_get_fd(stream), .events = spebroker_get_events(stream)};
                int r;

                r = spebroker_process(stream, ret_lease);
                if (r != SPEBROKER_AGAIN)
                        return r;
                (void)ppoll(&pfd, 1, NULL, NULL);
        }
}

static void expect(struct spebroker *stream, const char *state) {
        struct spebroker_lease *lease;
        int r;

        r = await(stream, &lease);
        if (r != 0 || strcmp(spebroker_lease_get_state(lease), state) != 0)
                fail(state, r);
        spebroker_lease_unref(lease);
}

static struct spebroker_request *new_request(void) {
        struct spebroker_request *request;

        require("request", spebroker_request_new(1, &request), 0);
        require("vm", spebroker_request_set_vm(request, "sandboxed"), 0);
        return request;
}

/* Takes a lease and follows it. */
static struct spebroker_lease *take_lease(struct spebroker *calls, struct spebroker *stream,
                                          const struct spebroker_request *request) {
        struct spebroker_lease *lease;

        require("acquire", spebroker_acquire(calls, request, 0, &lease), 0);
        require("follow", spebroker_follow(stream, spebroker_lease_get_id(lease)), 0);
        expect(stream, "granted");
        return lease;
}

static void query(struct spebroker *calls, const struct spebroker_request *request) {
        struct spebroker_decision *decision;

        require("query", spebroker_query(calls, request, &decision), 0);
        spebroker_decision_unref(decision);
}

static void give_back(struct spebroker *calls, struct spebroker *stream, struct spebroker_lease *lease) {
        require("release", spebroker_release(calls, spebroker_lease_get_id(lease)), 0);
        expect(stream, "ended");

        /* A refusal makes its sentence. */
        require("release again", spebroker_release(calls, spebroker_lease_get_id(lease)), SPEBROKER_REFUSED);
        spebroker_lease_unref(lease);
}

static void say(const char *word) {
        (void)!write(STDOUT_FILENO, word, strlen(word));
}

/* Until the test has done something to the broker. */
static void pause_here(void) {
        char byte;

        say("ready\n");
        (void)!read(STDIN_FILENO, &byte, 1);
}

static struct spebroker *connect_to(const char *path) {
        struct spebroker *context;

        require("connect", spebroker_new_from_path(path, &context), 0);
        return context;
}

static struct spebroker *descriptor(const char *text) {
        struct spebroker *context;
        uint64_t value;

        if (parse_u64(text, INT_MAX, &value) != 0)
                fail(text, 0);
        require("descriptor", spebroker_new_from_fd((int)value, &context), 0);
        return context;
}

/* --- Phases --- */

/* With number 0 free, a connection has to be moved away from it; and with nobody there, closed. */
static void phase_connect(char *allowed, char **arguments) {
        struct spebroker *context;

        close(STDIN_FILENO);
        enter_sandbox(allowed);
        spebroker_unref(connect_to(arguments[0]));
        require("nobody", spebroker_new_from_path("/nonexistent/socket", &context), SPEBROKER_NO_BROKER);
}

static void phase_descriptor(char *allowed, char **arguments) {
        enter_sandbox(allowed);
        (void)descriptor(arguments[0]);
}

static void phase_calls(char *allowed, char **arguments) {
        struct spebroker *calls = descriptor(arguments[0]), *stream = descriptor(arguments[1]);
        struct spebroker_request *request = new_request();

        enter_sandbox(allowed);
        query(calls, request);
        give_back(calls, stream, take_lease(calls, stream, request));
        spebroker_request_unref(request);
        spebroker_unref(stream);
        spebroker_unref(calls);
}

/* The broker goes away, and the VMM lives on, however often it asks. */
static void phase_lost(char *allowed, char **arguments) {
        struct spebroker *calls = descriptor(arguments[0]), *stream = descriptor(arguments[1]);
        struct spebroker_request *request = new_request();
        struct spebroker_lease *lease, *other;

        enter_sandbox(allowed);
        lease = take_lease(calls, stream, request);
        pause_here();
        require("stream", await(stream, &other), SPEBROKER_DISCONNECTED);
        require("process", spebroker_process(stream, &other), SPEBROKER_ENDED);
        require("follow", spebroker_follow(stream, spebroker_lease_get_id(lease)), SPEBROKER_DISCONNECTED);
        for (unsigned i = 0; i < 2; i++) {
                require("acquire", spebroker_acquire(calls, request, 0, &other), SPEBROKER_DISCONNECTED);
                require("release", spebroker_release(calls, spebroker_lease_get_id(lease)),
                        SPEBROKER_DISCONNECTED);
        }
        require("reconnect", spebroker_set_reconnect(calls, true), -EOPNOTSUPP);
        spebroker_lease_unref(lease);
        spebroker_request_unref(request);
        spebroker_unref(stream);
        spebroker_unref(calls);
}

static void phase_switch(char *allowed, char **arguments) {
        struct spebroker *context = connect_to(arguments[0]);

        enter_sandbox(allowed);
        require("reconnect", spebroker_set_reconnect(context, true), 0);
}

/* The broker restarts. */
static void phase_reconnect(char *allowed, char **arguments) {
        struct spebroker *calls = connect_to(arguments[0]), *stream = connect_to(arguments[0]);
        struct spebroker_request *request = new_request();
        struct spebroker_lease *lease;

        require("reconnect", spebroker_set_reconnect(calls, true), 0);
        require("reconnect", spebroker_set_reconnect(stream, true), 0);
        close(STDERR_FILENO); /* as above */
        enter_sandbox(allowed);
        lease = take_lease(calls, stream, request);
        pause_here();
        query(calls, request);
        require("lost", await(stream, &(struct spebroker_lease *){NULL}), SPEBROKER_DISCONNECTED);
        require("back", await(stream, &(struct spebroker_lease *){NULL}), SPEBROKER_RECONNECTED);
        give_back(calls, stream, lease);
        spebroker_request_unref(request);
        spebroker_unref(stream);
        spebroker_unref(calls);
}

static const struct {
        const char *name;
        void (*run)(char *allowed, char **arguments);
        int n_arguments;
} phases[] = {
        {"connect", phase_connect, 1}, {"descriptor", phase_descriptor, 1}, {"calls", phase_calls, 2},
        {"lost", phase_lost, 2},       {"switch", phase_switch, 1},         {"reconnect", phase_reconnect, 1},
};

int main(int argc, char **argv) {
        for (size_t i = 0; argc > 3 && i < ELEMENTS_OF(phases); i++) {
                if (strcmp(argv[1], phases[i].name) != 0 || argc != 3 + phases[i].n_arguments)
                        continue;

                phases[i].run(argv[2], argv + 3);
                say("done\n");
                _exit(EXIT_SUCCESS);
        }

        fail("phase", argc);
}
