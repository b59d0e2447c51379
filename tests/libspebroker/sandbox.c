/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A VMM in a sandbox: sandbox CALLS STREAM ALLOWED. It gets two connected descriptors, makes contexts of
 * them, and then takes, follows and releases a lease with a seccomp filter that kills it for any system call
 * but the ALLOWED ones (comma-separated). The name of a system call that is not known here is a failure.
 */

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
        {"exit_group", SYS_exit_group},
        {"fcntl", SYS_fcntl},
        {"getrandom", SYS_getrandom},
        {"getsockopt", SYS_getsockopt},
        {"madvise", SYS_madvise},
        {"mmap", SYS_mmap},
        {"mprotect", SYS_mprotect},
        {"mremap", SYS_mremap},
        {"munmap", SYS_munmap},
        {"ppoll", SYS_ppoll},
        {"recvfrom", SYS_recvfrom},
        {"sendto", SYS_sendto},
        {"setsockopt", SYS_setsockopt},
        {"socket", SYS_socket},
        {"write", SYS_write},
};

static void fail(const char *what, int r) {
        fprintf(stderr, "%s: %d\n", what, r);
        exit(EXIT_FAILURE);
}

static int number_of(const char *name) {
        for (size_t i = 0; i < ELEMENTS_OF(known); i++)
                if (strcmp(known[i].name, name) == 0)
                        return known[i].number;

        fail(name, 0);
        return -1;
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

/* The stream's next change. ppoll() by number, as poll() is another call on some architectures. */
static void expect(struct spebroker *stream, const char *state) {
        struct spebroker_lease *lease;
        int r;

        for (;;) {
                struct pollfd pfd = {.fd = spebroker_get_fd(stream), .events = spebroker_get_events(stream)};

                r = spebroker_process(stream, &lease);
                if (r != SPEBROKER_AGAIN)
                        break;
                (void)ppoll(&pfd, 1, NULL, NULL);
        }
        if (r != 0 || strcmp(spebroker_lease_get_state(lease), state) != 0)
                fail(state, r);
        spebroker_lease_unref(lease);
}

static void use_lease(struct spebroker *calls, struct spebroker *stream, struct spebroker_request *request) {
        struct spebroker_decision *decision;
        struct spebroker_lease *lease;
        int r;

        r = spebroker_query(calls, request, &decision);
        if (r != 0 || !spebroker_decision_is_granted(decision))
                fail("query", r);
        spebroker_decision_unref(decision);

        r = spebroker_acquire(calls, request, 0, &lease);
        if (r != 0)
                fail("acquire", r);
        r = spebroker_follow(stream, spebroker_lease_get_id(lease));
        if (r != 0)
                fail("follow", r);
        expect(stream, "granted");
        r = spebroker_release(calls, spebroker_lease_get_id(lease));
        if (r != 0)
                fail("release", r);
        expect(stream, "ended");

        /* A refusal makes its sentence. */
        r = spebroker_release(calls, spebroker_lease_get_id(lease));
        if (r != SPEBROKER_REFUSED)
                fail("release", r);
        spebroker_lease_unref(lease);
}

static int descriptor(const char *text) {
        uint64_t value;

        if (parse_u64(text, INT_MAX, &value) != 0)
                fail(text, 0);
        return (int)value;
}

int main(int argc, char **argv) {
        struct spebroker *calls, *stream = NULL;
        struct spebroker_request *request = NULL;
        int r;

        if (argc != 4)
                return EXIT_FAILURE;

        r = spebroker_new_from_fd(descriptor(argv[1]), &calls);
        if (r == 0)
                r = spebroker_new_from_fd(descriptor(argv[2]), &stream);
        if (r == 0)
                r = spebroker_request_new(1, &request);
        if (r == 0)
                r = spebroker_request_set_vm(request, "sandboxed");
        if (r != 0)
                fail("contexts", r);

        enter_sandbox(argv[3]);
        use_lease(calls, stream, request);
        spebroker_request_unref(request);
        spebroker_unref(stream);
        spebroker_unref(calls);
        (void)!write(STDOUT_FILENO, "done\n", strlen("done\n"));
        _exit(EXIT_SUCCESS);
}
