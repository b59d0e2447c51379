/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* RLIMIT_MEMLOCK of real processes: read, set, and left alone. */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/memlock.h"
#include "util/cleanup.h"

#define OTHER_USER 65534
#define SOFT       UINT64_C(65536)
#define HARD       UINT64_C(131072) /* whoever runs the tests may have as much */

static pid_t child_start(uint64_t soft, uint64_t hard) {
        const struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
                        _exit(EXIT_FAILURE);
                (void)!write(ready[1], "", 1);
                for (;;)
                        pause();
        }

        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void child_end(pid_t pid) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void assert_limit(pid_t pid, uint64_t soft, uint64_t hard) {
        struct rlimit limit;

        assert_int_equal(prlimit(pid, RLIMIT_MEMLOCK, NULL, &limit), 0);
        assert_int_equal(limit.rlim_cur, soft);
        assert_int_equal(limit.rlim_max, hard);
}

static void test_replace(_unused_ void **state) {
        const MemlockLimit more = {.soft = SOFT + 1, .hard = HARD}, less = {.soft = 1, .hard = SOFT};
        _cleanup_(owner_freep) Owner *owner = NULL;
        pid_t pid = child_start(SOFT, HARD);
        MemlockLimit limit;

        assert_int_equal(owner_new(pid, &owner), 0);
        assert_int_equal(memlock_limit_read(owner, &limit), 0);
        assert_true(memlock_limit_equal(&limit, &(MemlockLimit){.soft = SOFT, .hard = HARD}));
        assert_int_equal(memlock_limit_replace(owner, &limit, &more), 0);
        assert_limit(pid, SOFT + 1, HARD);

        /* It is not as it was any more. */
        assert_int_equal(memlock_limit_replace(owner, &limit, &less), MEMLOCK_E_CHANGED);
        assert_limit(pid, SOFT + 1, HARD);
        assert_int_equal(memlock_limit_replace(owner, NULL, &less), 0);
        assert_limit(pid, 1, SOFT);
        child_end(pid);
}

static void test_unlimited(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        MemlockLimit limit;
        struct rlimit ours;
        pid_t pid;

        assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &ours), 0);
        if (ours.rlim_max != RLIM_INFINITY)
                skip();

        pid = child_start(SOFT, RLIM_INFINITY);
        assert_int_equal(owner_new(pid, &owner), 0);
        assert_int_equal(memlock_limit_read(owner, &limit), 0);
        assert_int_equal(limit.hard, MEMLOCK_UNLIMITED);
        assert_int_equal(
                memlock_limit_replace(owner, &limit, &(MemlockLimit){MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED}),
                0);
        assert_limit(pid, RLIM_INFINITY, RLIM_INFINITY);
        child_end(pid);
}

/* A hard limit is raised with the capability alone. */
static void test_permission(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        pid_t pid = child_start(SOFT, HARD);
        MemlockLimit limit;
        bool able = memlock_limit_is_able();

        assert_int_equal(owner_new(pid, &owner), 0);
        assert_int_equal(memlock_limit_read(owner, &limit), 0);
        assert_int_equal(
                memlock_limit_replace(owner, &limit, &(MemlockLimit){.soft = SOFT, .hard = HARD + 1}),
                able ? 0 : MEMLOCK_E_NOT_PERMITTED);
        assert_limit(pid, SOFT, able ? HARD + 1 : HARD);
        child_end(pid);
}

/* Asked by another user, who may read it and no more. In a child, which takes that user. */
static void test_another_user(_unused_ void **state) {
        const struct { uint64_t soft, hard; } limits[] = {{SOFT, HARD}, {0, 0}, {1, SOFT}};

        if (getuid() != 0)
                skip();

        for (size_t i = 0; i < ELEMENTS_OF(limits); i++) {
                pid_t pid = child_start(limits[i].soft, limits[i].hard), child = fork();
                int status;

                assert_true(child >= 0);
                if (child == 0) {
                        const MemlockLimit less = {0};
                        MemlockLimit limit;
                        Owner *owner;
                        bool good;

                        good = setresuid(OTHER_USER, OTHER_USER, OTHER_USER) == 0 &&
                               owner_new(pid, &owner) == 0 && memlock_limit_read(owner, &limit) == 0 &&
                               limit.soft == limits[i].soft && limit.hard == limits[i].hard &&
                               memlock_limit_replace(owner, NULL, &less) == MEMLOCK_E_NOT_PERMITTED &&
                               !memlock_limit_is_able();
                        _exit(good ? EXIT_SUCCESS : EXIT_FAILURE);
                }
                assert_int_equal(waitpid(child, &status, 0), child);
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
                assert_limit(pid, limits[i].soft, limits[i].hard);
                child_end(pid);
        }
}

static void test_dead(_unused_ void **state) {
        const MemlockLimit less = {.soft = 1, .hard = SOFT};
        _cleanup_(owner_freep) Owner *owner = NULL;
        pid_t pid = child_start(SOFT, HARD);
        MemlockLimit limit;

        assert_int_equal(owner_new(pid, &owner), 0);
        assert_int_equal(memlock_limit_read(owner, &limit), 0);

        /* Not waited for yet: the kernel still knows it. */
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
        assert_int_equal(memlock_limit_read(owner, &limit), MEMLOCK_E_NO_PROCESS);
        assert_int_equal(memlock_limit_replace(owner, &limit, &less), MEMLOCK_E_NO_PROCESS);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(memlock_limit_read(owner, &limit), MEMLOCK_E_NO_PROCESS);
        assert_int_equal(memlock_limit_replace(owner, NULL, &less), MEMLOCK_E_NO_PROCESS);
}

/* The pid is a living process's, but not the owner's. */
static void test_reused_pid(_unused_ void **state) {
        const MemlockLimit less = {.soft = 1, .hard = SOFT};
        pid_t pid = child_start(SOFT, HARD), other = child_start(SOFT, HARD);
        _cleanup_(owner_freep) Owner *owner = NULL;
        MemlockLimit limit;

        assert_int_equal(owner_new(pid, &owner), 0);
        child_end(pid);
        owner->pid = other;
        assert_int_equal(memlock_limit_read(owner, &limit), MEMLOCK_E_NO_PROCESS);
        assert_int_equal(memlock_limit_replace(owner, NULL, &less), MEMLOCK_E_NO_PROCESS);
        assert_limit(other, SOFT, HARD);
        child_end(other);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_replace),    cmocka_unit_test(test_unlimited),
                cmocka_unit_test(test_permission), cmocka_unit_test(test_another_user),
                cmocka_unit_test(test_dead),       cmocka_unit_test(test_reused_pid),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
