/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One kernel per test program. */

#include "tests/unit/fake-reserve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct Reserve {
        uint64_t generation;
};

FakeReserve fake_reserve;

static int open_event(unsigned cpu) {
        fake_reserve.n_opens++;
        if (fake_reserve.error)
                return fake_reserve.error;
        if (cpuset_has(&fake_reserve.absent, cpu))
                return RESERVE_E_OFF_LINE;
        return cpuset_has(&fake_reserve.taken, cpu) ? RESERVE_E_BUSY : 0;
}

int reserve_new(Reserve **ret_reserve) {
        assert_true(fake_reserve.keeps || cpuset_is_empty(&fake_reserve.held));
        *ret_reserve = calloc(1, sizeof(**ret_reserve));
        return *ret_reserve ? 0 : -ENOMEM;
}

Reserve *reserve_free(Reserve *reserve) {
        if (!fake_reserve.keeps)
                fake_reserve.held = CPUSET_NULL;
        free(reserve);
        return NULL;
}

int reserve_hold(Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        int r;

        if (reserve_has(reserve, pmu_type, cpu))
                return 0;

        r = open_event(cpu);
        if (r)
                return r;

        reserve_release(reserve, cpu);
        fake_reserve.pmu_type[cpu] = pmu_type;
        reserve->generation++;
        cpuset_add(&fake_reserve.held, cpu);
        return 0;
}

void reserve_release(Reserve *reserve, unsigned cpu) {
        if (!cpuset_has(&fake_reserve.held, cpu))
                return;

        cpuset_remove(&fake_reserve.held, cpu);
        reserve->generation++;
        if (fake_reserve.released_fn)
                fake_reserve.released_fn(cpu);
}

void reserve_look(Reserve *reserve, const CpuSet *online) {
        CpuSet lost = fake_reserve.held;

        cpuset_subtract(&lost, online);
        CPUSET_FOREACH(cpu, &lost)
                reserve_release(reserve, cpu);
}

uint64_t reserve_get_generation(const Reserve *reserve) {
        return reserve->generation;
}

const CpuSet *reserve_get_held(_unused_ const Reserve *reserve) {
        return &fake_reserve.held;
}

bool reserve_has(_unused_ const Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        return cpuset_has(&fake_reserve.held, cpu) && fake_reserve.pmu_type[cpu] == pmu_type;
}

int reserve_ask(const Reserve *reserve, uint32_t pmu_type, unsigned cpu) {
        return reserve_has(reserve, pmu_type, cpu) ? 0 : open_event(cpu);
}

int reserve_ask_thread(_unused_ uint32_t pmu_type, _unused_ pid_t thread, _unused_ int cpu) {
        return RESERVE_E_OFF_LINE;
}

int reserve_try(_unused_ uint32_t pmu_type, unsigned cpu) {
        return cpuset_has(&fake_reserve.held, cpu) ? RESERVE_E_BUSY : open_event(cpu);
}

bool reserve_get_kept(_unused_ const Reserve *reserve, unsigned cpu, char *name, int *ret_fd) {
        if (!cpuset_has(&fake_reserve.held, cpu))
                return false;

        (void)snprintf(name, RESERVE_NAME_MAX, "reserve-%u-%u", fake_reserve.pmu_type[cpu], cpu);
        *ret_fd = -1;
        return true;
}

void reserve_adopt(_unused_ Reserve *reserve, _unused_ NamedFd *kept, _unused_ size_t n_kept) {
}
