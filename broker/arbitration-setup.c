/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Sets up what the level needs, at start and whenever the configuration or the instances are others. What is
 * new is there before the old goes. Nothing here ends the daemon: an arbiter that fails is logged, and there
 * is a lower level then, with that as its reason.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/arbitration-state.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "broker/session-bell.h"
#include "util/fs.h"
#include "util/parse.h"

#define KERNEL_PMUS   "/sys/bus/event_source/devices"
#define TYPE_TEXT_MAX 16U

ArbitrationLevel arbitration_get_level(const Arbitration *arbitration) {
        return arbitration ? arbitration->choice.level : ARBITRATION_LEVEL_NONE;
}

const char *arbitration_get_reason(const Arbitration *arbitration) {
        return arbitration->choice.reason[0] != '\0' ? arbitration->choice.reason : NULL;
}

void arbitration_get_counters(const Arbitration *arbitration, ArbiterCounters *ret_counters) {
        *ret_counters = (ArbiterCounters){0};
        if (arbitration->arbiter)
                arbiter_get_counters(arbitration->arbiter, ret_counters);
}

Arbiter *arbitration_get_arbiter(const Arbitration *arbitration) {
        if (!arbitration || !arbitration->arbiter ||
            arbiter_get_hook(arbitration->arbiter) == ARBITER_HOOK_NONE)
                return NULL;

        return arbitration->arbiter;
}

Reserve *arbitration_get_reserve(const Arbitration *arbitration) {
        return arbitration->reserve;
}

const Instance *arbitration_find_instance(const Manager *manager, const char *pmu) {
        const Arbitration *arbitration = manager->arbitration;

        for (size_t i = 0; i < arbitration->n_pmus; i++)
                if (strcmp(arbitration->pmus[i].facts.name, pmu) == 0)
                        return instance_table_find(&manager->model.instances, arbitration->pmus[i].instance);

        return NULL;
}

/* The PMU that has @type in the running kernel; false if there is none. */
static bool find_kernel_pmu(uint32_t type, char *ret_name) {
        _cleanup_(closedirp) DIR *dir = opendir(KERNEL_PMUS);
        struct dirent *entry;

        while (dir && fs_readdir(dir, &entry) == 0 && entry) {
                size_t length = strlen(entry->d_name), n;
                char path[sizeof(entry->d_name) + sizeof("/type")], text[TYPE_TEXT_MAX];
                uint64_t value;

                if (length >= ARBITER_PMU_NAME)
                        continue;
                (void)snprintf(path, sizeof(path), "%s/type", entry->d_name);
                if (fs_read_line(dirfd(dir), path, text, sizeof(text), &n) != 0 ||
                    parse_u64(text, UINT32_MAX, &value) != 0 || value != type)
                        continue;

                memcpy(ret_name, entry->d_name, length + 1);
                return true;
        }

        return false;
}

/* As the kernel calls the PMU of @instance: on another host's tree, as this one calls what has that type. */
static void name_pmu(const Manager *manager, const Instance *instance, char *ret_name) {
        if (!manager->foreign || !find_kernel_pmu(instance->pmu_type, ret_name))
                (void)snprintf(ret_name, ARBITER_PMU_NAME, "%s", instance->name);
}

/* Names the PMUs of all instances that are ready, for the arbiter and for who looks a session's up. */
static int name_pmus(Manager *manager) {
        const InstanceTable *table = &manager->model.instances;
        Arbitration *arbitration = manager->arbitration;
        _cleanup_(freep) ArbiterPmu *facts = NULL;
        ArbitrationPmu *pmus;
        size_t n = 0;

        pmus = calloc(table->n + 1, sizeof(*pmus));
        facts = calloc(table->n + 1, sizeof(*facts));
        if (!pmus || !facts) {
                free(pmus);
                return -ENOMEM;
        }

        for (size_t i = 0; i < table->n; i++) {
                const Instance *instance = table->entries[i];

                if (instance->state != INSTANCE_STATE_READY)
                        continue;

                name_pmu(manager, instance, pmus[n].facts.name);
                pmus[n].facts.cpus = instance->cpus;
                memcpy(pmus[n].instance, instance->name, sizeof(pmus[n].instance));
                facts[n] = pmus[n].facts;
                n++;
        }

        free(arbitration->pmus);
        arbitration->pmus = pmus;
        arbitration->n_pmus = n;
        return arbitration->arbiter ? arbiter_set_pmus(arbitration->arbiter, facts, n) : 0;
}

static void note_failure(Arbitration *arbitration, const char *what, int r) {
        (void)snprintf(arbitration->failure, sizeof(arbitration->failure), "%s: %s", what, strerror(-r));
        log_message(LOG_ERR, "host sessions: %s", arbitration->failure);
}

/* Makes an arbiter if @wanted needs one, with what was kept for it. No memory is the caller's affair, all
 * else a reason. */
static int make_arbiter(Arbitration *arbitration, ArbitrationLevel wanted, NamedFd *kept, size_t n_kept,
                        Arbiter **ret_arbiter) {
        Arbiter *arbiter = NULL;
        int r;

        arbitration->failure[0] = '\0';
        arbitration->highest = arbitration_wanted_hook(wanted);
        if (wanted != ARBITRATION_LEVEL_NONE) {
                r = arbiter_new(arbitration->highest, kept, n_kept, &arbiter);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        note_failure(arbitration, "BPF programs cannot be set up", r);
        }

        *ret_arbiter = arbiter;
        return 0;
}

/* What the level is now: acts on it if it is another one than before. */
static void choose(Manager *manager) {
        Arbitration *arbitration = manager->arbitration;
        ArbitrationChoice *choice = &arbitration->choice, before = *choice;

        arbitration_choose(manager, arbitration_wanted(manager), arbitration->arbiter, arbitration->failure,
                           choice);
        manager->model.unprotected_reason = choice->unprotected ? choice->reason : NULL;
        host_check_forget(&manager->check); /* which says the same */
        if (choice->unprotected && (!before.unprotected || strcmp(choice->reason, before.reason) != 0))
                log_message(LOG_WARNING, "host sessions: %s; leases that may not share are refused",
                            choice->reason);
        if (choice->unprotected != before.unprotected)
                manager_mark_dirty(manager, DIRTY_QUEUE);
        if (choice->level == before.level)
                return;

        if (arbitration->configured)
                log_message(LOG_NOTICE, "host sessions: level %s (was %s)%s%s",
                            arbitration_level_to_string(choice->level),
                            arbitration_level_to_string(before.level), *choice->reason ? ": " : "",
                            choice->reason);
        arbitration_forget_closed(manager);
        manager_mark_dirty(manager, DIRTY_QUEUE | DIRTY_CONTENTION | DIRTY_CLOSED);
}

/* The copy of the table becomes that of the arbiter that there is now. */
static void listen(Manager *manager) {
        int r = sessions_listen(manager);

        if (r < 0)
                log_message(LOG_ERR, "cannot listen to the BPF programs: %s", strerror(-r));
}

void arbitration_fail(Manager *manager, const char *what, int r) {
        Arbitration *arbitration = manager->arbitration;
        Arbiter *failed = steal_ptr(arbitration->arbiter);

        note_failure(arbitration, what, r);
        arbitration->highest = _ARBITER_HOOK_MAX; /* so that the next occasion makes another one */
        choose(manager);
        listen(manager);
        arbiter_free(failed);
}

int arbitration_configure(Manager *manager) {
        Arbitration *arbitration = manager->arbitration;
        ArbitrationLevel wanted = arbitration_wanted(manager);
        Arbiter *arbiter = NULL, *old = NULL;
        bool other = arbitration_wanted_hook(wanted) != arbitration->highest;
        int r;

        if (other) {
                r = make_arbiter(arbitration, wanted, NULL, 0, &arbiter);
                if (r < 0)
                        return r;
                old = arbitration->arbiter;
                arbitration->arbiter = arbiter;
                arbitration_forget_closed(manager);
        }

        r = name_pmus(manager);
        if (r < 0)
                arbitration_fail(manager, "SPUs cannot be named to the BPF programs", r);

        arbitration->hold_anew = true;
        choose(manager);
        if (other || !arbitration->configured)
                listen(manager);
        sessions_place(manager);
        arbitration->configured = true;
        if (old)
                arbitration_settle(
                        manager); /* what the old one keeps closed, the new one does before it goes */
        arbiter_free(old);
        return 0;
}

int arbitration_new(Manager *manager, NamedFd *kept, size_t n_kept, Arbitration **ret_arbitration) {
        _cleanup_(arbitration_freep) Arbitration *arbitration = calloc(1, sizeof(*arbitration));
        ArbitrationLevel wanted = arbitration_wanted(manager);
        int r;

        if (!arbitration)
                return -ENOMEM;

        arbitration->manager = manager;
        LIST_INIT(&arbitration->stale_owners);
        r = sd_event_add_time(manager->event, &arbitration->retry_timer, CLOCK_MONOTONIC, UINT64_MAX, 1,
                              arbitration_on_retry, manager);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(arbitration->retry_timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = reserve_new(&arbitration->reserve);
        if (r < 0)
                return r;
        if (wanted != ARBITRATION_LEVEL_NONE)
                reserve_adopt(arbitration->reserve, kept, n_kept);
        r = make_arbiter(arbitration, wanted, kept, n_kept, &arbitration->arbiter);
        if (r < 0)
                return r;

        *ret_arbitration = steal_ptr(arbitration);
        return 0;
}

Arbitration *arbitration_free(Arbitration *arbitration) {
        if (!arbitration)
                return NULL;

        sd_event_source_disable_unref(arbitration->retry_timer);
        arbiter_free(arbitration->arbiter);
        reserve_free(arbitration->reserve);
        free(arbitration->pmus);
        free(arbitration);
        return NULL;
}
