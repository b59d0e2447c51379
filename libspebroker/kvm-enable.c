/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What is set, in the order that KVM demands. What a VCPU was given is remembered, so that calling again goes
 * on where it failed: KVM takes some of it once only. All VCPUs of a VM get the same values.
 *
 * Sources: KVM SPE v6 12/35 to 15/35 and 33/35; the order v5 34/38.
 */

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

#include "libspebroker/kvm.h"

typedef struct Enabling {
        struct spebroker_kvm *kvm;
        struct spebroker *context;
        struct spebroker_lease *lease;
        int vcpu_fd;
} Enabling;

static int set_max_buffer_size(const Enabling *enabling, void *value) {
        return kvm_attribute(enabling->kvm, enabling->vcpu_fd, KVM_SET_DEVICE_ATTR,
                             KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE, value);
}

/* KVM charges the whole buffer to RLIMIT_MEMLOCK, and there was no room: the broker may make some. */
static int make_room(Enabling *enabling, uint64_t *size) {
        const enum spebroker_kvm_step step = SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE;
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        struct spebroker_kvm *kvm = enabling->kvm;
        uint64_t missing = kvm_memlock_missing(*size);
        char *message = NULL;
        int r;

        if (missing == 0) {
                r = kvm_say(
                        kvm, step, SPEBROKER_KVM_NO_MEMORY,
                        strdup("The kernel has no memory for this, and RLIMIT_MEMLOCK is not in the way."),
                        NULL);
                kvm->error = ENOMEM;
                return r;
        }
        if (!enabling->context)
                return kvm_say_errno(kvm, step, ENOMEM);

        r = kvm_update(kvm, enabling->context, spebroker_lease_get_id(enabling->lease), missing, &lease);
        if (r != 0)
                return r;
        spebroker_lease_unref(enabling->lease);
        enabling->lease = spebroker_lease_ref(lease);

        r = set_max_buffer_size(enabling, size);
        if (r == 0)
                return 0;
        r = kvm_say_errno(kvm, step, r);
        if (r < 0)
                return r;
        return asprintf(&message, "The broker was asked for %llu bytes more; it says of the limit: %s.",
                        (unsigned long long)missing, spebroker_lease_get_memlock_state(lease)) < 0
                       ? -ENOMEM
                       : kvm_say_more(kvm, r, message);
}

static int take_irq(Enabling *enabling) {
        struct spebroker_kvm *kvm = enabling->kvm;
        int irq = (int)kvm->asked.irq;
        int error =
                kvm_attribute(kvm, enabling->vcpu_fd, KVM_SET_DEVICE_ATTR, KVM_NUMBER_ATTRIBUTE_IRQ, &irq);

        if (error)
                return kvm_say_errno(kvm, SPEBROKER_KVM_STEP_IRQ, error);
        kvm->given.irq = irq;
        return 0;
}

static int take_spu(Enabling *enabling) {
        struct spebroker_kvm *kvm = enabling->kvm;
        int type = (int)kvm->asked.spu;
        int error =
                kvm_attribute(kvm, enabling->vcpu_fd, KVM_SET_DEVICE_ATTR, KVM_NUMBER_ATTRIBUTE_SPU, &type);

        if (error)
                return kvm_say_errno(kvm, SPEBROKER_KVM_STEP_SPU, error);
        kvm->given.spu = type;
        return 0;
}

static int take_max_buffer_size(Enabling *enabling) {
        struct spebroker_kvm *kvm = enabling->kvm;
        uint64_t size = (uint64_t)kvm->asked.buffer_size;
        int r;

        if (kvm->bound != SPEBROKER_KVM_BOUND_KVM)
                return 0;

        r = set_max_buffer_size(enabling, &size);
        if (r == ENOMEM)
                r = make_room(enabling, &size);
        else if (r > 0)
                r = kvm_say_errno(kvm, SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE, r);
        if (r == 0)
                kvm->given.buffer_size = kvm->asked.buffer_size;
        return r;
}

static int take_init(Enabling *enabling) {
        struct spebroker_kvm *kvm = enabling->kvm;
        int error =
                kvm_attribute(kvm, enabling->vcpu_fd, KVM_SET_DEVICE_ATTR, KVM_NUMBER_ATTRIBUTE_INIT, NULL);

        if (error)
                return kvm_say_errno(kvm, SPEBROKER_KVM_STEP_INIT, error);
        kvm->n_enabled++;
        return 0;
}

/* One that has everything was given it before: KVM says what it thinks of that. */
static enum spebroker_kvm_step done(const struct spebroker_kvm *kvm, int fd) {
        const KvmVcpu *vcpu = kvm_find_vcpu(kvm, fd);

        return !vcpu || vcpu->done == SPEBROKER_KVM_STEP_INIT ? SPEBROKER_KVM_STEP_NONE : vcpu->done;
}

/* Room first: what was set must not be forgotten for want of memory. */
static int remember(struct spebroker_kvm *kvm, int fd) {
        KvmVcpu *vcpus;

        if (kvm_find_vcpu(kvm, fd))
                return 0;
        vcpus = realloc(kvm->vcpus, (kvm->n_vcpus + 1) * sizeof(*vcpus));
        if (!vcpus)
                return -ENOMEM;

        kvm->vcpus = vcpus;
        kvm->vcpus[kvm->n_vcpus++] = (KvmVcpu){.fd = fd, .done = SPEBROKER_KVM_STEP_NONE};
        return 0;
}

static int set(Enabling *enabling) {
        static const struct {
                enum spebroker_kvm_step step;
                int (*take)(Enabling *enabling);
        } steps[] = {
                {SPEBROKER_KVM_STEP_IRQ, take_irq},
                {SPEBROKER_KVM_STEP_SPU, take_spu},
                {SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE, take_max_buffer_size},
                {SPEBROKER_KVM_STEP_INIT, take_init},
        };
        struct spebroker_kvm *kvm = enabling->kvm;
        enum spebroker_kvm_step last = done(kvm, enabling->vcpu_fd);
        int r;

        r = remember(kvm, enabling->vcpu_fd);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ELEMENTS_OF(steps); i++) {
                if (steps[i].step <= last)
                        continue;
                r = steps[i].take(enabling);
                if (r != 0)
                        return r;
                kvm_find_vcpu(kvm, enabling->vcpu_fd)->done = steps[i].step;
        }
        return 0;
}

int spebroker_kvm_enable(struct spebroker_kvm *kvm, struct spebroker *context, struct spebroker_lease *lease,
                         int vcpu_fd) {
        Enabling enabling = {.kvm = kvm, .context = context, .vcpu_fd = vcpu_fd};
        int r;

        if (!kvm || !lease)
                return -EINVAL;

        kvm_forget(kvm);
        enabling.lease = spebroker_lease_ref(lease);
        kvm->asked = kvm_values(lease);

        r = kvm_look(kvm, context, lease, vcpu_fd);
        if (r == 0)
                r = set(&enabling);
        if (r == 0) {
                spebroker_lease_unref(kvm->lease);
                kvm->lease = enabling.lease;
                return 0;
        }

        spebroker_lease_unref(enabling.lease);
        if (r == SPEBROKER_KVM_NUMBERS_UNKNOWN || r == SPEBROKER_KVM_UNSUPPORTED || r == SPEBROKER_KVM_NO_SPU)
                r = kvm_say_check(kvm, context, r);
        return kvm_say_enabled(kvm, r);
}
