/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * All that can be looked at before anything is set, as what is set stays: whose it is, the lease, the
 * numbers, what KVM can do, and whether the descriptor is a VCPU's at all.
 */

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libspebroker/context.h"
#include "libspebroker/kvm.h"

#define ADVICE_NUMBERS \
        "Set the numbers of this kernel's <linux/kvm.h> in section [KVM] of spe-broker.conf(5)."

#define FEATURE_BITS 32

int kvm_attribute(const struct spebroker_kvm *kvm, int fd, unsigned long request, KvmNumber number,
                  void *value) {
        struct kvm_device_attr attr = {
                .group = kvm_number(&kvm->numbers, KVM_NUMBER_GROUP),
                .attr = kvm_number(&kvm->numbers, number),
                .addr = (uint64_t)(uintptr_t)value,
        };

        return ioctl(fd, request, &attr) < 0 ? errno : 0;
}

static int check_process(struct spebroker_kvm *kvm, const struct spebroker *context) {
        if (!context || context->pid == getpid())
                return 0;
        return kvm_say(
                kvm, SPEBROKER_KVM_STEP_LEASE, SPEBROKER_KVM_OTHER_PROCESS,
                strdup("This process was forked from the one that connected to the broker, and speaks for "
                       "that one on its connection."),
                "Connect, and acquire the lease, in the process that runs the VM.");
}

static int check_numbers(struct spebroker_kvm *kvm) {
        if (kvm_numbers_are_known(&kvm->numbers))
                return 0;
        return kvm_say(
                kvm, SPEBROKER_KVM_STEP_NUMBERS, SPEBROKER_KVM_NUMBERS_UNKNOWN,
                strdup("KVM's numbers for SPE are known neither from the kernel header that libspebroker "
                       "was built with nor from the broker."),
                ADVICE_NUMBERS);
}

static int check_extension(struct spebroker_kvm *kvm) {
        unsigned long number = kvm_number(&kvm->numbers, KVM_NUMBER_CAPABILITY);
        int r = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, number);

        if (r > 0)
                return 0;
        return kvm_say_errno(kvm, SPEBROKER_KVM_STEP_CHECK_EXTENSION, r < 0 ? errno : KVM_ANSWERED_NO);
}

/* What KVM is there, and whether anything may be asked of it at all. */
static int check_kvm(struct spebroker_kvm *kvm) {
        int r;

        r = check_numbers(kvm);
        return r != 0 ? r : check_extension(kvm);
}

KvmVcpu *kvm_find_vcpu(const struct spebroker_kvm *kvm, int fd) {
        for (size_t i = 0; i < kvm->n_vcpus; i++)
                if (kvm->vcpus[i].fd == fd)
                        return &kvm->vcpus[i];
        return NULL;
}

static bool differs(int64_t given, int64_t asked) {
        return given >= 0 && given != asked;
}

int kvm_say_values(struct spebroker_kvm *kvm, enum spebroker_kvm_step step,
                   const struct spebroker_lease *lease) {
        const KvmValues asked = kvm_values(lease), *given = &kvm->given;
        char *message = NULL;
        int r = 0;

        if (kvm->n_enabled > 0 &&
            strcmp(spebroker_lease_get_id(kvm->lease), spebroker_lease_get_id(lease)) != 0)
                r = asprintf(&message, "The VM's VCPUs before have SPE from lease %s, and this is %s.",
                             spebroker_lease_get_id(kvm->lease), spebroker_lease_get_id(lease));
        else if (differs(given->spu, asked.spu))
                r = asprintf(&message, "The lease's SPU has PMU type %lld now, and the VM was given %lld.",
                             (long long)asked.spu, (long long)given->spu);
        else if (differs(given->buffer_size, asked.buffer_size))
                r = asprintf(&message, "The lease has buffers of %lld bytes, and the VM was given %lld.",
                             (long long)asked.buffer_size, (long long)given->buffer_size);
        else if (differs(given->irq, asked.irq))
                r = asprintf(&message, "The lease has interrupt %lld, and the VM was given %lld.",
                             (long long)asked.irq, (long long)given->irq);
        if (r < 0)
                return -ENOMEM;
        if (!message)
                return 0;
        return kvm_say(
                kvm, step, SPEBROKER_KVM_OTHER_LEASE, message,
                "All VCPUs of a VM take the same: destroy the VM, and make a new one with this lease.");
}

static int check_room(struct spebroker_kvm *kvm, const struct spebroker_lease *lease, int fd) {
        const KvmVcpu *vcpu = kvm_find_vcpu(kvm, fd);
        char *message;

        /* KVM tells who asks for one VCPU twice. */
        if (kvm->n_enabled < spebroker_lease_get_vcpus(lease) ||
            (vcpu && vcpu->done == SPEBROKER_KVM_STEP_INIT))
                return 0;
        if (asprintf(&message, "The lease is for %u VCPUs, and as many have SPE.",
                     spebroker_lease_get_vcpus(lease)) < 0)
                return -ENOMEM;
        return kvm_say(kvm, SPEBROKER_KVM_STEP_LEASE, SPEBROKER_KVM_TOO_MANY_VCPUS, message,
                       "Acquire a lease for all VCPUs of the VM.");
}

/* Other devices have attributes by the same numbers, which would be theirs: KVM_GET_MP_STATE is a VCPU's. */
static int check_vcpu(struct spebroker_kvm *kvm, int fd) {
        struct kvm_mp_state state;

        if (ioctl(fd, KVM_GET_MP_STATE, &state) < 0)
                return kvm_say_errno(kvm, SPEBROKER_KVM_STEP_VCPU, errno);
        return 0;
}

static int check_attributes(struct spebroker_kvm *kvm, int fd) {
        static const struct {
                enum spebroker_kvm_step step;
                KvmNumber number;
        } attributes[] = {
                {SPEBROKER_KVM_STEP_HAS_IRQ, KVM_NUMBER_ATTRIBUTE_IRQ},
                {SPEBROKER_KVM_STEP_HAS_SPU, KVM_NUMBER_ATTRIBUTE_SPU},
                {SPEBROKER_KVM_STEP_HAS_MAX_BUFFER_SIZE, KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE},
                {SPEBROKER_KVM_STEP_HAS_INIT, KVM_NUMBER_ATTRIBUTE_INIT},
        };

        kvm->bound = SPEBROKER_KVM_BOUND_MEMLOCK;
        for (size_t i = 0; i < ELEMENTS_OF(attributes); i++) {
                bool optional = attributes[i].step == SPEBROKER_KVM_STEP_HAS_MAX_BUFFER_SIZE;
                int error;

                if (optional && !kvm_number_is_known(&kvm->numbers, attributes[i].number))
                        continue;
                error = kvm_attribute(kvm, fd, KVM_HAS_DEVICE_ATTR, attributes[i].number, NULL);
                if (error && !(optional && error == ENXIO))
                        return kvm_say_errno(kvm, attributes[i].step, error);
                if (optional && !error)
                        kvm->bound = SPEBROKER_KVM_BOUND_KVM;
        }
        return 0;
}

int kvm_look(struct spebroker_kvm *kvm, const struct spebroker *context, const struct spebroker_lease *lease,
             int vcpu_fd) {
        int r;

        r = check_process(kvm, context);
        if (r == 0)
                r = kvm_say_lease(kvm, SPEBROKER_KVM_STEP_LEASE, lease);
        if (r == 0)
                r = kvm_say_values(kvm, SPEBROKER_KVM_STEP_LEASE, lease);
        if (r == 0)
                r = check_room(kvm, lease, vcpu_fd);
        if (r == 0)
                r = check_kvm(kvm);
        if (r == 0)
                r = check_vcpu(kvm, vcpu_fd);
        if (r == 0)
                r = check_attributes(kvm, vcpu_fd);
        return r;
}

int spebroker_kvm_check(struct spebroker_kvm *kvm, struct spebroker *context) {
        kvm_forget(kvm);
        return kvm_say_check(kvm, context, check_kvm(kvm));
}

int spebroker_kvm_add_feature(struct spebroker_kvm *kvm, uint32_t *features) {
        uint32_t bit = kvm_number(&kvm->numbers, KVM_NUMBER_FEATURE);
        int r;

        kvm_forget(kvm);
        r = check_numbers(kvm);
        if (r != 0)
                return r;

        features[bit / FEATURE_BITS] |= UINT32_C(1) << (bit % FEATURE_BITS);
        return 0;
}
