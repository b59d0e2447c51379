/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The arbiter on the running kernel, by the hook that needs least of it: tracepoints and the iterator. The
 * PMU of software events stands for an SPU; whatever others do with it meanwhile is not looked at. What
 * better hooks see and refuse is tested where there are some: tests/vm/guest/test_arbiter.py.
 */

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bpf/arbiter.h"
#include "bpf/probe.h"
#include "bpf/shared.h"
#include "bpf/spe-arbiter.h"
#include "tests/unit/fd-fixture.h"
#include "util/cleanup.h"

#define PMU            "software"
#define SKIPPED        77
#define DEADLINE_MSEC  30000
#define KEPT_MAX       32U
#define OWNERS         600
#define BELLS          200U
#define UNPRIVILEGED   65534
#define NOT_UNDERSTOOD "arbiter-0-sessions"

static Arbiter *arbiter;

static int open_event(pid_t pid, int cpu) {
        struct perf_event_attr attributes = {
                .type = PERF_TYPE_SOFTWARE,
                .size = sizeof(attributes),
                .config = PERF_COUNT_SW_DUMMY,
                .disabled = 1,
        };
        int fd = (int)syscall(SYS_perf_event_open, &attributes, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

/* The session that this process has opened or was found with; false if there is none. There is never more
 * than one of them. */
static bool find_of(pid_t pid, ArbiterSession *ret_session) {
        _cleanup_(freep) ArbiterSession *sessions = NULL;
        size_t n, found = 0;

        *ret_session = (ArbiterSession){0};
        assert_int_equal(arbiter_read(arbiter, &sessions, &n), 0);
        for (size_t i = 0; i < n; i++)
                if (sessions[i].pid == pid) {
                        *ret_session = sessions[i];
                        found++;
                }
        assert_true(found <= 1);
        return found == 1;
}

static ArbiterSession get_mine(void) {
        ArbiterSession session;

        assert_true(find_of(getpid(), &session));
        return session;
}

static bool have_mine(void) {
        ArbiterSession session;

        return find_of(getpid(), &session);
}

/* A child's life: until it is killed, or the test fails. */
_Noreturn static void stay(void) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != 1)
                pause();
        _exit(1);
}

static void name_pmu(bool named) {
        ArbiterPmu pmu = {.name = PMU};

        cpuset_add_range(&pmu.cpus, 0, CPUSET_MAX - 1);
        assert_int_equal(arbiter_set_pmus(arbiter, &pmu, named ? 1 : 0), 0);
}

/* What @pid had is closed: it is not seen any more, and can be forgotten, unless the kernel has used its
 * address again for somebody else's, who has its place then. */
static void forget_of(pid_t pid) {
        ArbiterSession session;

        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        if (!find_of(pid, &session))
                return;
        assert_true(session.unseen);
        arbiter_forget(arbiter, session.id);
        assert_false(find_of(pid, &session));
}

static void end(int fd) {
        assert_true(have_mine());
        close(fd);
        forget_of(getpid());
}

static int set_up(void **state) {
        (void)state;
        name_pmu(true);
        return 0;
}

static void test_open(void **state) {
        ArbiterSession session;
        int fd;

        (void)state;
        fd = open_event(0, -1);
        session = get_mine();
        assert_string_equal(session.pmu, PMU);
        assert_int_equal(session.cpu, -1);
        assert_int_equal(session.target_process, getpid());
        assert_int_equal(session.target_thread, gettid());
        assert_int_equal(session.uid, getuid());
        assert_true(strncmp(session.command, program_invocation_short_name, ARBITER_COMMAND_MAX - 1) == 0);
        assert_true(session.opened_nsec > 0);
        assert_false(session.entering || session.unseen);
        end(fd);

        fd = open_event(-1, 0);
        session = get_mine();
        assert_int_equal(session.cpu, 0);
        assert_int_equal(session.target_process, 0);
        assert_int_equal(session.target_thread, 0);
        end(fd);
}

static void test_not_named(void **state) {
        _cleanup_(closep) int fd = -1;
        uint64_t generation;

        (void)state;
        name_pmu(false);
        fd = open_event(0, -1);
        assert_false(have_mine());
        generation = arbiter_get_generation(arbiter);
        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        assert_false(have_mine());

        /* It is, from now on: what is open is found. */
        name_pmu(true);
        assert_true(arbiter_get_generation(arbiter) > generation);
        assert_true(get_mine().opened_nsec == 0);
        end(steal_fd(&fd));
}

static void test_duplicate(void **state) {
        uint64_t drifted, closed;
        ArbiterCounters counters;
        int fd, copy;

        (void)state;
        arbiter_get_counters(arbiter, &counters);
        drifted = counters.drifted;
        closed = counters.closed;
        fd = open_event(0, -1);
        copy = dup(fd);
        close(fd);
        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        assert_false(get_mine().unseen);
        end(copy);
        arbiter_get_counters(arbiter, &counters);
        assert_true(counters.drifted > drifted);
        assert_true(counters.closed == closed);
}

/* What opens after the look at all files has begun is not missed by it. */
static void test_after_iteration(void **state) {
        int fd;

        (void)state;
        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        fd = open_event(0, -1);
        assert_false(get_mine().unseen);
        end(fd);
}

static bool wait_for_bell(int milliseconds) {
        struct pollfd doorbell = {.fd = arbiter_get_fd(arbiter), .events = POLLIN};

        return poll(&doorbell, 1, milliseconds) > 0;
}

static void test_doorbell(void **state) {
        int fd;

        (void)state;
        assert_int_equal(arbiter_process(arbiter, NULL, NULL), 0);
        fd = open_event(0, -1);
        assert_true(wait_for_bell(DEADLINE_MSEC));
        assert_int_equal(arbiter_process(arbiter, NULL, NULL), 0);
        end(fd); /* close() of somebody who was seen to have one */
        assert_true(wait_for_bell(DEADLINE_MSEC));
        assert_int_equal(arbiter_process(arbiter, NULL, NULL), 0);
}

/* What @part of the programs' memory is kept by. */
static int find_kept(const char *part) {
        NamedFd kept[KEPT_MAX];
        size_t n = arbiter_get_kept(arbiter, kept, KEPT_MAX);

        for (size_t i = 0; i < n; i++) {
                const char *end = strrchr(kept[i].name, '-');

                if (end && strcmp(end + 1, part) == 0)
                        return kept[i].fd;
        }
        fail_msg("no %s are kept", part);
        return -1;
}

/* A full ring is emptied by parts, and readable until then. That they were heard has the programs ring on. */
static void test_doorbell_bounded(void **state) {
        ArbiterControl *control;
        unsigned turns = 0;
        int fd;

        (void)state;
        control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, find_kept("control"), 0);
        assert_ptr_not_equal(control, MAP_FAILED);
        fd = open_event(0, -1);
        for (unsigned i = 0; i < BELLS; i++) {
                shared_store(&control->rung, 0);
                close(dup(fd)); /* by somebody who was seen to have one */
        }
        assert_int_equal(munmap(control, sizeof(*control)), 0);
        for (; turns <= BELLS && wait_for_bell(0); turns++)
                assert_int_equal(arbiter_process(arbiter, NULL, NULL), 0);
        assert_true(turns >= BELLS / SHARED_NOTICES_MAX && turns <= BELLS); /* others ring, too */
        end(fd);
}

typedef struct Thread {
        pthread_barrier_t barrier;
        pid_t id;
} Thread;

static void *wait_twice(void *userdata) {
        Thread *thread = userdata;

        thread->id = gettid();
        pthread_barrier_wait(&thread->barrier);
        pthread_barrier_wait(&thread->barrier);
        return NULL;
}

static void test_thread(void **state) {
        ArbiterSession session;
        Thread thread;
        pthread_t handle;
        int fd;

        (void)state;
        assert_int_equal(pthread_barrier_init(&thread.barrier, NULL, 2), 0);
        assert_int_equal(pthread_create(&handle, NULL, wait_twice, &thread), 0);
        pthread_barrier_wait(&thread.barrier);
        fd = open_event(thread.id, -1);
        session = get_mine();
        assert_int_equal(session.target_thread, thread.id);
        assert_int_equal(session.target_process, getpid());
        end(fd);
        pthread_barrier_wait(&thread.barrier);
        assert_int_equal(pthread_join(handle, NULL), 0);
        pthread_barrier_destroy(&thread.barrier);
}

/* A child that has what its parent had: the session is there until the child has ended. */
static void test_fork(void **state) {
        int fd, status;
        pid_t child;

        (void)state;
        fd = open_event(0, -1);
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
                stay();
        close(fd);
        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        assert_false(get_mine().unseen);

        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        forget_of(getpid());
}

/* What nobody had when all were looked at is found with whom it is looked for; who has it stays. */
static void test_one_process(void **state) {
        ArbiterSession session;
        int sockets[2], fd;

        (void)state;
        name_pmu(false);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
        fd = open_event(0, -1);
        send_fd(sockets[0], fd);
        close(fd);
        name_pmu(true);
        assert_false(have_mine());

        fd = receive_fd(sockets[1]);
        assert_true(fd >= 0);
        assert_int_equal(arbiter_iterate(arbiter, getppid()), 0);
        assert_false(have_mine());
        assert_int_equal(arbiter_iterate(arbiter, getpid()), 0);
        session = get_mine();
        assert_true(session.opened_nsec == 0);
        assert_false(session.unseen);
        arbiter_forget(arbiter, session.id);
        assert_true(have_mine());
        end(fd);
        close(sockets[0]);
        close(sockets[1]);
}

/* Of what is in flight the iterator sees nothing, and claims nothing but that. */
static void test_in_flight(void **state) {
        int sockets[2], fd;

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
        fd = open_event(0, -1);
        send_fd(sockets[0], fd);
        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        assert_false(get_mine().unseen);
        close(fd);
        assert_int_equal(arbiter_iterate(arbiter, 0), 0);
        assert_true(get_mine().unseen);
        close(sockets[0]);
        close(sockets[1]);
        forget_of(getpid());
}

/* This hook sees, and refuses nothing. */
static void test_closed(void **state) {
        ArbiterClosed closed = {0};
        CpuSet all = {0};

        (void)state;
        cpuset_add_range(&all, 0, CPUSET_MAX - 1);
        closed.cpu_wide = closed.task_bound = all;
        arbiter_close(arbiter, &closed);
        assert_int_equal(arbiter_close_owner(arbiter, getpid(), &all), 0);
        end(open_event(0, -1));
        end(open_event(-1, 0));
        assert_int_equal(arbiter_close_owner(arbiter, getpid(), &CPUSET_NULL), 0);
        assert_int_equal(arbiter_close_owner(arbiter, getpid(), &CPUSET_NULL), 0);
        arbiter_close(arbiter, &(ArbiterClosed){0});
}

/* Their pids stand for processes that an earlier broker knew, of which every third has leases still. */
static bool stays(OwnerKey owner, void *userdata) {
        unsigned *n_asked = userdata;

        (*n_asked)++;
        return owner % 3 == 0;
}

static void test_owners(void **state) {
        CpuSet cpus = {0}, found;
        unsigned n_asked = 0;
        int map;

        (void)state;
        map = find_kept("owners"); /* the programs' own table */
        for (pid_t pid = 1; pid <= OWNERS; pid++) {
                cpuset_add(&cpus, (unsigned)pid % CPUSET_MAX);
                assert_int_equal(arbiter_close_owner(arbiter, pid, &cpus), 0);
        }
        assert_int_equal(arbiter_open_owners(arbiter, stays, &n_asked), 0);
        assert_int_equal(n_asked, OWNERS);
        cpus = (CpuSet){0};
        for (OwnerKey pid = 1; pid <= OWNERS; pid++) {
                cpuset_add(&cpus, (unsigned)pid % CPUSET_MAX);
                assert_int_equal(bpf_map_lookup_elem(map, &pid, &found) == 0, pid % 3 == 0);
                if (pid % 3 != 0)
                        continue;
                assert_true(cpuset_equal(&found, &cpus));
                assert_int_equal(arbiter_close_owner(arbiter, pid, &CPUSET_NULL), 0);
        }
        assert_int_equal(arbiter_open_owners(arbiter, stays, &n_asked), 0);
        assert_int_equal(n_asked, OWNERS);
}

static size_t keep(NamedFd *kept, char names[][64]) {
        size_t n = arbiter_get_kept(arbiter, kept, KEPT_MAX);

        assert_true(n > 0 && n <= KEPT_MAX);
        for (size_t i = 0; i < n; i++) {
                (void)snprintf(names[i], 64, "%s", kept[i].name);
                kept[i] = (NamedFd){.name = names[i], .fd = dup(kept[i].fd)};
                assert_true(kept[i].fd >= 0);
        }
        return n;
}

/* Another process with an event, as what the arbiter's own has is none of its business. */
static pid_t start_holder(void) {
        int pipes[2];
        pid_t child;
        char byte;

        assert_int_equal(pipe(pipes), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                (void)open_event(0, -1);
                (void)!write(pipes[1], "", 1);
                stay();
        }
        assert_int_equal(read(pipes[0], &byte, 1), 1);
        close(pipes[0]);
        close(pipes[1]);
        return child;
}

static void end_holder(pid_t holder) {
        int status;

        assert_int_equal(kill(holder, SIGKILL), 0);
        assert_int_equal(waitpid(holder, &status, 0), holder);
}

static void test_kept(void **state) {
        char names[KEPT_MAX][64];
        NamedFd kept[KEPT_MAX + 1];
        ArbiterSession before, after;
        pid_t holder, other;
        size_t n;

        (void)state;
        holder = start_holder();
        assert_true(find_of(holder, &before));
        n = keep(kept, names);
        kept[n] = (NamedFd){.name = NOT_UNDERSTOOD, .fd = dup(STDERR_FILENO)};
        arbiter = arbiter_free(arbiter);
        assert_int_equal(arbiter_new(ARBITER_HOOK_TRACEPOINTS, kept, n + 1, &arbiter), 0);
        assert_int_equal(arbiter_get_hook(arbiter), ARBITER_HOOK_TRACEPOINTS);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(kept[i].fd, -1);
        assert_true(kept[n].fd >= 0);
        close(kept[n].fd);

        assert_true(find_of(holder, &after));
        assert_true(after.id == before.id && after.opened_nsec == before.opened_nsec);
        other = start_holder(); /* still attached */
        assert_true(find_of(other, &after));
        assert_true(after.opened_nsec > before.opened_nsec);
        end_holder(holder);
        end_holder(other);
        forget_of(holder);
        forget_of(other);
}

/* Part of what was kept is no use: all is made anew, and what is open is found again. */
static void test_kept_in_part(void **state) {
        char names[KEPT_MAX][64];
        NamedFd kept[KEPT_MAX];
        ArbiterSession session;
        pid_t holder;
        size_t n;

        (void)state;
        holder = start_holder();
        n = keep(kept, names);
        close(kept[0].fd);
        arbiter = arbiter_free(arbiter);
        assert_int_equal(arbiter_new(ARBITER_HOOK_TRACEPOINTS, kept + 1, n - 1, &arbiter), 0);
        for (size_t i = 1; i < n; i++)
                assert_int_equal(kept[i].fd, -1);
        assert_false(find_of(holder, &session)); /* the PMU is not named yet */
        name_pmu(true);
        assert_true(find_of(holder, &session));
        assert_true(session.opened_nsec == 0);
        end_holder(holder);
        forget_of(holder);
}

static void test_none(void **state) {
        _cleanup_(arbiter_freep) Arbiter *none = NULL;
        ArbiterSession *sessions = (void *)state;
        ArbiterCounters counters;
        size_t n = 1;

        assert_int_equal(arbiter_new(ARBITER_HOOK_NONE, NULL, 0, &none), 0);
        assert_int_equal(arbiter_get_hook(none), ARBITER_HOOK_NONE);
        assert_null(arbiter_get_reason(none));
        assert_null(arbiter_get_advice(none));
        assert_int_equal(arbiter_get_fd(none), -1);
        assert_int_equal(arbiter_get_kept(none, NULL, 0), 0);
        assert_int_equal(arbiter_process(none, NULL, NULL), 0);
        assert_int_equal(arbiter_iterate(none, 0), 0);
        assert_int_equal(arbiter_set_pmus(none, NULL, 0), 0);
        arbiter_close(none, &(ArbiterClosed){0});
        assert_int_equal(arbiter_close_owner(none, 1, &CPUSET_NULL), 0);
        arbiter_forget(none, 1);
        assert_true(arbiter_get_generation(none) == 0);
        arbiter_get_counters(none, &counters);
        assert_true(counters.opened == 0 && counters.drifted == 0);
        assert_int_equal(arbiter_read(none, &sessions, &n), 0);
        assert_null(sessions);
        assert_int_equal(n, 0);
}

/* Who may not load programs is told what is missing. */
static void test_unprivileged(void **state) {
        int status;
        pid_t child;

        (void)state;
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                Arbiter *mine = NULL;

                if (setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED) < 0 ||
                    arbiter_new(ARBITER_HOOK_LSM, NULL, 0, &mine) < 0)
                        _exit(1);
                if (arbiter_get_hook(mine) != ARBITER_HOOK_NONE || !arbiter_get_advice(mine))
                        _exit(2);
                _exit(strstr(arbiter_get_reason(mine), "CAP_BPF") ? 0 : 3);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_open, set_up),
                cmocka_unit_test_setup(test_not_named, set_up),
                cmocka_unit_test_setup(test_duplicate, set_up),
                cmocka_unit_test_setup(test_after_iteration, set_up),
                cmocka_unit_test_setup(test_one_process, set_up),
                cmocka_unit_test_setup(test_doorbell, set_up),
                cmocka_unit_test_setup(test_doorbell_bounded, set_up),
                cmocka_unit_test_setup(test_thread, set_up),
                cmocka_unit_test_setup(test_fork, set_up),
                cmocka_unit_test_setup(test_in_flight, set_up),
                cmocka_unit_test_setup(test_closed, set_up),
                cmocka_unit_test_setup(test_owners, set_up),
                cmocka_unit_test_setup(test_kept, set_up),
                cmocka_unit_test_setup(test_kept_in_part, set_up),
                cmocka_unit_test(test_none),
                cmocka_unit_test(test_unprivileged),
        };
        int r, status;
        pid_t child;

        bpf_silence();
        if (arbiter_new(ARBITER_HOOK_TRACEPOINTS, NULL, 0, &arbiter) < 0)
                return 1;
        if (arbiter_get_hook(arbiter) == ARBITER_HOOK_NONE) {
                (void)printf("skipped: %s\n", arbiter_get_reason(arbiter));
                arbiter_free(arbiter);
                return SKIPPED;
        }

        /* The events of the process that has attached the programs are left out: the tests are in another,
         * which has its arbiter, too, as all of that is shared. */
        child = fork();
        if (child == 0) {
                r = cmocka_run_group_tests(tests, NULL, NULL);
                arbiter_free(arbiter);
                return r;
        }
        if (child < 0 || waitpid(child, &status, 0) != child)
                return 1;
        arbiter_free(arbiter);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
