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
        Manager *manager = userdata;

        manager->arbitration->retry_due = true;
        manager_mark_dirty(manager, DIRTY_CLOSED);
        return 0;
}

/* Tries again later, if @again: from the first pause on if that is @news. */
static void arm_retry(Manager *manager, bool again, bool news) {
        Arbitration *arbitration = manager->arbitration;
        uint64_t pause = arbitration->retry_usec * 2;
        int enabled = SD_EVENT_OFF;

        if (!again) {
                arbitration->retry_usec = 0;
                sd_event_source_set_enabled(arbitration->retry_timer, SD_EVENT_OFF);
                return;
        }
        (void)sd_event_source_get_enabled(arbitration->retry_timer, &enabled);
        if (!news && enabled != SD_EVENT_OFF)
                return; /* its time will come */

        if (news || pause == 0)
                pause = RETRY_FIRST_USEC;
        arbitration->retry_usec = pause < RETRY_MAX_USEC ? pause : RETRY_MAX_USEC;
        sd_event_source_set_time(arbitration->retry_timer,
                                 manager_now_monotonic(manager) + arbitration->retry_usec);
        sd_event_source_set_enabled(arbitration->retry_timer, SD_EVENT_ONESHOT);
}

/*
 * Where somebody is known to be, the kernel is asked again only if there is a reason to believe that this is
 * over: the pause is, the host has changed, or what sessions there are.
 */
static bool is_to_be_tried(Manager *manager) {
        Arbitration *arbitration = manager->arbitration;
        uint64_t generation = manager->sessions.generation;
        bool tried;

        tried = !arbitration->retry_due && !arbitration->hold_anew &&
                generation == arbitration->tried_generation;
        arbitration->retry_due = arbitration->hold_anew = false;
        arbitration->tried_generation = generation;
        return !tried;
}

/* Where the kernel has a reason, which is seen, to refuse us. */
static void seen_cpus(const Manager *manager, CpuSet *ret_cpus) {
        const Session *session;

        *ret_cpus = manager->model.sessions.cpu_wide;
        TAILQ_FOREACH(session, &manager->sessions.all, link)
                if (session->target && session->instance)
                        cpuset_or(ret_cpus, &session->instance->cpus);
}

/* Holds what is @wanted of @instance, and asks about what is @waited for. */
static void settle_instance(Manager *manager, const Instance *instance, const CpuSet *wanted,
                            const CpuSet *waited, CpuSet *unseen, CpuSet *there) {
        const Arbitration *arbitration = manager->arbitration;
        CpuSet hold_cpus = *wanted, ask_cpus = *waited;

        cpuset_or(there, &instance->effective);
        cpuset_and(&hold_cpus, &instance->effective);
        CPUSET_FOREACH(cpu, &hold_cpus)
                (void)hold(manager->arbitration, instance, cpu, unseen);

        cpuset_and(&ask_cpus, &instance->effective);
        CPUSET_FOREACH(cpu, &ask_cpus)
                if (is_free(arbitration, instance, cpu))
                        cpuset_remove(unseen, cpu);
}

void arbitration_settle_held(Manager *manager, const CpuSet *wanted, const CpuSet *waited, CpuSet *ret_kept) {
        CpuSet before = manager->sessions.unseen, unseen = before, to_hold = *wanted, to_ask = *waited;
        const InstanceTable *table = &manager->model.instances;
        Arbitration *arbitration = manager->arbitration;
        CpuSet there = CPUSET_NULL, seen, cared_for;

        seen_cpus(manager, &seen);
        if (arbitration->hold_anew)
                reserve_look(arbitration->reserve, &manager->topology->online);
        if (is_to_be_tried(manager)) {
                cpuset_and(&to_ask, &before);
                cpuset_subtract(&to_ask, wanted);
        } else {
                cpuset_subtract(&to_hold, &before);
                cpuset_subtract(&to_hold, &seen);
                to_ask = CPUSET_NULL;
        }

        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->state == INSTANCE_STATE_READY)
                        settle_instance(manager, table->entries[i], &to_hold, &to_ask, &unseen, &there);

        /* Those that are seen are waited for like any session; of CPUs that nobody wants, nobody wants to
         * know. */
        cared_for = *wanted;
        cpuset_or(&cared_for, waited);
        cpuset_and(&cared_for, &there);
        cpuset_subtract(&cared_for, &seen);
        cpuset_and(&unseen, &cared_for);
        arm_retry(manager, !cpuset_is_empty(&unseen), !cpuset_equal(&unseen, &before));
        set_unseen(manager, &unseen);

        *ret_kept = *wanted;
        cpuset_and(ret_kept, &there);
}
