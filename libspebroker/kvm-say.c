/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What an errno means: the same one is another thing at each step, and strerror() has the right words for
 * none of them. One row for each that is documented, the first that fits; what fits none is told as it is,
 * and nothing is concluded from it.
 *
 * Sources: KVM SPE v6 12/35, 14/35, 15/35, 33/35 and, for INIT, v5 34/38; of EIO, EBADF and ENOTTY,
 * virt/kvm/kvm_main.c; of EINVAL for a request that is none of the descriptor's, kvm_arch_vcpu_ioctl() and
 * kvm_arch_vm_ioctl() of arch/arm64/kvm/arm.c. EACCES is the gate's (an LSM's), which KVM has no use for
 * here.
 */

#include "libspebroker/kvm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libspebroker/sentence.h"
#include "util/buffer-size.h"

/* Descriptors that are named in a sentence; a longer list helps nobody. */
#define NAMED_VCPUS_MAX 16

#define ADVICE_KERNEL    "Boot a kernel whose KVM has SPE, in VHE mode, and load arm_spe_pmu."
#define ADVICE_COMPARE   "Compare section [KVM] of spe-broker.conf(5) with this kernel's <linux/kvm.h>."
#define ADVICE_VM_FD     "Give the descriptor that KVM_CREATE_VM returned."
#define ADVICE_VCPU_FD   "Give the descriptor that KVM_CREATE_VCPU returned."
#define ADVICE_NEW_VM    "Destroy the VM, and make a new one."
#define ADVICE_EARLIER   "Enable SPE once on each VCPU, and on all of them before the first one runs."
#define ADVICE_VGIC      "Create the vGIC with KVM_CREATE_DEVICE before."
#define ADVICE_VGIC_INIT "Set KVM_DEV_ARM_VGIC_CTRL_INIT of the vGIC after the last VCPU was created."
#define ADVICE_WAIT      "Look at the lease as it is now; when it is restored, make the VM anew."
#define ADVICE_PROCESS   "Make the VM, and enable SPE, in the process that runs it."
#define ADVICE_FEATURE                                                                                    \
        "Call spebroker_kvm_add_feature() before KVM_ARM_VCPU_INIT; if it was, compare section [KVM] of " \
        "spe-broker.conf(5) with this kernel's <linux/kvm.h>."
#define ADVICE_MEMLOCK \
        "Raise it by the lease's memlock bytes (LimitMEMLOCK= of the unit), and enable this VCPU again."
#define ADVICE_GATE                                                                                        \
        "See speadm refusals. A lease belongs to the process that connected to the broker: acquire it in " \
        "the "                                                                                             \
        "process that enables SPE, or name that one with spebroker_request_set_pid()."

#define STEP(name)       SPEBROKER_KVM_STEP_##name, SPEBROKER_KVM_STEP_##name
#define STEPS_THAT_SET   SPEBROKER_KVM_STEP_IRQ, SPEBROKER_KVM_STEP_INIT
#define STEPS_OF_A_VCPU  SPEBROKER_KVM_STEP_VCPU, SPEBROKER_KVM_STEP_INIT
#define STEPS_OF_THE_KVM SPEBROKER_KVM_STEP_CHECK_EXTENSION, SPEBROKER_KVM_STEP_INIT

static const struct {
        enum spebroker_kvm_step first, last;
        int error;
        enum spebroker_kvm_outcome outcome;
        const char *meaning;
        const char *advice;
} meanings[] = {
        {STEP(CHECK_EXTENSION), KVM_ANSWERED_NO, SPEBROKER_KVM_UNSUPPORTED,
         "KVM gives no SPE to guests: the kernel lacks it, or runs KVM in another mode than VHE, or has no "
         "SPE "
         "driver",
         ADVICE_KERNEL},
        {STEP(CHECK_EXTENSION), EBADF, SPEBROKER_KVM_NOT_A_VM, "The VM's descriptor is not open",
         ADVICE_VM_FD},
        {STEP(CHECK_EXTENSION), ENOTTY, SPEBROKER_KVM_NOT_A_VM, "The VM's descriptor is no VM's",
         ADVICE_VM_FD},
        {STEP(CHECK_EXTENSION), EINVAL, SPEBROKER_KVM_NOT_A_VM, "The VM's descriptor is a VCPU's, or another",
         ADVICE_VM_FD},
        {STEP(VCPU), EINVAL, SPEBROKER_KVM_NOT_A_VCPU, "The VCPU's descriptor is the VM's, or KVM's",
         ADVICE_VCPU_FD},

        {STEP(HAS_IRQ), ENXIO, SPEBROKER_KVM_NO_FEATURE,
         "The VCPU was initialised without SPE, or not at all", ADVICE_FEATURE},
        {STEP(HAS_SPU), ENXIO, SPEBROKER_KVM_NO_ATTRIBUTE, "KVM lacks the attribute that names the SPU",
         ADVICE_COMPARE},
        {STEP(HAS_INIT), ENXIO, SPEBROKER_KVM_NO_ATTRIBUTE, "KVM lacks the attribute that enables SPE",
         ADVICE_COMPARE},

        {STEP(IRQ), EBUSY, SPEBROKER_KVM_TOO_LATE, "The VCPU has SPE already, or an interrupt for it",
         ADVICE_EARLIER},
        {STEP(IRQ), EINVAL, SPEBROKER_KVM_NO_VGIC,
         "The VM has no vGIC in the kernel, or KVM takes no such interrupt for SPE", ADVICE_VGIC},
        {STEP(IRQ), ENXIO, SPEBROKER_KVM_NO_VGIC, "The VM has no vGIC in the kernel", ADVICE_VGIC},

        {STEP(SPU), EBUSY, SPEBROKER_KVM_TOO_LATE, "A VCPU of the VM has run, or this one has SPE already",
         ADVICE_EARLIER},
        {STEP(SPU), EINVAL, SPEBROKER_KVM_OTHER_VALUE, "The VM was given another SPU before", ADVICE_NEW_VM},
        {STEP(SPU), ENXIO, SPEBROKER_KVM_NO_SPU,
         "KVM knows no SPU of this PMU type: its driver is not loaded any more, or was loaded again",
         ADVICE_WAIT},

        {STEP(MAX_BUFFER_SIZE), EBUSY, SPEBROKER_KVM_TOO_LATE, "A VCPU of the VM has run", ADVICE_EARLIER},
        {STEP(MAX_BUFFER_SIZE), EDOM, SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE,
         "The SPU cannot represent this buffer size", NULL},
        {STEP(MAX_BUFFER_SIZE), EINVAL, SPEBROKER_KVM_OTHER_VALUE,
         "The VM was given another maximum buffer size before", ADVICE_NEW_VM},
        {STEP(MAX_BUFFER_SIZE), ENOMEM, SPEBROKER_KVM_MEMLOCK,
         "RLIMIT_MEMLOCK of this process is too low for the guest's buffers", ADVICE_MEMLOCK},

        {STEP(INIT), EBUSY, SPEBROKER_KVM_TOO_LATE, "The VCPU has SPE already", ADVICE_EARLIER},
        {STEP(INIT), ENXIO, SPEBROKER_KVM_NOT_READY,
         "The vGIC is not initialised, or the interrupt is another device's", ADVICE_VGIC_INIT},

        {STEPS_THAT_SET, EACCES, SPEBROKER_KVM_GATE,
         "The broker's gate refuses it: this process has no lease, or another SPU's, or for a smaller buffer",
         ADVICE_GATE},
        {STEPS_THAT_SET, EFAULT, SPEBROKER_KVM_FAILED,
         "KVM cannot read the value, as if it were larger than this attribute's is", ADVICE_COMPARE},
        {STEPS_OF_A_VCPU, EBADF, SPEBROKER_KVM_NOT_A_VCPU, "The VCPU's descriptor is not open",
         ADVICE_VCPU_FD},
        {STEPS_OF_A_VCPU, ENOTTY, SPEBROKER_KVM_NOT_A_VCPU, "The VCPU's descriptor is no VCPU's",
         ADVICE_VCPU_FD},
        {STEPS_OF_A_VCPU, ENODEV, SPEBROKER_KVM_NO_FEATURE, "The VCPU was initialised without SPE",
         ADVICE_FEATURE},
        {STEPS_OF_THE_KVM, EIO, SPEBROKER_KVM_OTHER_PROCESS,
         "The VM belongs to another process, of which this one is a fork", ADVICE_PROCESS},
        {STEPS_OF_THE_KVM, ENOMEM, SPEBROKER_KVM_NO_MEMORY, "The kernel has no memory", NULL},
};

/* What was asked, and with which value if it has one. */
static int call_new(const struct spebroker_kvm *kvm, enum spebroker_kvm_step step, char **ret_text) {
        static const char *const calls[] = {
                [SPEBROKER_KVM_STEP_CHECK_EXTENSION] = "KVM_CHECK_EXTENSION of SPE",
                [SPEBROKER_KVM_STEP_VCPU] = "KVM_GET_MP_STATE",
                [SPEBROKER_KVM_STEP_HAS_IRQ] = "KVM_HAS_DEVICE_ATTR of SPE's interrupt",
                [SPEBROKER_KVM_STEP_HAS_SPU] = "KVM_HAS_DEVICE_ATTR of the SPU",
                [SPEBROKER_KVM_STEP_HAS_MAX_BUFFER_SIZE] = "KVM_HAS_DEVICE_ATTR of the maximum buffer size",
                [SPEBROKER_KVM_STEP_HAS_INIT] = "KVM_HAS_DEVICE_ATTR of SPE's INIT",
                [SPEBROKER_KVM_STEP_IRQ] = "KVM_SET_DEVICE_ATTR of SPE's interrupt",
                [SPEBROKER_KVM_STEP_SPU] = "KVM_SET_DEVICE_ATTR of the SPU",
                [SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE] = "KVM_SET_DEVICE_ATTR of the maximum buffer size",
                [SPEBROKER_KVM_STEP_INIT] = "KVM_SET_DEVICE_ATTR of SPE's INIT",
        };
        long long value = step == SPEBROKER_KVM_STEP_IRQ               ? kvm->asked.irq
                          : step == SPEBROKER_KVM_STEP_SPU             ? kvm->asked.spu
                          : step == SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE ? kvm->asked.buffer_size
                                                                       : -1;
        int n = value < 0 ? asprintf(ret_text, "%s", calls[step])
                          : asprintf(ret_text, "%s, %lld", calls[step], value);

        return n < 0 ? -ENOMEM : 0;
}

void kvm_forget(struct spebroker_kvm *kvm) {
        kvm->step = SPEBROKER_KVM_STEP_NONE;
        kvm->error = 0;
        kvm->nearest_size = 0;
        free(steal_ptr(kvm->message));
        free(steal_ptr(kvm->advice));
        free(steal_ptr(kvm->check));
}

int kvm_say(struct spebroker_kvm *kvm, enum spebroker_kvm_step step, int outcome, char *message,
            const char *advice) {
        kvm_forget(kvm);
        if (!message)
                return -ENOMEM;

        kvm->message = message;
        sentence_clean(message);
        if (advice) {
                kvm->advice = strdup(advice);
                if (!kvm->advice)
                        return -ENOMEM;
                sentence_clean(kvm->advice);
        }

        kvm->step = step;
        return outcome;
}

/* Of EDOM: there is no rounding in KVM, so somebody must ask for another size. */
static int say_nearest_size(struct spebroker_kvm *kvm) {
        uint64_t size = (uint64_t)kvm->asked.buffer_size, nearest = buffer_size_floor(size);

        /* What Arm's encoding has, and this SPU has not all the same. */
        if (nearest == size)
                nearest = buffer_size_floor(size - 1);
        kvm->nearest_size = nearest;
        if (nearest == 0)
                return 0;

        free(steal_ptr(kvm->advice));
        return asprintf(&kvm->advice, "Acquire a lease with exactly %llu bytes, the nearest size.",
                        (unsigned long long)nearest) < 0
                       ? -ENOMEM
                       : 0;
}

int kvm_say_errno(struct spebroker_kvm *kvm, enum spebroker_kvm_step step, int error) {
        _cleanup_(freep) char *call = NULL;
        char *message = NULL;
        size_t i;
        int r;

        r = call_new(kvm, step, &call);
        if (r < 0)
                return r;

        for (i = 0; i < ELEMENTS_OF(meanings); i++)
                if (step >= meanings[i].first && step <= meanings[i].last && error == meanings[i].error)
                        break;

        if (i == ELEMENTS_OF(meanings))
                r = asprintf(&message, "%s: %s.", call, strerror(error));
        else if (error == KVM_ANSWERED_NO)
                r = asprintf(&message, "%s (%s).", meanings[i].meaning, call);
        else
                r = asprintf(&message, "%s (%s: %s).", meanings[i].meaning, call, strerror(error));
        if (r < 0)
                return -ENOMEM;

        if (i == ELEMENTS_OF(meanings))
                r = kvm_say(kvm, step, SPEBROKER_KVM_FAILED, message, NULL);
        else
                r = kvm_say(kvm, step, meanings[i].outcome, message, meanings[i].advice);
        kvm->error = error == KVM_ANSWERED_NO ? 0 : error;
        if (r == SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE && say_nearest_size(kvm) < 0)
                return -ENOMEM;
        return r;
}

/* @more is taken (NULL: there was no memory). */
static int append(char **text, char *more) {
        _cleanup_(freep) char *second = more;
        char *sum;

        if (!second || asprintf(&sum, "%s%s%s", *text ?: "", *text ? " " : "", second) < 0)
                return -ENOMEM;

        sentence_clean(sum);
        free(*text);
        *text = sum;
        return 0;
}

int kvm_say_more(struct spebroker_kvm *kvm, int outcome, char *sentence) {
        int r;

        r = append(&kvm->message, sentence);
        return r < 0 ? r : outcome;
}

static char *enabled_new(const struct spebroker_kvm *kvm) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;

        fprintf(f, "%zu of the lease's %u VCPUs %s SPE, which KVM does not take back (descriptor%s",
                kvm->n_enabled, spebroker_lease_get_vcpus(kvm->lease), kvm->n_enabled == 1 ? "has" : "have",
                kvm->n_enabled == 1 ? "" : "s");
        for (size_t i = 0; i < kvm->n_enabled && i < NAMED_VCPUS_MAX; i++)
                fprintf(f, " %d", spebroker_kvm_get_enabled(kvm, i));
        fprintf(f, "%s).", kvm->n_enabled > NAMED_VCPUS_MAX ? " ..." : "");
        if (fclose(f) == 0)
                return text;

        free(text);
        return NULL;
}

int kvm_say_enabled(struct spebroker_kvm *kvm, int outcome) {
        int r;

        if (outcome <= 0 || kvm->n_enabled == 0)
                return outcome;

        r = append(&kvm->message, enabled_new(kvm));
        if (r == 0)
                r = append(&kvm->advice,
                           strdup("If that cannot be, destroy the VM, and release the lease then."));
        return r < 0 ? r : outcome;
}
