/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * An array of descriptors by CPU, with the set of those that are held. What an errno of perf_event_open()
 * means here stands in one table.
 */

#include "bpf/reserve.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

typedef struct Held {
        int fd;
        uint32_t pmu_type;
} Held;

struct Reserve {
        CpuSet held;
        Held by_cpu[CPUSET_MAX];
};

static int open_event(uint32_t pmu_type, unsigned cpu, int *ret_fd) {
        struct perf_event_attr attributes = {
                .type = pmu_type,
                .size = sizeof(attributes),
                .disabled = 1,
        };
        int fd;

        fd = (int)syscall(SYS_perf_event_open, &attributes, /* pid= */ -1, (int)cpu, /* group_fd= */ -1,
                          PERF_FLAG_FD_CLOEXEC);
        if (fd >= 0) {
                *ret_fd = fd;
                return 0;
        }

        switch (errno) {
        case EBUSY:
                return RESERVE_E_BUSY;
        case ENODEV:
        case ENOENT:
        case EINVAL:
                return RESERVE_E_OFF_LINE;
        case EACCES:
        case EPERM:
        case ENOSYS:
                return RESERVE_E_DENIED;
        default:
                return -errno;
        }
}

int reserve_new(Reserve **ret_reserve) {
        Reserve *reserve = calloc(1, sizeof(*reserve));

        if (!reserve)
                return -ENOMEM;

        *ret_reserve = reserve;
        return 0;
}

Reserve *reserve_free(Reserve *reserve) {
        if (!reserve)
                return NULL;

        CPUSET_FOREACH(cpu, &reserve->held)
                close(reserve->by_cpu[cpu].fd);
        free(reserve);
        return NULL;
}

int reserve_hold(Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        Held *held = &reserve->by_cpu[cpu];
        int r, fd;

        if (cpuset_has(&reserve->held, cpu) && held->pmu_type == pmu_type)
                return 0;

        r = open_event(pmu_type, cpu, &fd);
        if (r)
                return r;

        reserve_release(reserve, cpu);
        *held = (Held){.fd = fd, .pmu_type = pmu_type};
        cpuset_add(&reserve->held, cpu);
        return 0;
}

void reserve_release(Reserve *reserve, unsigned cpu) {
        if (!cpuset_has(&reserve->held, cpu))
                return;

        close(reserve->by_cpu[cpu].fd);
        cpuset_remove(&reserve->held, cpu);
}

const CpuSet *reserve_get_held(const Reserve *reserve) {
        return &reserve->held;
}

int reserve_ask(const Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        _cleanup_(closep) int fd = -1;

        if (cpuset_has(&reserve->held, cpu) && reserve->by_cpu[cpu].pmu_type == pmu_type)
                return 0;

        return open_event(pmu_type, cpu, &fd);
}

int reserve_try(uint32_t pmu_type, unsigned cpu) {
        _cleanup_(closep) int first = -1, second = -1;
        int r;

        r = open_event(pmu_type, cpu, &first);
        if (r)
                return r;

        r = open_event(pmu_type, cpu, &second);
        if (r == 0)
                return RESERVE_E_SHARED;

        return r == RESERVE_E_BUSY ? 0 : r;
}

bool reserve_get_kept(const Reserve *reserve, unsigned cpu, char *name, int *ret_fd) {
        const Held *held = &reserve->by_cpu[cpu];

        if (!cpuset_has(&reserve->held, cpu))
                return false;

        (void)snprintf(name, RESERVE_NAME_MAX, "reserve-%u-%u", held->pmu_type, cpu);
        *ret_fd = held->fd;
        return true;
}

/* True if @name is that of a held event. */
static bool parse_name(const char *name, uint32_t *ret_pmu_type, unsigned *ret_cpu) {
        unsigned pmu_type, cpu;
        char again[RESERVE_NAME_MAX];

        if (sscanf(name, "reserve-%u-%u", &pmu_type, &cpu) != 2 || cpu >= CPUSET_MAX)
                return false;
        (void)snprintf(again, sizeof(again), "reserve-%u-%u", pmu_type, cpu);
        if (strcmp(name, again) != 0)
                return false;

        *ret_pmu_type = pmu_type;
        *ret_cpu = cpu;
        return true;
}

void reserve_adopt(Reserve *reserve, NamedFd *kept, size_t n_kept) {
        for (size_t i = 0; i < n_kept; i++) {
                uint32_t pmu_type;
                unsigned cpu;

                if (kept[i].fd < 0 || !parse_name(kept[i].name, &pmu_type, &cpu) ||
                    cpuset_has(&reserve->held, cpu))
                        continue;

                reserve->by_cpu[cpu] = (Held){.fd = steal_fd(&kept[i].fd), .pmu_type = pmu_type};
                cpuset_add(&reserve->held, cpu);
        }
}
