/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Answers to perf_event_open() in the kernel's place, by its rules for PMUs that exclude, and with any errno.
 * One test program includes it once: it defines syscall() and ioctl().
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/perf_event.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/cpuset.h"

#define SPU         8U  /* CPUs 0 to 3 */
#define OTHER_SPU   9U  /* CPUs 4 to 7 */
#define NOT_A_LOCK  10U /* all CPUs, and does not exclude */
#define NO_SAMPLING 11U /* refuses all */
#define EVENTS_MAX  64
#define THREAD      77
#define THREAD_GONE 78

typedef struct Event {
        int fd;
        ino_t inode; /* a descriptor's number may be another file's later */
        uint32_t type;
        int cpu;
        bool detached; /* its CPU was off line */
} Event;

static struct Kernel {
        bool real;
        int error;       /* fails with it */
        unsigned fail_n; /* the call that does, counted from 1; 0: all */
        unsigned n_calls;
        bool shared;     /* SPU does not exclude */
        bool task_bound; /* somebody's on SPU */
        pid_t thread;    /* whose */
        CpuSet offline;
        uint32_t moved; /* SPU has this type now */
        Event events[EVENTS_MAX];
        unsigned n_events;
} kernel;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool is_open(const Event *event) {
        struct stat st;

        return event->fd >= 0 && fstat(event->fd, &st) == 0 && st.st_ino == event->inode;
}

static bool excluded(uint32_t type, int cpu) {
        if (kernel.shared)
                return false;
        if (kernel.task_bound && type == SPU)
                return true;
        for (unsigned i = 0; i < kernel.n_events; i++)
                if (kernel.events[i].type == type && kernel.events[i].cpu == cpu &&
                    !kernel.events[i].detached && is_open(&kernel.events[i]))
                        return true;
        return false;
}

/* What stands against an event of SPU that is bound to @thread. */
static int check_task_bound(uint32_t type, pid_t thread, int cpu) {
        if (kernel.error)
                return kernel.error;
        if (type != SPU || cpu > 3)
                return ENOENT;
        for (unsigned i = 0; i < kernel.n_events; i++)
                if (kernel.events[i].type == type && is_open(&kernel.events[i]))
                        return EBUSY;
        if (thread == THREAD_GONE)
                return ESRCH;
        return kernel.task_bound && kernel.thread == thread ? EBUSY : 0;
}

static int check_event(uint32_t type, int cpu) {
        if (kernel.error && (kernel.fail_n == 0 || kernel.fail_n == kernel.n_calls))
                return kernel.error;
        if (cpu < 0 || cpu >= 4096)
                return EINVAL;
        if (kernel.moved) {
                if (type == SPU)
                        return ENOENT;
                if (type == kernel.moved)
                        type = SPU;
        }
        if (type == NO_SAMPLING)
                return EOPNOTSUPP;
        if ((type == SPU && cpu > 3) || (type == OTHER_SPU && (cpu < 4 || cpu > 7)) || type < SPU ||
            type > NOT_A_LOCK)
                return ENOENT;
        if (type != NOT_A_LOCK && excluded(type, cpu))
                return EBUSY;
        return cpuset_has(&kernel.offline, (unsigned)cpu) ? ENODEV : 0;
}

static int model_perf_event_open(const struct perf_event_attr *attributes, pid_t pid, int cpu, int group_fd,
                                 unsigned long flags) {
        struct stat st;
        Event event = {.type = attributes->type, .cpu = cpu};

        /* What the driver of an SPU would not take, or would take for more than was meant. */
        assert_int_equal(attributes->size, sizeof(*attributes));
        assert_true(attributes->disabled);
        assert_false(attributes->freq || attributes->exclude_idle || attributes->inherit ||
                     attributes->enable_on_exec);
        assert_int_equal(attributes->config | attributes->config1 | attributes->config2, 0);
        assert_int_equal(attributes->sample_period, 0);
        assert_int_equal(group_fd, -1);
        assert_int_equal(flags, PERF_FLAG_FD_CLOEXEC);

        kernel.n_calls++;
        errno = pid < 0 ? check_event(event.type, cpu) : check_task_bound(event.type, pid, cpu);
        if (errno)
                return -1;
        event.fd = memfd_create("event", MFD_CLOEXEC);
        assert_true(event.fd >= 0);
        assert_int_equal(fstat(event.fd, &st), 0);
        event.inode = st.st_ino;
        if (pid >= 0)
                return event.fd;
        if (kernel.moved == event.type)
                event.type = SPU;
        assert_true(kernel.n_events < EVENTS_MAX);
        kernel.events[kernel.n_events++] = event;
        return event.fd;
}

long syscall(long number, ...) {
        long a[6];
        va_list arguments;

        va_start(arguments, number);
        for (size_t i = 0; i < ELEMENTS_OF(a); i++)
                a[i] = va_arg(arguments, long);
        va_end(arguments);

        if (number == SYS_perf_event_open && !kernel.real)
                return model_perf_event_open((const struct perf_event_attr *)a[0], (pid_t)a[1], (int)a[2],
                                             (int)a[3], (unsigned long)a[4]);
        return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int ioctl(int fd, unsigned long request, ...) {
        va_list arguments;
        void *argument;

        va_start(arguments, request);
        argument = va_arg(arguments, void *);
        va_end(arguments);

        if (request == PERF_EVENT_IOC_ID && !kernel.real) {
                for (unsigned i = 0; i < kernel.n_events; i++)
                        if (kernel.events[i].fd == fd && is_open(&kernel.events[i])) {
                                *(uint64_t *)argument = i;
                                return 0;
                        }
                errno = ENOTTY;
                return -1;
        }
        return REAL(ioctl)(fd, request, argument);
}

/* A CPU goes off line: what is on it is no longer compared to, also when it is back. */
_unused_ static void take_off_line(unsigned cpu) {
        cpuset_add(&kernel.offline, cpu);
        for (unsigned i = 0; i < kernel.n_events; i++)
                if (kernel.events[i].cpu == (int)cpu)
                        kernel.events[i].detached = true;
}

_unused_ static unsigned count_open(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < kernel.n_events; i++)
                n += is_open(&kernel.events[i]);
        return n;
}

/* Somebody else's. */
_unused_ static int open_foreign(uint32_t type, int cpu) {
        struct perf_event_attr attributes = {.type = type, .size = sizeof(attributes), .disabled = 1};

        return model_perf_event_open(&attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}
