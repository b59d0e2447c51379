/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What it costs that host sessions are watched and kept off, and VCPUs' attributes looked at, for
 * sessions.py:
 *
 *   sessions open MSEC    nanoseconds for opening and closing a software event, which every hook sees and
 *                         lets be
 *   sessions swap MSEC    nanoseconds for putting another policy for 1,024 CPUs in force, for copying as many
 *                         bytes, and for one update of a BPF map with them
 *   sessions ioctl MSEC   nanoseconds for a cheap ioctl(), without the gate and with it
 */

#include <bpf/bpf.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bpf/arbiter.h"
#include "bpf/gate.h"
#include "util/cpuset.h"

#define NSEC_PER_SEC  UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define BATCH         64U /* between two looks at the clock */
#define CPUS          1024U

/* This process's own time: what others do meanwhile is theirs. */
static uint64_t now(void) {
        struct timespec time;

        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
        return (uint64_t)time.tv_sec * NSEC_PER_SEC + (uint64_t)time.tv_nsec;
}

/* Nanoseconds for one call of @what. */
static double measure(uint64_t nsec, void (*what)(void *userdata, unsigned turn), void *userdata) {
        uint64_t begin = now(), end, turns = 0;

        do {
                for (unsigned i = 0; i < BATCH; i++)
                        what(userdata, i);
                turns += BATCH;
                end = now();
        } while (end - begin < nsec);
        return (double)(end - begin) / (double)turns;
}

static void open_event(void *userdata, unsigned turn) {
        struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
                                       .size = sizeof(attr),
                                       .config = PERF_COUNT_SW_DUMMY,
                                       .disabled = 1};
        long fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

        (void)userdata;
        (void)turn;
        if (fd < 0) {
                perror("perf_event_open");
                exit(EXIT_FAILURE);
        }
        (void)close((int)fd);
}

typedef struct Swap {
        Arbiter *arbiter;
        int map;
        ArbiterClosed policies[2];
        ArbiterClosed copy;
} Swap;

static void swap(void *userdata, unsigned turn) {
        Swap *s = userdata;

        arbiter_close(s->arbiter, &s->policies[turn % 2]);
}

static void copy(void *userdata, unsigned turn) {
        Swap *s = userdata;

        memcpy(&s->copy, &s->policies[turn % 2], sizeof(s->copy));
        __asm__ volatile("" : : "r"(&s->copy) : "memory"); /* somebody may read it */
}

static void update(void *userdata, unsigned turn) {
        Swap *s = userdata;
        uint32_t key = 0;

        if (bpf_map_update_elem(s->map, &key, &s->policies[turn % 2], BPF_ANY) < 0)
                exit(EXIT_FAILURE);
}

static int measure_swaps(uint64_t nsec) {
        _cleanup_(arbiter_freep) Arbiter *arbiter = NULL;
        Swap s = {0};

        if (arbiter_new(ARBITER_HOOK_LSM, NULL, 0, &arbiter) < 0 ||
            arbiter_get_hook(arbiter) == ARBITER_HOOK_NONE)
                return 77;

        s.arbiter = arbiter;
        s.map = bpf_map_create(BPF_MAP_TYPE_ARRAY, NULL, sizeof(uint32_t), sizeof(ArbiterClosed), 1, NULL);
        if (s.map < 0)
                return 77;
        for (unsigned cpu = 0; cpu < CPUS; cpu += 2) {
                cpuset_add(&s.policies[0].cpu_wide, cpu);
                cpuset_add(&s.policies[0].task_bound, cpu);
                cpuset_add(&s.policies[1].cpu_wide, cpu + 1);
        }
        printf("{\"swap\": %.1f, \"copy\": %.1f, \"update\": %.1f}\n", measure(nsec, swap, &s),
               measure(nsec, copy, &s), measure(nsec, update, &s));
        (void)close(s.map);
        return EXIT_SUCCESS;
}

static void ask_pipe(void *userdata, unsigned turn) {
        int n;

        (void)turn;
        if (ioctl(*(int *)userdata, FIONREAD, &n) < 0)
                exit(EXIT_FAILURE);
}

/* Nanoseconds for one call of what is cheap: of many short looks the best, as whatever else runs makes them
 * only longer. */
static double measure_best(uint64_t nsec, void (*what)(void *userdata, unsigned turn), void *userdata) {
        uint64_t begin = now(), end, best = UINT64_MAX;

        do {
                uint64_t look = now();

                for (unsigned i = 0; i < BATCH; i++)
                        what(userdata, i);
                end = now();
                best = end - look < best ? end - look : best;
        } while (end - begin < nsec);
        return (double)best / BATCH;
}

/* One look without it before, and one after. */
static int measure_ioctls(uint64_t nsec) {
        static const GateRule rule = {.action = GATE_ACTION_REFUSE, .group = 3};
        _cleanup_(gate_freep) Gate *gate = NULL;
        double before, with, after;
        int fds[2];

        if (pipe(fds) < 0)
                return EXIT_FAILURE;
        before = measure_best(nsec, ask_pipe, fds);
        if (gate_new(NULL, 0, &gate) < 0 || !gate_is_attached(gate))
                return 77;
        gate_set_rule(gate, &rule);
        with = measure_best(nsec, ask_pipe, fds);
        gate = gate_free(gate);
        after = measure_best(nsec, ask_pipe, fds);
        printf("{\"without\": %.1f, \"with\": %.1f}\n", before < after ? before : after, with);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        uint64_t nsec;

        if (argc != 3)
                return EXIT_FAILURE;

        nsec = strtoull(argv[2], NULL, 10) * NSEC_PER_MSEC;
        if (strcmp(argv[1], "swap") == 0)
                return measure_swaps(nsec);
        if (strcmp(argv[1], "ioctl") == 0)
                return measure_ioctls(nsec);
        printf("%.1f\n", measure(nsec, open_event, NULL));
        return EXIT_SUCCESS;
}
