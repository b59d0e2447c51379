/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Real processes that lock real memory, and their twins that do not. */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/locked-memory.h"
#include "util/cleanup.h"

#define LOCKED_BYTES (UINT64_C(64) * 1024)

/* A child with an odd name that has locked @bytes. */
static pid_t child_start(uint64_t bytes) {
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)prctl(PR_SET_NAME, "x\nVmLck:\t9 kB");
                if (bytes > 0) {
                        void *memory =
                                mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

                        /* The sanitizer's mlock() locks nothing. */
                        if (memory == MAP_FAILED || syscall(SYS_mlock, memory, bytes) < 0)
                                _exit(EXIT_FAILURE);
                }
                (void)!write(ready[1], "", 1);
                for (;;)
                        pause();
        }

        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void check(uint64_t bytes) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        pid_t pid = child_start(bytes);
        uint64_t locked = UINT64_MAX;

        assert_int_equal(owner_new(pid, &owner), 0);
        assert_int_equal(locked_memory_read(owner, &locked), 0);
        assert_int_equal(locked, bytes);

        /* Dead, and not waited for yet: nothing is known of it. */
        locked = 1;
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
        assert_int_equal(locked_memory_read(owner, &locked), OWNER_E_NO_PROCESS);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(locked_memory_read(owner, &locked), OWNER_E_NO_PROCESS);
        assert_int_equal(locked, 1);
}

static void test_locked(_unused_ void **state) {
        check(LOCKED_BYTES);
}

static void test_nothing(_unused_ void **state) {
        check(0);
}

/* The pid is a living process's, but not the owner's. */
static void test_reused_pid(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        pid_t pid = child_start(0), other = child_start(LOCKED_BYTES);
        uint64_t locked;

        assert_int_equal(owner_new(pid, &owner), 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        owner->pid = other;
        assert_int_equal(locked_memory_read(owner, &locked), OWNER_E_NO_PROCESS);
        assert_int_equal(kill(other, SIGKILL), 0);
        assert_int_equal(waitpid(other, NULL, 0), other);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_locked),
                cmocka_unit_test(test_nothing),
                cmocka_unit_test(test_reused_pid),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
