/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading files and the kernel's log takes some milliseconds, in which nobody else is answered. So a list
 * that took that long to make is the answer to others too, for a multiple of that time: however many ask,
 * only a small part of the broker's time goes into it, and a list is never older than anybody could notice.
 */

#include "broker/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/manager.h"
#include "util/clock.h"

/* At most one part in so many of the broker's time. */
#define SHARE 10U

#define ADVICE_LEVEL_AUTO \
        "Say Level=auto in section [Arbitration] of spe-broker.conf, or nothing, then: speadm reload"

void host_check_forget(HostCheck *check) {
        check->fresh_until = 0;
}

void host_check_deinit(HostCheck *check) {
        readiness_free(check->checks, check->n);
        *check = (HostCheck){0};
}

/* What KVM says of the SPUs that are ready, and of which of them that is: one is enough for a guest. */
static CheckStatus judge_guest(const InstanceTable *instances, const Instance **ret_shown) {
        const Instance *first[_GUEST_SUPPORT_MAX] = {NULL}, *lacking;

        for (size_t i = instances->n; i > 0; i--)
                if (instances->entries[i - 1]->state == INSTANCE_STATE_READY)
                        first[instances->entries[i - 1]->guest] = instances->entries[i - 1];

        lacking = first[GUEST_SUPPORT_UNKNOWN] ?: first[GUEST_SUPPORT_NO];
        *ret_shown = lacking ?: first[GUEST_SUPPORT_YES];
        if (first[GUEST_SUPPORT_YES])
                return lacking ? CHECK_WARNING : CHECK_OK;

        return lacking && lacking->guest == GUEST_SUPPORT_NO ? CHECK_FAILED : CHECK_UNKNOWN;
}

static int add_guest(const Manager *manager, ReadinessInput *input, char **ret_reason) {
        const GuestVerdict *verdict = &manager->guest.kvm;
        const Instance *shown;
        char *reason;
        int r;

        input->guest = judge_guest(&manager->model.instances, &shown);
        if (shown) {
                const Spu *spu = topology_find(manager->topology, shown->name);

                verdict = spu ? &spu->guest : NULL;
                r = asprintf(&reason, "%s: %s.", shown->name,
                             shown->guest_reason ?: "KVM has not been asked");
        } else if (verdict->answer == GUEST_ANSWER_NO || verdict->advice) {
                /* Advice needs the reason that it is for. */
                input->guest = verdict->answer == GUEST_ANSWER_NO ? CHECK_FAILED : CHECK_UNKNOWN;
                r = asprintf(&reason, "No SPU is ready, and of KVM itself: %s.", verdict->reason);
        } else
                r = asprintf(&reason, "There is no SPU that KVM could be asked for.");
        if (r < 0)
                return -ENOMEM;

        input->guest_advice = verdict ? verdict->advice : NULL;
        input->guest_reason = *ret_reason = reason;
        return 0;
}

static void add_trampolines(const Manager *manager, HostCheck *check, ReadinessInput *input) {
        /* Without them the broker cannot enforce, but a guest can have SPE. */
        static const CheckStatus statuses[] = {
                [BPF_PROBE_ATTACHES] = CHECK_OK,
                [BPF_PROBE_REFUSED] = CHECK_WARNING,
                [BPF_PROBE_UNKNOWN] = CHECK_UNKNOWN,
        };

        if (manager->foreign) {
                input->trampolines = CHECK_UNKNOWN;
                input->trampolines_reason =
                        "This machine's kernel is not that of the host that is looked at.";
                return;
        }
        if (!check->bpf_probed) {
                bpf_probe(&check->bpf);
                check->bpf_probed = true;
        }

        input->trampolines = statuses[check->bpf.result];
        input->trampolines_reason = check->bpf.reason;
        input->trampolines_advice = check->bpf.advice;
}

static CheckStatus judge_level(const Manager *manager, ArbitrationLevel level) {
        if (manager->model.unprotected_reason)
                return CHECK_FAILED; /* leases are refused */
        if (level == ARBITRATION_LEVEL_ENFORCE || level == manager->config->level)
                return CHECK_OK; /* nothing better, or as the operator wants it */
        return manager->foreign ? CHECK_UNKNOWN : CHECK_WARNING;
}

/* The level and its reason as Describe has them. */
static int add_level(const Manager *manager, ReadinessInput *input, char **ret_reason) {
        static const char *const sentences[_ARBITRATION_LEVEL_MAX] = {
                [ARBITRATION_LEVEL_NONE] = "Host sessions are neither seen nor kept off (level none)",
                [ARBITRATION_LEVEL_OBSERVE] = "Host sessions are seen, and not kept off (level observe)",
                [ARBITRATION_LEVEL_RESERVE] =
                        "Host sessions are kept off leases, and more of them than need be (level reserve)",
                [ARBITRATION_LEVEL_ENFORCE] =
                        "Host sessions that stand against leases are refused (level enforce)",
        };
        const Arbiter *arbiter = arbitration_get_arbiter(manager->arbitration);
        ArbitrationLevel level = arbitration_get_level(manager->arbitration);
        const char *reason = arbitration_get_reason(manager->arbitration);

        char *text;

        input->level = judge_level(manager, level);
        if (asprintf(&text, "%s%s%s%s.", sentences[level],
                     input->level == CHECK_FAILED ? ", so leases that may not share are refused" : "",
                     reason ? ": " : "", reason ?: "") < 0)
                return -ENOMEM;

        input->level_reason = *ret_reason = text;
        if (input->level == CHECK_FAILED)
                input->level_advice = ADVICE_LEVEL_AUTO;
        else if (input->level == CHECK_WARNING && arbiter)
                input->level_advice = arbiter_get_advice(arbiter);
        return 0;
}

static int make(Manager *manager, HostCheck *check) {
        _cleanup_(freep) char *guest_reason = NULL, *level_reason = NULL;
        ReadinessInput input = {
                .root_fd = manager->facts_fd,
                .foreign = manager->foreign,
                .topology = manager->topology,
                .memlock_managed = manager->manages_memlock,
                .memlock_able = manager->manages_memlock && memlock_limit_is_able(),
        };
        Check *checks;
        size_t n;
        int r;

        r = add_guest(manager, &input, &guest_reason);
        if (r < 0)
                return r;
        add_trampolines(manager, check, &input);
        r = add_level(manager, &input, &level_reason);
        if (r < 0)
                return r;

        r = readiness_check(&input, &checks, &n);
        if (r < 0)
                return r;

        readiness_free(check->checks, check->n);
        check->checks = checks;
        check->n = n;
        return 0;
}

int host_check(Manager *manager, const HostCheck **ret_check) {
        HostCheck *check = &manager->check;
        uint64_t begin = clock_now_usec(), end;
        int r;

        if (begin >= check->fresh_until) {
                r = make(manager, check);
                if (r < 0)
                        return r;
                end = clock_now_usec();
                check->fresh_until = end + (SHARE - 1) * (end - begin);
        }

        *ret_check = check;
        return 0;
}
