/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who is asked for, and who is not: a throwaway VM costs some milliseconds, and a rescan may come for every
 * CPU that goes off line. An answer holds for a PMU type as long as KVM and the driver are the same.
 */

#include "broker/guest.h"

#include <errno.h>
#include <string.h>

#include "broker/log.h"
#include "broker/manager.h"

void guest_deinit(Guest *guest) {
        guest_verdict_deinit(&guest->kvm);
}

void guest_forget(Manager *manager) {
        manager->guest.stale = true;
}

GuestSupport guest_support(const GuestVerdict *verdict) {
        switch (verdict->answer) {
        case GUEST_ANSWER_YES:
                return GUEST_SUPPORT_YES;
        case GUEST_ANSWER_NO:
                return GUEST_SUPPORT_NO;
        default:
                return GUEST_SUPPORT_UNKNOWN;
        }
}

static int ask(const Manager *manager, const uint32_t *pmu_type, GuestVerdict *verdict) {
        KvmNumbers numbers = kvm_numbers(manager->config->kvm_numbers);

        return guest_probe(manager->facts_fd, manager->foreign, &numbers, pmu_type, verdict);
}

static void log_news(const Manager *manager, const Spu *spu, const Spu *before) {
        if (before && before->guest.answer == spu->guest.answer &&
            strcmp(before->guest.reason ?: "", spu->guest.reason ?: "") == 0)
                return;

        if (spu->guest.answer == GUEST_ANSWER_NO)
                log_message(LOG_WARNING, "%s cannot be given to a guest: %s", spu->name, spu->guest.reason);
        else if (spu->guest.answer == GUEST_ANSWER_UNKNOWN && !manager->foreign)
                log_message(LOG_NOTICE, "whether %s can be given to a guest is unknown: %s", spu->name,
                            spu->guest.reason);
}

static int ask_spu(const Manager *manager, Spu *spu, const Spu *before) {
        int r;

        if (!spu->ready) {
                spu->guest.reason = strdup("KVM is not asked before it is ready");
                return spu->guest.reason ? 0 : -ENOMEM;
        }
        if (before && before->ready && before->pmu_type == spu->pmu_type && !manager->guest.stale)
                return guest_verdict_copy(&before->guest, &spu->guest);

        r = ask(manager, &spu->pmu_type, &spu->guest);
        if (r < 0)
                return r;

        log_news(manager, spu, before);
        return 0;
}

/* Where no SPU is ready there is still something to say about KVM. */
static int ask_kvm(Manager *manager, bool ready) {
        Guest *guest = &manager->guest;
        GuestVerdict verdict;
        int r;

        if (!ready && guest->kvm.reason && !guest->stale)
                return 0;

        verdict = GUEST_VERDICT_NULL;
        if (!ready) {
                r = ask(manager, NULL, &verdict);
                if (r < 0)
                        return r;
        }
        guest_verdict_deinit(&guest->kvm);
        guest->kvm = verdict;
        return 0;
}

int guest_ask(Manager *manager, Topology *topology) {
        const Topology *before = manager->topology;
        bool ready = false;
        int r;

        if (before && before->driver != topology->driver)
                guest_forget(manager);

        for (size_t i = 0; i < topology->n_spus; i++) {
                Spu *spu = &topology->spus[i];

                r = ask_spu(manager, spu, before ? topology_find(before, spu->name) : NULL);
                if (r < 0)
                        return r;
                ready |= spu->ready;
        }

        r = ask_kvm(manager, ready);
        if (r < 0)
                return r;

        manager->guest.stale = false;
        return 0;
}
