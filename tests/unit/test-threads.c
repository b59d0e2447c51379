/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The names of VCPU threads, and real threads that have them. */

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/threads.h"
#include "util/cleanup.h"

#define THREADS 8U

static void test_names(_unused_ void **state) {
        static const char *const yes[] = {
                "CPU 0/KVM",       "CPU 4095/KVM", "kvm-vcpu-0", "kvm-vcpu-63", "crosvm_vcpu0",
                "crosvm_vcpu4095", "vcpu0",        "vcpu255",    "fc_vcpu 0",   "fc_vcpu 31",
        };
        static const char *const no[] = {
                "",          "CPU 0/TCG", "CPU /KVM",  "CPU 0/KVM ", "CPU0/KVM",    "CPU 0",
                "CPU 0/HVF", "cpu 0/KVM", "kvm-vcpu-", "kvm-vcpu-a", "crosvm_vcpu", "vcpu",
                "vcpu0_api", "vcpux",     "vcpu-0",    "xvcpu0",     "fc_vcpu0",    "fc_vcpu",
                "fc_vmm",    "qemu-kvm",  "vhost-123", "kvm",        "vcpu 0",      "kvm-vcpu-1 ",
        };

        for (size_t i = 0; i < ELEMENTS_OF(yes); i++)
                assert_true(thread_is_vcpu(yes[i]));
        for (size_t i = 0; i < ELEMENTS_OF(no); i++)
                assert_false(thread_is_vcpu(no[i]));
}

/* A thread with this name, until the end of the test. */
typedef struct Thread {
        pthread_t thread;
        const char *name;
        pid_t tid;
        pthread_barrier_t *barrier;
} Thread;

static void *thread_main(void *userdata) {
        Thread *thread = userdata;

        (void)pthread_setname_np(pthread_self(), thread->name);
        thread->tid = (pid_t)syscall(SYS_gettid);
        (void)pthread_barrier_wait(thread->barrier); /* it has its name */
        (void)pthread_barrier_wait(thread->barrier); /* the test is done */
        return NULL;
}

static void threads_start(Thread threads[static THREADS], pthread_barrier_t *barrier) {
        static const char *const names[THREADS] = {"vcpu0", "io",    "vcpu1", "CPU 0/TCG",
                                                   "vcpu2", "vcpu3", "other", "worker"};

        assert_int_equal(pthread_barrier_init(barrier, NULL, THREADS + 1), 0);
        for (size_t i = 0; i < THREADS; i++) {
                threads[i] = (Thread){.name = names[i], .barrier = barrier};
                assert_int_equal(pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]), 0);
        }
        (void)pthread_barrier_wait(barrier);
}

static void threads_end(Thread threads[static THREADS], pthread_barrier_t *barrier) {
        (void)pthread_barrier_wait(barrier);
        for (size_t i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i].thread, NULL), 0);
        assert_int_equal(pthread_barrier_destroy(barrier), 0);
}

/* The CPUs of @tid, by another way. */
static CpuSet cpus_of(pid_t tid) {
        CpuSet cpus = CPUSET_NULL;
        cpu_set_t set;

        assert_int_equal(sched_getaffinity(tid, sizeof(set), &set), 0);
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
                if (CPU_ISSET(cpu, &set))
                        cpuset_add(&cpus, cpu);
        return cpus;
}

static void bind(pid_t tid, unsigned cpu) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        assert_int_equal(sched_setaffinity(tid, sizeof(set), &set), 0);
}

/* All VCPU threads there are are found, each once and with its CPUs, however few are looked at at a time. */
static void walk(const Thread threads[static THREADS], unsigned part) {
        unsigned found[THREADS] = {0}, looks = 0, max = part;
        ThreadWalk walk = THREAD_WALK_NULL;
        CpuSet cpus;
        pid_t tid;
        int r;

        assert_int_equal(thread_walk_begin(getpid(), &walk), 0);
        while ((r = thread_walk_next(&walk, &max, &tid, &cpus)) != THREADS_E_END) {
                if (r == THREADS_E_LATER) {
                        assert_int_equal(max, 0);
                        looks += part;
                        max = part;
                        continue;
                }
                assert_int_equal(r, 0);
                for (size_t i = 0; i < THREADS; i++)
                        if (threads[i].tid == tid) {
                                CpuSet expected = cpus_of(tid);

                                found[i]++;
                                assert_true(cpuset_equal(&cpus, &expected));
                        }
        }
        looks += part - max;
        thread_walk_end(&walk);
        thread_walk_end(&walk);

        for (size_t i = 0; i < THREADS; i++)
                assert_int_equal(found[i], thread_is_vcpu(threads[i].name));
        assert_true(looks >= THREADS + 1); /* and what the C library or a sanitizer has started */
}

static void test_walk(_unused_ void **state) {
        Thread threads[THREADS];
        pthread_barrier_t barrier;
        CpuSet mine = cpus_of(0);

        threads_start(threads, &barrier);
        bind(threads[0].tid, cpuset_next(&mine, 0));
        walk(threads, 1);
        walk(threads, 3);
        walk(threads, 1000);
        threads_end(threads, &barrier);
}

static void test_gone(_unused_ void **state) {
        unsigned max = 10;
        ThreadWalk walk = THREAD_WALK_NULL;
        CpuSet cpus;
        pid_t pid, tid;

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                for (;;)
                        pause();
        }
        assert_int_equal(thread_get_affinity(pid, &cpus), 0);
        assert_int_equal(thread_walk_begin(pid, &walk), 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);

        assert_int_equal(thread_walk_next(&walk, &max, &tid, &cpus), THREADS_E_END);
        thread_walk_end(&walk);
        assert_int_equal(thread_walk_begin(pid, &walk), THREADS_E_GONE);
        assert_int_equal(thread_get_affinity(pid, &cpus), THREADS_E_GONE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_walk),
                cmocka_unit_test(test_gone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
