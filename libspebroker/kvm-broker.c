/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the broker has to do with it: it knows the lease as it is now, what is in a guest's way on this host,
 * and has memlock to give. It may also be away, or nobody's to ask: that is never worse than not having
 * asked.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libspebroker/call.h"
#include "libspebroker/checks.h"
#include "libspebroker/fields.h"
#include "libspebroker/find.h"
#include "libspebroker/kvm.h"

#define ADVICE_ACQUIRE "Destroy the VM if SPE is enabled on any of its VCPUs, and acquire a new lease."

int kvm_say_check(struct spebroker_kvm *kvm, struct spebroker *context, int outcome) {
        _cleanup_(spebroker_checks_unrefp) struct spebroker_checks *checks = NULL;
        const struct spebroker_check *check;
        _cleanup_(freep) char *name = NULL;
        int error = kvm->error, r;
        char *message;

        if (outcome <= 0 || !context || spebroker_check_host(context, &checks) != 0)
                return outcome;
        check = spebroker_checks_get_first_failed(checks);
        if (!check)
                return outcome;

        name = strdup(spebroker_check_get_name(check));
        if (!name || asprintf(&message, "%s The broker's check %s: %s", kvm->message, name,
                              spebroker_check_get_reason(check)) < 0)
                return -ENOMEM;

        r = kvm_say(kvm, kvm->step, outcome, message, spebroker_check_get_advice(check));
        kvm->error = error;
        kvm->check = steal_ptr(name);
        return r;
}

int kvm_say_lease(struct spebroker_kvm *kvm, enum spebroker_kvm_step step,
                  const struct spebroker_lease *lease) {
        const char *state = spebroker_lease_get_state(lease), *reason = spebroker_lease_get_reason(lease);
        char *message = NULL;

        if (!lease_is(lease, "granted")) {
                if (asprintf(&message, "The lease is %s%s%s.", state, reason ? ": " : "", reason ?: "") < 0)
                        return -ENOMEM;
                return kvm_say(kvm, step, SPEBROKER_KVM_LEASE_OVER, message,
                               lease_is(lease, "queued") ? "Wait until it is granted." : ADVICE_ACQUIRE);
        }

        if (spebroker_lease_is_restart_required(lease)) {
                if (asprintf(&message, "The VM must be started again, with a new lease%s%s.",
                             reason ? ": " : "", reason ?: "") < 0)
                        return -ENOMEM;
                return kvm_say(kvm, step, SPEBROKER_KVM_LEASE_OVER, message, ADVICE_ACQUIRE);
        }

        if (spebroker_lease_get_pmu_type(lease) < 0) {
                if (asprintf(&message, "The lease has no SPU now%s%s.", reason ? ": " : "", reason ?: "") < 0)
                        return -ENOMEM;
                return kvm_say(kvm, step, SPEBROKER_KVM_LEASE_WITHOUT_SPU, message,
                               "Wait until the lease is restored.");
        }

        return 0;
}

/* A result of spebroker.h's, or -errno, in words. */
static const char *result_to_string(int r) {
        switch (r) {
        case SPEBROKER_NO_BROKER:
                return "no broker is running";
        case SPEBROKER_DISCONNECTED:
                return "the connection is gone";
        case SPEBROKER_OUTCOME_UNKNOWN:
                return "the connection went before it answered";
        case SPEBROKER_TIMEOUT:
                return "it did not answer in time";
        default:
                return r < 0 ? strerror(-r) : "its answer makes no sense";
        }
}

/* A call that did not work: an outcome, or -errno. @refused: how to say that the broker said no. */
static int say_call(struct spebroker_kvm *kvm, struct spebroker *context, enum spebroker_kvm_step step, int r,
                    int outcome, const char *refused) {
        const struct spebroker_refusal *refusal = spebroker_get_refusal(context);
        char *message = NULL;

        if (r == 0 || r == -EBUSY || r == -ENOMEM)
                return r;

        if (r == SPEBROKER_REFUSED && context_refused_as(context, "NoSuchLease"))
                return kvm_say(kvm, step, SPEBROKER_KVM_LEASE_OVER,
                               strdup(spebroker_refusal_get_message(refusal)), ADVICE_ACQUIRE);
        if (r == SPEBROKER_REFUSED) {
                if (asprintf(&message, "%s: %s", refused, spebroker_refusal_get_message(refusal)) < 0)
                        return -ENOMEM;
                return kvm_say(kvm, step, outcome, message, NULL);
        }

        if (asprintf(&message, "The broker was asked in vain: %s.", result_to_string(r)) < 0)
                return -ENOMEM;
        return kvm_say(kvm, step, SPEBROKER_KVM_NO_ANSWER, message, "Try again when a broker is running.");
}

int kvm_update(struct spebroker_kvm *kvm, struct spebroker *context, const char *lease_id, uint64_t missing,
               struct spebroker_lease **ret_lease) {
        int r;

        r = spebroker_update_memlock(context, lease_id, missing, ret_lease);
        return say_call(kvm, context, SPEBROKER_KVM_STEP_UPDATE, r, SPEBROKER_KVM_MEMLOCK,
                        "The broker gives no more memory to lock");
}

int kvm_ask_lease(struct spebroker_kvm *kvm, struct spebroker *context, struct spebroker_lease **ret_lease) {
        const char *id = spebroker_lease_get_id(kvm->lease), *vm = spebroker_lease_get_vm(kvm->lease);
        char *message;
        int r;

        r = lease_find(context, vm, id, ret_lease);
        if (r != SPEBROKER_ENDED)
                return say_call(kvm, context, SPEBROKER_KVM_STEP_RUN, r, SPEBROKER_KVM_NO_ANSWER,
                                "The broker does not tell the lease");

        if (asprintf(&message, "There is no lease %s any more.", id) < 0)
                return -ENOMEM;
        return kvm_say(kvm, SPEBROKER_KVM_STEP_RUN, SPEBROKER_KVM_LEASE_OVER, message, ADVICE_ACQUIRE);
}
