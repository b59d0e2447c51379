/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One way through KVM's interface, in the order that it demands of a virtual machine monitor, up to the
 * attribute that names the SPU: the steps of a table. The first that does not go on decides. A refusal is a
 * fact (no) only with an errno that says so for good, and only if the numbers that were asked for are known;
 * all else (no memory, no permission, an errno that nobody has documented) leaves the answer unknown. KVM_RUN
 * is never called and no memory is given to the VM: nothing is pinned.
 *
 * Sources: Documentation/virt/kvm/api.rst, devices/vcpu.rst, devices/arm-vgic-v3.rst; KVM SPE v6 12/35 and
 * 15/35 (errors of the attributes IRQ and SPU).
 */

#include "host/guest-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "host/kvm-abi.h"
#include "util/spe-interrupt.h"

#define KVM_PATH "dev/kvm"

/* What KVM_CREATE_VM's type 0 means (KVM_CAP_ARM_VM_IPA_SIZE); CPUs with less refuse it. */
#define DEFAULT_IPA_BITS 40

/* Beside an errno: a step has its answer, and it is no. */
#define ANSWERED_NO (-1)

#define ADVICE_NO_KVM     "boot a kernel with CONFIG_KVM, on firmware that starts it in EL2"
#define ADVICE_PERMISSION "chgrp kvm /dev/kvm && chmod g+rw /dev/kvm && systemctl restart spe-broker"
#define ADVICE_INTERFACE  "boot a kernel whose KVM has SPE, in VHE mode, and load arm_spe_pmu"
#define ADVICE_NUMBERS    "set the numbers of this kernel's <linux/kvm.h> in section [KVM] of spe-broker.conf"
#define ADVICE_COMPARE    "compare section [KVM] of spe-broker.conf with this kernel's <linux/kvm.h>"
#define ADVICE_SPU        "modprobe -r arm_spe_pmu && modprobe arm_spe_pmu"

typedef struct Probe {
        const KvmNumbers *numbers;
        int root_fd;
        const uint32_t *pmu_type;
        int kvm_fd;
        int vm_fd;
        int vgic_fd;
        int vcpu_fd;
        KvmVcpuInit init;
        bool has_max_buffer_size;
} Probe;

static void probe_deinit(Probe *probe) {
        closep(&probe->vcpu_fd);
        closep(&probe->vgic_fd);
        closep(&probe->vm_fd);
        closep(&probe->kvm_fd);
}

static int take_open(Probe *probe, _unused_ KvmNumber number) {
        /* Whatever else may lie there below somebody's --root must not become the terminal, nor block. */
        probe->kvm_fd = openat(probe->root_fd, KVM_PATH, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        return probe->kvm_fd < 0 ? errno : 0;
}

static int take_version(Probe *probe, _unused_ KvmNumber number) {
        int version = ioctl(probe->kvm_fd, KVM_GET_API_VERSION, 0);

        if (version < 0)
                return errno;
        return version == KVM_API_VERSION ? 0 : ANSWERED_NO;
}

/* PSCI is how guests start and stop CPUs on arm64: KVM there always has it, and nowhere else. */
static int take_architecture(Probe *probe, _unused_ KvmNumber number) {
        int r = ioctl(probe->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_ARM_PSCI_0_2);

        if (r < 0)
                return errno;
        return r > 0 ? 0 : ANSWERED_NO;
}

static int take_capability(Probe *probe, KvmNumber number) {
        int r;

        if (!kvm_number_is_known(probe->numbers, number))
                return 0; /* some other capability's absence would say nothing */

        r = ioctl(probe->kvm_fd, KVM_CHECK_EXTENSION, (unsigned long)kvm_number(probe->numbers, number));
        if (r < 0)
                return errno;
        return r > 0 ? 0 : ANSWERED_NO;
}

static int take_vm(Probe *probe, _unused_ KvmNumber number) {
        int bits = ioctl(probe->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE);
        unsigned long type = 0;

        if (bits > 0 && bits < DEFAULT_IPA_BITS)
                type = KVM_VM_TYPE_ARM_IPA_SIZE((unsigned long)bits);

        probe->vm_fd = ioctl(probe->kvm_fd, KVM_CREATE_VM, type);
        return probe->vm_fd < 0 ? errno : 0;
}

/* SPE's interrupt goes to the guest through a vGIC in the kernel, of whichever version this machine can. */
static int take_vgic(Probe *probe, _unused_ KvmNumber number) {
        static const unsigned types[] = {KVM_DEV_TYPE_ARM_VGIC_V3, KVM_DEV_TYPE_ARM_VGIC_V2};
        int error = 0;

        for (size_t i = 0; i < ELEMENTS_OF(types); i++) {
                struct kvm_create_device device = {.type = types[i]};

                if (ioctl(probe->vm_fd, KVM_CREATE_DEVICE, &device) == 0) {
                        probe->vgic_fd = (int)device.fd;
                        return 0;
                }
                error = errno;
                if (error != ENODEV)
                        break;
        }
        return error;
}

static int take_vcpu(Probe *probe, _unused_ KvmNumber number) {
        probe->vcpu_fd = ioctl(probe->vm_fd, KVM_CREATE_VCPU, 0UL);
        return probe->vcpu_fd < 0 ? errno : 0;
}

static int take_target(Probe *probe, _unused_ KvmNumber number) {
        return ioctl(probe->vm_fd, KVM_ABI_PREFERRED_TARGET, &probe->init) < 0 ? errno : 0;
}

static int take_feature(Probe *probe, KvmNumber number) {
        uint32_t bit = kvm_number(probe->numbers, number);

        probe->init.features[bit / 32] |= UINT32_C(1) << (bit % 32);
        return ioctl(probe->vcpu_fd, KVM_ABI_VCPU_INIT, &probe->init) < 0 ? errno : 0;
}

static int ask_attribute(const Probe *probe, unsigned long request, KvmNumber number, void *value) {
        struct kvm_device_attr attribute = {
                .group = kvm_number(probe->numbers, KVM_NUMBER_GROUP),
                .attr = kvm_number(probe->numbers, number),
                .addr = (uint64_t)(uintptr_t)value,
        };

        return ioctl(probe->vcpu_fd, request, &attribute) < 0 ? errno : 0;
}

static int take_has(Probe *probe, KvmNumber number) {
        return ask_attribute(probe, KVM_HAS_DEVICE_ATTR, number, NULL);
}

/* A KVM that pins all of a guest's memory has no use for it: its absence says nothing about SPE. */
static int take_has_max_buffer_size(Probe *probe, KvmNumber number) {
        int error;

        if (!kvm_number_is_known(probe->numbers, number))
                return 0;

        error = take_has(probe, number);
        probe->has_max_buffer_size = error == 0;
        return error == ENXIO ? 0 : error;
}

static int take_irq(Probe *probe, KvmNumber number) {
        int irq = SPE_INTERRUPT;

        return ask_attribute(probe, KVM_SET_DEVICE_ATTR, number, &irq);
}

static int take_spu(Probe *probe, KvmNumber number) {
        int type = (int)*probe->pmu_type;

        return ask_attribute(probe, KVM_SET_DEVICE_ATTR, number, &type);
}

/* What a refusal is worth. */
typedef enum Weight {
        WEIGHT_NOTHING,         /* the answer stays unknown */
        WEIGHT_FACT,            /* the answer is no */
        WEIGHT_FACT_BY_NUMBERS, /* the answer is no, if the numbers asked with are known */
} Weight;

/* One row per step, in their order. */
static const struct {
        int (*take)(Probe *probe, KvmNumber number);
        const char *call;
        int refusals[3];     /* errnos by which KVM refuses for good; 0 ends them */
        Weight weight;       /* of those, and of ANSWERED_NO */
        const char *meaning; /* likewise */
        const char *advice;  /* likewise */
        KvmNumber number;
} steps[_GUEST_STEP_MAX] = {
        [GUEST_STEP_OPEN] = {take_open,
                             "/dev/kvm",
                             {ENOENT, ENODEV, ENXIO},
                             WEIGHT_FACT,
                             "this machine has no KVM",
                             ADVICE_NO_KVM,
                             0},
        [GUEST_STEP_VERSION] = {take_version,
                                "KVM_GET_API_VERSION",
                                {0},
                                WEIGHT_NOTHING,
                                "/dev/kvm speaks another version of KVM's interface",
                                NULL,
                                0},
        [GUEST_STEP_ARCHITECTURE] = {take_architecture,
                                     "KVM_CHECK_EXTENSION of PSCI",
                                     {0},
                                     WEIGHT_NOTHING,
                                     "only KVM on arm64 can be asked",
                                     NULL,
                                     0},
        [GUEST_STEP_CAPABILITY] =
                {take_capability,
                 "KVM_CHECK_EXTENSION of SPE",
                 {0},
                 WEIGHT_FACT_BY_NUMBERS,
                 "KVM has no SPE for guests: the kernel lacks it, or runs KVM in another mode "
                 "than VHE, or has no SPE driver",
                 ADVICE_INTERFACE,
                 KVM_NUMBER_CAPABILITY},
        [GUEST_STEP_VM] = {take_vm,
                           "KVM_CREATE_VM",
                           {ENODEV},
                           WEIGHT_FACT,
                           "KVM makes no VMs on this machine",
                           ADVICE_NO_KVM,
                           0},
        [GUEST_STEP_VGIC] = {take_vgic,
                             "KVM_CREATE_DEVICE of a vGIC",
                             {ENODEV},
                             WEIGHT_FACT,
                             "KVM has no vGIC on this machine, which SPE needs",
                             NULL,
                             0},
        [GUEST_STEP_VCPU] = {take_vcpu, "KVM_CREATE_VCPU", {0}, WEIGHT_NOTHING, NULL, NULL, 0},
        [GUEST_STEP_TARGET] = {take_target, "KVM_ARM_PREFERRED_TARGET", {0}, WEIGHT_NOTHING, NULL, NULL, 0},
        [GUEST_STEP_FEATURE] = {take_feature,
                                "KVM_ARM_VCPU_INIT with SPE",
                                {EINVAL, ENOENT},
                                WEIGHT_FACT_BY_NUMBERS,
                                "KVM makes no VCPU with SPE",
                                ADVICE_INTERFACE,
                                KVM_NUMBER_FEATURE},
        [GUEST_STEP_HAS_IRQ] = {take_has,
                                "KVM_HAS_DEVICE_ATTR of IRQ",
                                {ENXIO},
                                WEIGHT_FACT_BY_NUMBERS,
                                "KVM lacks the attribute for SPE's interrupt",
                                ADVICE_COMPARE,
                                KVM_NUMBER_ATTRIBUTE_IRQ},
        [GUEST_STEP_HAS_SPU] = {take_has,
                                "KVM_HAS_DEVICE_ATTR of SPU",
                                {ENXIO},
                                WEIGHT_FACT_BY_NUMBERS,
                                "KVM lacks the attribute that names the SPU",
                                ADVICE_COMPARE,
                                KVM_NUMBER_ATTRIBUTE_SPU},
        [GUEST_STEP_HAS_MAX_BUFFER_SIZE] = {take_has_max_buffer_size,
                                            "KVM_HAS_DEVICE_ATTR of MAX_BUFFER_SIZE",
                                            {0},
                                            WEIGHT_FACT_BY_NUMBERS,
                                            NULL,
                                            NULL,
                                            KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE},
        [GUEST_STEP_HAS_INIT] = {take_has,
                                 "KVM_HAS_DEVICE_ATTR of INIT",
                                 {ENXIO},
                                 WEIGHT_FACT_BY_NUMBERS,
                                 "KVM lacks the attribute that enables SPE",
                                 ADVICE_COMPARE,
                                 KVM_NUMBER_ATTRIBUTE_INIT},
        [GUEST_STEP_IRQ] = {take_irq,
                            "KVM_SET_DEVICE_ATTR of IRQ",
                            {ENXIO, ENODEV},
                            WEIGHT_FACT_BY_NUMBERS,
                            "KVM takes no interrupt for SPE",
                            ADVICE_COMPARE,
                            KVM_NUMBER_ATTRIBUTE_IRQ},
        [GUEST_STEP_SPU] = {take_spu,
                            "KVM_SET_DEVICE_ATTR of SPU",
                            {ENXIO, ENODEV},
                            WEIGHT_FACT_BY_NUMBERS,
                            "KVM knows no SPU of this PMU type",
                            ADVICE_SPU,
                            KVM_NUMBER_ATTRIBUTE_SPU},
};

static bool is_refusal(GuestStep step, int error) {
        if (error == ANSWERED_NO)
                return true;
        for (size_t i = 0; i < ELEMENTS_OF(steps[step].refusals) && steps[step].refusals[i] != 0; i++)
                if (steps[step].refusals[i] == error)
                        return true;
        return false;
}

/* What step @step met with, in a clause. */
static int describe(GuestStep step, int error, char **ret_text) {
        const char *call = steps[step].call;
        int n;

        if (error == ANSWERED_NO)
                n = asprintf(ret_text, "%s", steps[step].meaning);
        else if (is_refusal(step, error))
                n = asprintf(ret_text, "%s (%s: %s)", steps[step].meaning, call, strerror(error));
        else
                n = asprintf(ret_text, "%s: %s", call, strerror(error));
        return n < 0 ? -ENOMEM : 0;
}

/* An answer that was had with guessed numbers is none. */
static int doubt(GuestVerdict *verdict) {
        char *text;

        if (asprintf(
                    &text,
                    "KVM's numbers for SPE are known neither from the kernel header at compile time nor from "
                    "the configuration; with guesses: %s",
                    verdict->reason) < 0)
                return -ENOMEM;

        free(verdict->reason);
        verdict->reason = text;
        verdict->answer = GUEST_ANSWER_UNKNOWN;
        verdict->advice = ADVICE_NUMBERS;
        return 0;
}

/* The step that did not go on. */
static int conclude(const Probe *probe, bool foreign, GuestStep step, int error, GuestVerdict *verdict) {
        bool refused = is_refusal(step, error);
        int r;

        verdict->step = step;
        verdict->error = error == ANSWERED_NO ? 0 : error;
        if (step == GUEST_STEP_OPEN && foreign && (refused || error == ENOTDIR)) {
                verdict->reason = strdup("the host looked at is not this machine");
                return verdict->reason ? 0 : -ENOMEM;
        }

        r = describe(step, error, &verdict->reason);
        if (r < 0)
                return r;
        if (refused && steps[step].weight != WEIGHT_NOTHING)
                verdict->answer = GUEST_ANSWER_NO;
        if (refused)
                verdict->advice = steps[step].advice;
        else if (step == GUEST_STEP_OPEN && (error == EACCES || error == EPERM))
                verdict->advice = ADVICE_PERMISSION;

        if (steps[step].weight == WEIGHT_FACT_BY_NUMBERS && !kvm_numbers_are_known(probe->numbers))
                return doubt(verdict);
        return 0;
}

/* No step objected. */
static int accept(const Probe *probe, GuestVerdict *verdict) {
        const char *text = !probe->pmu_type ? "KVM has SPE for guests, but there is no SPU to ask for"
                           : probe->has_max_buffer_size
                                   ? "KVM takes it for a guest"
                                   : "KVM takes it for a guest, and knows no maximum buffer "
                                     "size";

        verdict->answer = probe->pmu_type ? GUEST_ANSWER_YES : GUEST_ANSWER_UNKNOWN;
        verdict->step = probe->pmu_type ? GUEST_STEP_SPU : GUEST_STEP_IRQ;
        verdict->reason = strdup(text);
        if (!verdict->reason)
                return -ENOMEM;
        return kvm_numbers_are_known(probe->numbers) ? 0 : doubt(verdict);
}

int guest_probe(int root_fd, bool foreign, const KvmNumbers *numbers, const uint32_t *pmu_type,
                GuestVerdict *ret_verdict) {
        _cleanup_(probe_deinit) Probe probe = {
                .numbers = numbers,
                .root_fd = root_fd,
                .pmu_type = pmu_type,
                .kvm_fd = -1,
                .vm_fd = -1,
                .vgic_fd = -1,
                .vcpu_fd = -1,
        };
        GuestStep end = pmu_type ? _GUEST_STEP_MAX : GUEST_STEP_SPU;
        _cleanup_(guest_verdict_deinit) GuestVerdict verdict = GUEST_VERDICT_NULL;
        int error = 0, r;
        GuestStep step;

        for (step = GUEST_STEP_OPEN; step < end; step++) {
                error = steps[step].take(&probe, steps[step].number);
                if (error)
                        break;
        }

        r = error ? conclude(&probe, foreign, step, error, &verdict) : accept(&probe, &verdict);
        if (r < 0)
                return r;

        *ret_verdict = verdict;
        verdict = GUEST_VERDICT_NULL;
        return 0;
}

void guest_verdict_deinit(GuestVerdict *verdict) {
        free(verdict->reason);
        *verdict = GUEST_VERDICT_NULL;
}

int guest_verdict_copy(const GuestVerdict *verdict, GuestVerdict *ret_copy) {
        GuestVerdict copy = *verdict;

        if (verdict->reason) {
                copy.reason = strdup(verdict->reason);
                if (!copy.reason)
                        return -ENOMEM;
        }

        *ret_copy = copy;
        return 0;
}
