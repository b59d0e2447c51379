/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * An array of descriptors by CPU, with the set of those that are held. What an errno of perf_event_open()
 * means here stands in one place.
 *
 * Nothing can be learnt from a perf event's descriptor about its PMU, its CPU, or whether the kernel still
 * compares others to it. What can be asked is what it does: whether a second one is refused where it is held.
 */

#include "bpf/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "util/parse.h"

#define NAME_PREFIX "reserve-"
#define TEXT_MAX    11U /* "4294967295" and its NUL */

typedef struct Held {
        int fd;
        uint32_t pmu_type;
} Held;

struct Reserve {
        CpuSet held;
        uint64_t generation;
        Held by_cpu[CPUSET_MAX];
};

static int outcome_of(int error) {
        switch (error) {
        case EBUSY:
                return RESERVE_E_BUSY;
        case ENODEV: /* the CPU is off line */
        case ENOENT: /* no PMU of this type, or not on this CPU */
        case EINVAL: /* this kernel cannot have such a CPU */
        case ESRCH:  /* no such thread */
                return RESERVE_E_OFF_LINE;
        case EOPNOTSUPP: /* a PMU that does not sample, or not on all of a CPU */
                return RESERVE_E_SHARED;
        case EACCES: /* perf_event_paranoid, or a security module */
        case EPERM:  /* a seccomp filter */
        case ENOSYS:
                return RESERVE_E_DENIED;
        default:
                return -error;
        }
}

/*
 * All zero is a whole request to the driver (arm_spe_pmu_event_init()): no filter, the shortest period that
 * it has, nothing that it would refuse for want of a feature. It is never enabled, so no period matters.
 */
static int open_event(uint32_t pmu_type, pid_t thread, int cpu, int *ret_fd) {
        struct perf_event_attr attributes = {
                .type = pmu_type,
                .size = sizeof(attributes),
                .disabled = 1,
        };
        int fd;

        fd = (int)syscall(SYS_perf_event_open, &attributes, thread, cpu, /* group_fd= */ -1,
                          (unsigned long)PERF_FLAG_FD_CLOEXEC);
        if (fd < 0)
                return outcome_of(errno);

        *ret_fd = fd;
        return 0;
}

/* One like those that are held. */
static int open_cpu_wide(uint32_t pmu_type, unsigned cpu, int *ret_fd) {
        return cpu < CPUSET_MAX ? open_event(pmu_type, /* thread= */ -1, (int)cpu, ret_fd)
                                : RESERVE_E_OFF_LINE;
}

/* Whether an event of @pmu_type could be opened on @cpu, like a held one. */
static int try_event(uint32_t pmu_type, unsigned cpu) {
        _cleanup_(closep) int fd = -1;

        return open_cpu_wide(pmu_type, cpu, &fd);
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

static void keep(Reserve *reserve, uint32_t pmu_type, unsigned cpu, int fd) {
        reserve->by_cpu[cpu] = (Held){.fd = fd, .pmu_type = pmu_type};
        cpuset_add(&reserve->held, cpu);
        reserve->generation++;
}

int reserve_hold(Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        int r, fd = -1;

        if (reserve_has(reserve, pmu_type, cpu))
                return 0;

        /* What is held of another type is not in the way: to the kernel that is another PMU. */
        r = open_cpu_wide(pmu_type, cpu, &fd);
        if (r)
                return r;

        reserve_release(reserve, cpu);
        keep(reserve, pmu_type, cpu, fd);
        return 0;
}

void reserve_release(Reserve *reserve, unsigned cpu) {
        if (!cpuset_has(&reserve->held, cpu))
                return;

        close(reserve->by_cpu[cpu].fd);
        cpuset_remove(&reserve->held, cpu);
        reserve->generation++;
}

uint64_t reserve_get_generation(const Reserve *reserve) {
        return reserve->generation;
}

/* Whether an event that is held on @cpu is one that the kernel compares others to. If it does not say, yes:
 * letting go would be worse. */
static bool locks(uint32_t pmu_type, unsigned cpu) {
        switch (try_event(pmu_type, cpu)) {
        case 0:
        case RESERVE_E_OFF_LINE:
        case RESERVE_E_SHARED: /* another PMU has the type now */
                return false;
        default:
                return true;
        }
}

void reserve_look(Reserve *reserve, const CpuSet *online) {
        CPUSET_FOREACH(cpu, &reserve->held)
                if (!cpuset_has(online, cpu) || !locks(reserve->by_cpu[cpu].pmu_type, cpu))
                        reserve_release(reserve, cpu);
}

const CpuSet *reserve_get_held(const Reserve *reserve) {
        return &reserve->held;
}

bool reserve_has(const Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        return cpuset_has(&reserve->held, cpu) && reserve->by_cpu[cpu].pmu_type == pmu_type;
}

int reserve_ask(const Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        return reserve_has(reserve, pmu_type, cpu) ? 0 : try_event(pmu_type, cpu);
}

int reserve_ask_thread(uint32_t pmu_type, pid_t thread, int cpu) {
        _cleanup_(closep) int fd = -1;

        return open_event(pmu_type, thread, cpu, &fd);
}

int reserve_try(uint32_t pmu_type, unsigned cpu) {
        _cleanup_(closep) int first = -1;
        int r;

        r = open_cpu_wide(pmu_type, cpu, &first);
        if (r)
                return r;

        r = try_event(pmu_type, cpu);
        if (r == RESERVE_E_BUSY)
                return 0;
        return r == 0 ? RESERVE_E_SHARED : r;
}

bool reserve_get_kept(const Reserve *reserve, unsigned cpu, char *name, int *ret_fd) {
        if (!cpuset_has(&reserve->held, cpu))
                return false;

        (void)snprintf(name, RESERVE_NAME_MAX, NAME_PREFIX "%u-%u", reserve->by_cpu[cpu].pmu_type, cpu);
        *ret_fd = reserve->by_cpu[cpu].fd;
        return true;
}

/* A number up to @max as reserve_get_kept() writes it: without leading zeros. */
static bool parse_number(const char *text, uint64_t max, uint64_t *ret_number) {
        return (text[0] != '0' || text[1] == '\0') && parse_u64(text, max, ret_number) == 0;
}

static bool parse_name(const char *name, uint32_t *ret_pmu_type, unsigned *ret_cpu) {
        char text[2 * TEXT_MAX];
        uint64_t pmu_type, cpu;
        char *separator;

        if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0)
                return false;
        if ((size_t)snprintf(text, sizeof(text), "%s", name + strlen(NAME_PREFIX)) >= sizeof(text))
                return false;
        separator = strchr(text, '-');
        if (!separator)
                return false;
        *separator = '\0';
        if (!parse_number(text, UINT32_MAX, &pmu_type) || !parse_number(separator + 1, CPUSET_MAX - 1, &cpu))
                return false;

        *ret_pmu_type = (uint32_t)pmu_type;
        *ret_cpu = (unsigned)cpu;
        return true;
}

/* Only a perf event answers to this. */
static bool is_event(int fd) {
        uint64_t id;

        return ioctl(fd, PERF_EVENT_IOC_ID, &id) == 0;
}

void reserve_adopt(Reserve *reserve, NamedFd *kept, size_t n_kept) {
        for (size_t i = 0; i < n_kept; i++) {
                uint32_t pmu_type;
                unsigned cpu;

                if (kept[i].fd < 0 || !parse_name(kept[i].name, &pmu_type, &cpu) ||
                    cpuset_has(&reserve->held, cpu) || !is_event(kept[i].fd) || !locks(pmu_type, cpu) ||
                    fcntl(kept[i].fd, F_SETFD, FD_CLOEXEC) < 0)
                        continue;

                keep(reserve, pmu_type, cpu, steal_fd(&kept[i].fd));
        }
}
