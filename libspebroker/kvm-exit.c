/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What KVM_RUN comes back with when something about SPE is not as it must be, made into what the broker can
 * do about it: more memory to lock, or the CPUs that are right now.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libspebroker/kvm.h"
#include "util/cpuset.h"

/* KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED, which arm64's <asm/kvm.h> alone has. */
#define CPU_UNSUPPORTED UINT64_C(1)

static int say_not_spe(struct spebroker_kvm *kvm, const char *why) {
        return kvm_say(kvm, SPEBROKER_KVM_STEP_RUN, SPEBROKER_KVM_NOT_SPE, strdup(why), NULL);
}

int spebroker_kvm_handle_rlimit(struct spebroker_kvm *kvm, struct spebroker *context, uint64_t missing,
                                struct spebroker_lease **ret_lease) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        const char *state;
        char *message;
        int r;

        if (!context || missing == 0 || missing > INT64_MAX)
                return -EINVAL;

        kvm_forget(kvm);
        if (kvm->n_enabled == 0)
                return say_not_spe(kvm, "No VCPU of the VM has SPE.");

        r = kvm_update(kvm, context, spebroker_lease_get_id(kvm->lease), missing, &lease);
        if (r != 0)
                return r;
        spebroker_lease_unref(kvm->lease);
        kvm->lease = spebroker_lease_ref(lease);

        state = spebroker_lease_get_memlock_state(lease);
        if (strcmp(state, "unmanaged") == 0 || strcmp(state, "no_capability") == 0) {
                if (asprintf(&message,
                             "The guest's buffer needs %llu bytes more than RLIMIT_MEMLOCK allows, which the "
                             "broker did not raise: %s.",
                             (unsigned long long)missing, state) < 0)
                        return -ENOMEM;
                return kvm_say(kvm, SPEBROKER_KVM_STEP_UPDATE, SPEBROKER_KVM_MEMLOCK, message,
                               "Raise the limit by that many bytes, and call KVM_RUN again.");
        }

        if (ret_lease)
                *ret_lease = steal_ptr(lease);
        return 0;
}

/* The VCPU has run there: was that right? */
static int look_at_cpu(struct spebroker_kvm *kvm, const struct spebroker_lease *lease, uint32_t cpu) {
        const char *cpus = spebroker_lease_get_cpus(lease);
        char *message;
        CpuSet set;

        if (cpuset_parse(cpus, strlen(cpus), &set) != 0)
                return -EPROTO;
        if (cpu >= CPUSET_MAX || !cpuset_has(&set, cpu))
                return 0;

        if (asprintf(&message, "KVM refuses the VCPU on CPU %u, which is one of the lease's (%s).", cpu,
                     cpus) < 0)
                return -ENOMEM;
        return kvm_say(kvm, SPEBROKER_KVM_STEP_RUN, SPEBROKER_KVM_CPU_REFUSED, message,
                       "See whether the SPU is still the one that the VM was given: speadm leases.");
}

int spebroker_kvm_handle_fail_entry(struct spebroker_kvm *kvm, struct spebroker *context, uint64_t reason,
                                    uint32_t cpu, struct spebroker_lease **ret_lease) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        int r;

        if (!context || !ret_lease)
                return -EINVAL;

        kvm_forget(kvm);
        if (kvm->n_enabled == 0)
                return say_not_spe(kvm, "No VCPU of the VM has SPE.");
        if (!(reason & CPU_UNSUPPORTED))
                return say_not_spe(kvm, "KVM_EXIT_FAIL_ENTRY does not say that the CPU is the reason.");

        r = kvm_ask_lease(kvm, context, &lease);
        if (r == 0)
                r = kvm_say_lease(kvm, SPEBROKER_KVM_STEP_RUN, lease);
        if (r == 0)
                r = kvm_say_values(kvm, SPEBROKER_KVM_STEP_RUN, lease);
        if (r == 0)
                r = look_at_cpu(kvm, lease, cpu);
        if (r != 0)
                return r;

        spebroker_lease_unref(kvm->lease);
        kvm->lease = spebroker_lease_ref(lease);
        *ret_lease = steal_ptr(lease);
        return 0;
}
