/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Perf's own exclusivity as a lock: SPE PMUs are PERF_PMU_CAP_EXCLUSIVE (kernel/events/core.c,
 * exclusive_event_init() and exclusive_event_installable()), so a disabled CPU-wide event that this process
 * holds on a CPU makes the kernel refuse every other CPU-wide one there, and every task-bound one on the
 * whole PMU; and it cannot be opened where somebody else's stands against it. That also settles doubt: where
 * it opens, nobody has one. Needs CAP_PERFMON, and no BPF.
 *
 * A held event pins the driver's module. When its CPU goes off line, or its PMU goes away, the kernel takes
 * it out of what it compares new ones to, for good: the descriptor lives on, but locks nothing on a CPU that
 * is back. So after each change of the host: reserve_look(), then reserve_hold() what is to be held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/cleanup.h"
#include "util/cpuset.h"
#include "util/named-fd.h"

enum {
        _RESERVE_E_SUCCESS,
        RESERVE_E_BUSY,     /* somebody has an event there: CPU-wide on this CPU, or task-bound on the PMU */
        RESERVE_E_OFF_LINE, /* no such CPU, or the PMU does not have it (any more) */
        RESERVE_E_SHARED,   /* the PMU is no lock: it lets two CPU-wide events on one CPU, or takes no such */
        RESERVE_E_DENIED,   /* this process may not open CPU-wide events, or the kernel has no perf events */
};

typedef struct Reserve Reserve;

int reserve_new(Reserve **ret_reserve);
/* Closes what it holds. */
Reserve *reserve_free(Reserve *reserve);
DEFINE_CLEANUP(Reserve *, reserve_free)

/*
 * Holds @cpu of the PMU of type @pmu_type, if it is not held already (of another type: it is opened anew, and
 * only then the old one closed). Nothing has changed unless it returns 0.
 */
int reserve_hold(Reserve *reserve, uint32_t pmu_type, unsigned cpu);
/* Lets go of @cpu. Where somebody keeps a copy of the descriptor, the kernel goes on until that is closed. */
void reserve_release(Reserve *reserve, unsigned cpu);
/*
 * Lets go of what is no lock any more: its CPU is not in @online, or was off line since, or its PMU is gone
 * (whoever has its type now). For each CPU that is left this asks the kernel for a second event, which must
 * be refused. One case passes unseen: a CPU that went off line and came back since the last look, and
 * somebody else had an event there before this one.
 */
void reserve_look(Reserve *reserve, const CpuSet *online);
/* Counts up with every event that is held or released. */
uint64_t reserve_get_generation(const Reserve *reserve);
/* The CPUs that are held. */
const CpuSet *reserve_get_held(const Reserve *reserve);
/*
 * Whether @cpu of the PMU of type @pmu_type is held. Then whatever CPU-wide event is seen there is the
 * reserve's own, whoever has a descriptor of it: no other can be.
 */
bool reserve_has(const Reserve *reserve, uint32_t pmu_type, unsigned cpu);

/* Whether anybody but @reserve has an event that stands against a CPU-wide one on @cpu: 0 if not. A CPU that
 * is held is not asked for: 0. */
int reserve_ask(const Reserve *reserve, uint32_t pmu_type, unsigned cpu);
/*
 * Whether there is an event of this PMU that is bound to @thread and reaches @cpu (-1: any): 0 if not. While
 * there is a CPU-wide one, the kernel lets nobody have any, and says RESERVE_E_BUSY. RESERVE_E_OFF_LINE:
 * there is no such thread, either.
 */
int reserve_ask_thread(uint32_t pmu_type, pid_t thread, int cpu);
/* Whether the PMU is a lock at all: opens two events on @cpu and wants the second refused. */
int reserve_try(uint32_t pmu_type, unsigned cpu);

/*
 * For a store of descriptors: the name under which the held event of @cpu is kept ("reserve-PMUTYPE-CPU"),
 * and its descriptor, which stays the reserve's. False if it is not held.
 */
#define RESERVE_NAME_MAX 32U
bool reserve_get_kept(const Reserve *reserve, unsigned cpu, char *name, int *ret_fd);
/*
 * Takes over those of @kept that are held events (their fd is -1 then). Others, those that are no lock any
 * more, and the second of two of one CPU stay.
 */
void reserve_adopt(Reserve *reserve, NamedFd *kept, size_t n_kept);
