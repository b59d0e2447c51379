/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/owner.h"
#include "util/cleanup.h"

#define DEADLINE_MSEC 30000
#define NOBODY        65534U

/* A child that has done what it was asked to and waits to be killed. */
typedef struct Child {
        pid_t pid;
        int pipe_fd; /* readable end of file when it is gone */
} Child;

static Child child_start(const char *command, uid_t uid) {
        int fds[2];
        char byte;
        Child child;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        child.pid = fork();
        assert_true(child.pid >= 0);
        if (child.pid == 0) {
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NAME, command) < 0)
                        _exit(EXIT_FAILURE);
                if (uid != getuid() && setresuid(uid, uid, uid) < 0)
                        _exit(EXIT_FAILURE);
                if (write(fds[1], "x", 1) != 1)
                        _exit(EXIT_FAILURE);
                for (;;)
                        pause();
        }
        close(fds[1]);
        child.pipe_fd = fds[0];
        assert_int_equal(read(child.pipe_fd, &byte, 1), 1);
        return child;
}

static void child_reap(const Child *child) {
        assert_int_equal(waitpid(child->pid, NULL, 0), child->pid);
        close(child->pipe_fd);
}

static void child_stop(const Child *child) {
        assert_int_equal(kill(child->pid, SIGKILL), 0);
        child_reap(child);
}

static uint64_t boottime_usec(void) {
        struct timespec ts;

        assert_int_equal(clock_gettime(CLOCK_BOOTTIME, &ts), 0);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void wait_readable(int fd) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&p, 1, DEADLINE_MSEC), 1);
}

static void test_self(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        char command[16];

        assert_int_equal(owner_new(getpid(), &owner), 0);
        assert_int_equal(owner->pid, getpid());
        assert_int_equal(owner->uid, getuid());
        assert_int_equal(prctl(PR_GET_NAME, command), 0);
        assert_string_equal(owner->command, command);
        assert_true(fcntl(owner->pidfd, F_GETFD) & FD_CLOEXEC);
        assert_true(owner_is_alive(owner));
        /* We have just been started, and not before the machine. */
        assert_true(owner->start_time > 0);
        assert_true(owner->start_time / (uint64_t)sysconf(_SC_CLK_TCK) <= boottime_usec() / 1000000);
}

/* Its life, from the pidfd: alive, then gone at once when it dies, before it is waited for. */
static void test_life(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL, *none = NULL;
        Child child = child_start("mortal", getuid());
        CpuSet cpus;

        assert_int_equal(owner_new(child.pid, &owner), 0);
        assert_string_equal(owner->command, "mortal");
        assert_true(owner_is_alive(owner));
        assert_int_equal(owner_get_affinity(owner, &cpus), 0);

        assert_int_equal(kill(child.pid, SIGKILL), 0);
        wait_readable(owner->pidfd);
        assert_false(owner_is_alive(owner));
        /* A zombie owns nothing. */
        assert_int_equal(owner_new(child.pid, &none), OWNER_E_NO_PROCESS);
        child_reap(&child);
        assert_int_equal(owner_new(child.pid, &none), OWNER_E_NO_PROCESS);
        assert_int_equal(owner_get_affinity(owner, &cpus), OWNER_E_NO_PROCESS);
        assert_null(none);
}

/* No name of a command can move the fields of stat and status. */
static void test_command(_unused_ void **state) {
        static const char *const commands[] = {
                "a) S 1 2 (b", ") 0 0 0 0 0 0 0", "\nUid:\t7\t7\t7", "((((", "))))", "",
                "\xff\xfe\n",  "exactly15bytes!"};
        _cleanup_(owner_freep) Owner *plain = NULL;
        Child first = child_start("plain", getuid());

        assert_int_equal(owner_new(first.pid, &plain), 0);
        for (size_t i = 0; i < ELEMENTS_OF(commands); i++) {
                _cleanup_(owner_freep) Owner *owner = NULL;
                Child child = child_start(commands[i], getuid());

                assert_int_equal(owner_new(child.pid, &owner), 0);
                assert_string_equal(owner->command, commands[i]);
                assert_int_equal(owner->uid, getuid());
                assert_true(owner->start_time >= plain->start_time);
                assert_true(owner->start_time < plain->start_time + 3600 * 1000);
                child_stop(&child);
        }
        child_stop(&first);
}

static void *report_tid(void *userdata) {
        int *fds = userdata;
        pid_t tid = (pid_t)syscall(SYS_gettid);
        char byte;

        if (write(fds[1], &tid, sizeof(tid)) == sizeof(tid))
                (void)!read(fds[2], &byte, 1);
        return NULL;
}

static void test_no_process(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        int report[2], hold[2], fds[4];
        pthread_t thread;
        pid_t tid;

        assert_int_equal(owner_new(0, &owner), OWNER_E_NO_PROCESS);
        assert_int_equal(owner_new(-1, &owner), OWNER_E_NO_PROCESS);
        assert_int_equal(owner_new(INT32_MAX, &owner), OWNER_E_NO_PROCESS);
        assert_int_equal(owner_new_peer(0, 0, -1, UINT64_MAX, &owner), OWNER_E_NO_PROCESS);

        /* A thread is no process. */
        assert_int_equal(pipe2(report, O_CLOEXEC), 0);
        assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
        memcpy(fds, report, sizeof(report));
        memcpy(fds + 2, hold, sizeof(hold));
        assert_int_equal(pthread_create(&thread, NULL, report_tid, fds), 0);
        assert_int_equal(read(report[0], &tid, sizeof(tid)), sizeof(tid));
        assert_int_equal(owner_new(tid, &owner), OWNER_E_NO_PROCESS);
        assert_int_equal(write(hold[1], "x", 1), 1);
        assert_int_equal(pthread_join(thread, NULL), 0);
        for (size_t i = 0; i < ELEMENTS_OF(fds); i++)
                close(fds[i]);
        assert_null(owner);
}

static void test_peer_by_pidfd(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL, *none = NULL;
        Child child = child_start("peer", getuid());
        int pidfd = (int)syscall(SYS_pidfd_open, child.pid, 0);

        /* The pidfd is the kernel's word: neither uid nor time is asked, and it is not taken over. */
        assert_true(pidfd >= 0);
        assert_int_equal(owner_new_peer(child.pid, getuid() + 1, pidfd, 0, &owner), 0);
        assert_int_equal(owner->pid, child.pid);
        assert_int_not_equal(owner->pidfd, pidfd);
        assert_true(fcntl(owner->pidfd, F_GETFD) & FD_CLOEXEC);

        assert_int_equal(kill(child.pid, SIGKILL), 0);
        wait_readable(pidfd);
        assert_false(owner_is_alive(owner));
        assert_int_equal(owner_new_peer(child.pid, getuid(), pidfd, UINT64_MAX, &none), OWNER_E_NO_PROCESS);
        child_reap(&child);
        assert_int_equal(owner_new_peer(child.pid, getuid(), pidfd, UINT64_MAX, &none), OWNER_E_NO_PROCESS);
        assert_null(none);
        assert_int_equal(close(pidfd), 0);
}

/* Whoever has opened it: the kernel says whose it is. */
static void test_pidfd(_unused_ void **state) {
        Child child = child_start("a vmm", getuid());
        _cleanup_(owner_freep) Owner *opened = NULL, *owner = NULL;
        int fds[2];

        assert_int_equal(owner_new(child.pid, &opened), 0);
        assert_int_equal(owner_new_pidfd(opened->pidfd, &owner), 0);
        assert_int_equal(owner->pid, child.pid);
        assert_int_equal(owner->start_time, opened->start_time);
        assert_int_equal(owner->uid, getuid());
        assert_string_equal(owner->command, "a vmm");
        assert_int_not_equal(owner->pidfd, opened->pidfd);
        assert_true(owner_is_alive(owner));
        owner = owner_free(owner);

        child_stop(&child);
        assert_int_equal(owner_new_pidfd(opened->pidfd, &owner), OWNER_E_NO_PROCESS);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(owner_new_pidfd(fds[0], &owner), OWNER_E_NO_PROCESS);
        close(fds[0]);
        close(fds[1]);
        assert_int_equal(owner_new_pidfd(fds[0], &owner), OWNER_E_NO_PROCESS);
        assert_null(owner);
}

static void test_peer_by_pid(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL, *none = NULL;
        uint64_t before = boottime_usec();
        Child child = child_start("peer", getuid());
        uint64_t tick = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);

        assert_int_equal(owner_new_peer(child.pid, getuid(), -1, boottime_usec(), &owner), 0);
        assert_int_equal(owner->pid, child.pid);
        assert_int_equal(owner_new_peer(child.pid, getuid() + 1, -1, boottime_usec(), &none),
                         OWNER_E_NOT_PEER);
        /* Accepted before it was started: an heir of the pid. */
        assert_int_equal(owner_new_peer(child.pid, getuid(), -1, before - 2 * tick, &none), OWNER_E_NOT_PEER);
        assert_int_equal(owner_new_peer(child.pid, getuid(), -1, 0, &none), OWNER_E_NOT_PEER);
        assert_null(none);
        child_stop(&child);
}

static void test_other_user(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL, *peer = NULL, *none = NULL;
        Child child;

        if (getuid() != 0)
                skip();
        child = child_start("nobody's", NOBODY);
        assert_int_equal(owner_new(child.pid, &owner), 0);
        assert_int_equal(owner->uid, NOBODY);
        assert_int_equal(owner_new_peer(child.pid, 0, -1, UINT64_MAX, &none), OWNER_E_NOT_PEER);
        assert_int_equal(owner_new_peer(child.pid, NOBODY, -1, UINT64_MAX, &peer), 0);
        assert_null(none);
        child_stop(&child);
}

static void test_affinity(_unused_ void **state) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        Child child = child_start("pinned", getuid());
        cpu_set_t all, one;
        CpuSet cpus;
        int cpu = 0;

        assert_int_equal(owner_new(child.pid, &owner), 0);
        assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
        assert_int_equal(owner_get_affinity(owner, &cpus), 0);
        assert_int_equal(cpuset_count(&cpus), CPU_COUNT(&all));

        /* The highest one that we may use. */
        for (int i = 0; i < CPU_SETSIZE; i++)
                if (CPU_ISSET(i, &all))
                        cpu = i;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        assert_int_equal(sched_setaffinity(child.pid, sizeof(one), &one), 0);
        assert_int_equal(owner_get_affinity(owner, &cpus), 0);
        assert_int_equal(cpuset_count(&cpus), 1);
        assert_true(cpuset_has(&cpus, (unsigned)cpu));
        child_stop(&child);
}

static void test_vm_names(_unused_ void **state) {
        static const struct {
                const char *given;
                const char *name;
        } machines[] =
                {
                        {"qemu-3-web1", "web1"},
                        {"qemu-31-a-b", "a-b"},
                        {"qemu-3-", "qemu-3-"},
                        {"qemu-3", "qemu-3"},
                        {"qemu--web", "qemu--web"},
                        {"qemu-x-web", "qemu-x-web"},
                        {"web1", "web1"},
                        {"xqemu-3-web1", "xqemu-3-web1"},
                        {"", ""},
                },
          units[] = {
                  {"web1.service", "web1.service"},
                  {"vm@web1.service", "vm@web1.service"},
                  {"machine-qemu.scope", "machine-qemu.scope"},
                  {"session.scope", "session.scope"},
                  {"user@1000.scope", "user@1000.scope"},
                  {"user.service", "user.service"},
                  {"session-4.scope", NULL},
                  {"session-c1.scope", NULL},
                  {"user@1000.service", NULL},
                  {"init.scope", NULL},
                  {"", NULL},
                  {NULL, NULL},
          };

        for (size_t i = 0; i < ELEMENTS_OF(machines); i++)
                assert_string_equal(owner_machine_vm_name(machines[i].given), machines[i].name);
        for (size_t i = 0; i < ELEMENTS_OF(units); i++) {
                const char *name = owner_unit_vm_name(units[i].given);

                if (units[i].name)
                        assert_string_equal(name, units[i].name);
                else
                        assert_null(name);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_self),          cmocka_unit_test(test_life),
                cmocka_unit_test(test_command),       cmocka_unit_test(test_no_process),
                cmocka_unit_test(test_peer_by_pidfd), cmocka_unit_test(test_peer_by_pid),
                cmocka_unit_test(test_other_user),    cmocka_unit_test(test_affinity),
                cmocka_unit_test(test_vm_names),      cmocka_unit_test(test_pidfd),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
