/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Level reserve: the broker holds an event of its own on every CPU that is closed, as far as it is on line.
 *
 * Where somebody keeps it from holding one and nobody sees who, no event of the kernel tells when that ends.
 * That alone is tried again after a while, with a pause that doubles up to a bound.
 */

#include <string.h>

#include "broker/arbitration-state.h"
#include "broker/log.h"
#include "broker/manager.h"

#define RETRY_FIRST_USEC UINT64_C(100000)
#define RETRY_MAX_USEC   UINT64_C(10000000)

/* That CPUs cannot be held for want of anything but an empty CPU is odd. One line says so. */
static void tell_not_held(Arbitration *arbitration, const Instance *instance, unsigned cpu, int r) {
        if (arbitration->told_hold)
                return;

        arbitration->told_hold = true;
        log_message(LOG_WARNING, "CPU %u of %s cannot be kept free of host sessions: %s", cpu, instance->name,
                    r < 0                   ? strerror(-r)
                    : r == RESERVE_E_DENIED ? "perf does not let the broker open CPU-wide events any more"
                                            : "its PMU lets two events on one CPU");
}

/*
 * Holds @cpu; false, and then it is one of @unseen, if that cannot be. A CPU that is off line cannot be held,
 * and nobody else can have an event there: it is back with an uevent, and held then.
 */
static bool hold(Arbitration *arbitration, const Instance *instance, unsigned cpu, CpuSet *unseen) {
        int r;

        r = reserve_hold(arbitration->reserve, instance->pmu_type, cpu);
        if (r == 0 || r == RESERVE_E_OFF_LINE) {
                cpuset_remove(unseen, cpu);
                return true;
        }

        if (r != RESERVE_E_BUSY)
                tell_not_held(arbitration, instance, cpu, r);
        cpuset_add(unseen, cpu);
        return false;
}

/* From now on somebody whom nobody saw is on @unseen. */
static void set_unseen(Manager *manager, const CpuSet *unseen) {
        SessionTable *table = &manager->sessions;

        if (cpuset_equal(unseen, &table->unseen))
                return;

        table->unseen = *unseen;
        sessions_place(manager);
}

int arbitration_hold(Manager *manager, const Offer *offer) {
        CpuSet unseen = manager->sessions.unseen;
        bool held = true;

        CPUSET_FOREACH(cpu, &offer->cpus)
                if (!hold(manager->arbitration, offer->instance, cpu, &unseen)) {
                        held = false;
                        break;
                }

        set_unseen(manager, &unseen);
        return held ? 0 : RESERVE_E_BUSY;
}

/* Whether somebody still is on @cpu of @instance: asked without holding it. */
static bool is_free(const Arbitration *arbitration, const Instance *instance, unsigned cpu) {
        int r = reserve_ask(arbitration->reserve, instance->pmu_type, cpu);

        return r == 0 || r == RESERVE_E_OFF_LINE;
}

bool arbitration_ask_unseen(Manager *manager, const CpuSet *cpus) {
        const InstanceTable *table = &manager->model.instances;
        CpuSet unseen = manager->sessions.unseen;
        bool gone = false;

        for (size_t i = 0; i < table->n; i++) {
                const Instance *instance = table->entries[i];
                CpuSet asked = *cpus;

                cpuset_and(&asked, &manager->sessions.unseen);
                cpuset_and(&asked, &instance->cpus);
                if (instance->state != INSTANCE_STATE_READY)
                        continue;
                CPUSET_FOREACH(cpu, &asked)
                        if (is_free(manager->arbitration, instance, cpu)) {
                                cpuset_remove(&unseen, cpu);
                                gone = true;
                        }
        }

        set_unseen(manager, &unseen);
        return gone;
}

int arbitration_on_retry(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        manager_mark_dirty(userdata, DIRTY_CLOSED);
        return 0;
}

/* Tries again later, if @again: from the first pause on if it is @news. */
static void arm_retry(Manager *manager, bool again, bool news) {
        Arbitration *arbitration = manager->arbitration;
        uint64_t pause = arbitration->retry_usec * 2, due;

        if (!again) {
                sd_event_source_set_enabled(arbitration->retry_timer, SD_EVENT_OFF);
                return;
        }
        if (!news && sd_event_source_get_enabled(arbitration->retry_timer, NULL) > 0)
                return; /* its time will come */

        if (news)
                pause = RETRY_FIRST_USEC;
        arbitration->retry_usec = pause < RETRY_MAX_USEC ? pause : RETRY_MAX_USEC;
        due = manager_now_monotonic(manager) + arbitration->retry_usec;
        sd_event_source_set_time(arbitration->retry_timer, due);
        sd_event_source_set_enabled(arbitration->retry_timer, SD_EVENT_ONESHOT);
}

void arbitration_settle_held(Manager *manager, const CpuSet *wanted, const CpuSet *waited, CpuSet *ret_kept) {
        Arbitration *arbitration = manager->arbitration;
        const InstanceTable *table = &manager->model.instances;
        CpuSet before = manager->sessions.unseen, unseen = before, kept = CPUSET_NULL;

        if (arbitration->hold_anew)
                reserve_look(arbitration->reserve, &manager->topology->online);
        arbitration->hold_anew = false;

        for (size_t i = 0; i < table->n; i++) {
                const Instance *instance = table->entries[i];
                CpuSet cpus = *wanted, asked = *waited;

                if (instance->state != INSTANCE_STATE_READY)
                        continue;
                cpuset_and(&cpus, &instance->effective);
                cpuset_or(&kept, &cpus);
                CPUSET_FOREACH(cpu, &cpus)
                        (void)hold(arbitration, instance, cpu, &unseen);

                cpuset_and(&asked, &instance->effective);
                cpuset_subtract(&asked, &cpus);
                cpuset_and(&asked, &before);
                cpuset_or(&kept, &asked);
                CPUSET_FOREACH(cpu, &asked)
                        if (is_free(arbitration, instance, cpu))
                                cpuset_remove(&unseen, cpu);
        }

        cpuset_and(&unseen, &kept); /* of others nobody wants to know */
        arm_retry(manager, !cpuset_is_empty(&unseen), !cpuset_equal(&unseen, &before));
        set_unseen(manager, &unseen);
        *ret_kept = kept;
}
