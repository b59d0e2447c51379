/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SPEBROKER_KVM_H
#define SPEBROKER_KVM_H

/*
 * From a lease to VCPUs that profile: gives SPE to the VCPUs of a KVM guest, in the order that KVM demands,
 * and says of every failure which step it was, what the kernel's errno means there, and what to do about it.
 *
 *   1. KVM_CREATE_VM, then spebroker_kvm_new(), spebroker_kvm_ask_numbers(), spebroker_kvm_check()
 *   2. KVM_CREATE_VCPU; spebroker_kvm_add_feature(), then KVM_ARM_VCPU_INIT: of every VCPU
 *   3. the vGIC, in the kernel: KVM_CREATE_DEVICE, and KVM_DEV_ARM_VGIC_CTRL_INIT after the last VCPU was
 * created
 *   4. spebroker_kvm_enable(), of every VCPU, before any of them runs
 *   5. KVM_RUN on the lease's CPUs; see spebroker_kvm_handle_rlimit() and spebroker_kvm_handle_fail_entry()
 *
 * KVM cannot take SPE from a VCPU again. What was begun ends with the VM: all its descriptors closed. Then,
 * spebroker_release().
 *
 * KVM's interface for SPE is not merged upstream, so its numbers differ from kernel to kernel, and nothing is
 * asked of KVM with a guessed one: see enum spebroker_kvm_number.
 *
 * Nothing here prints. All functions of an object are for one thread at a time, as in spebroker.h. They make
 * system calls, on VCPU descriptors too; so a VCPU's must not be in KVM_RUN.
 *
 * What a function that returns an outcome returns:
 *   0         done; outputs (ret_...) are set. In every other case they are untouched.
 *   positive  one of enum spebroker_kvm_outcome; spebroker_kvm_get_message() and the others next to it say
 * more. negative  -errno: -ENOMEM, -EINVAL (an argument that cannot be right), -EBUSY (the context is a
 * stream).
 */

#include <spebroker/spebroker.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* One VM, by its descriptor: KVM's numbers, and what its VCPUs were given. */
struct spebroker_kvm;

/*
 * The numbers of KVM's interface for SPE: one table for each VM. At first they are those of the kernel header
 * that this library was built with, where it has them; spebroker_kvm_ask_numbers() puts those that the broker
 * knows in their place, and spebroker_kvm_set_number() the caller's own.
 */
enum spebroker_kvm_number {
        SPEBROKER_KVM_NUMBER_CAPABILITY = 0,      /* for KVM_CHECK_EXTENSION */
        SPEBROKER_KVM_NUMBER_FEATURE = 1,         /* bit of kvm_vcpu_init.features, 0 to 223 */
        SPEBROKER_KVM_NUMBER_GROUP = 2,           /* of the VCPU's attributes */
        SPEBROKER_KVM_NUMBER_IRQ = 3,             /* attribute: the guest's interrupt */
        SPEBROKER_KVM_NUMBER_SPU = 4,             /* attribute: the PMU type of the SPU */
        SPEBROKER_KVM_NUMBER_MAX_BUFFER_SIZE = 5, /* attribute: bytes. There may be kernels without it */
        SPEBROKER_KVM_NUMBER_INIT = 6             /* attribute: that was all */
};

/* What was last asked, in the order in which things are asked. */
enum spebroker_kvm_step {
        SPEBROKER_KVM_STEP_NONE = 0,                /* nothing yet */
        SPEBROKER_KVM_STEP_LEASE = 1,               /* looked at the lease, and at whose it is */
        SPEBROKER_KVM_STEP_NUMBERS = 2,             /* looked at the numbers */
        SPEBROKER_KVM_STEP_CHECK_EXTENSION = 3,     /* KVM_CHECK_EXTENSION, of the VM */
        SPEBROKER_KVM_STEP_VCPU = 4,                /* KVM_GET_MP_STATE: is it a VCPU at all? */
        SPEBROKER_KVM_STEP_HAS_IRQ = 5,             /* KVM_HAS_DEVICE_ATTR */
        SPEBROKER_KVM_STEP_HAS_SPU = 6,             /* likewise */
        SPEBROKER_KVM_STEP_HAS_MAX_BUFFER_SIZE = 7, /* likewise */
        SPEBROKER_KVM_STEP_HAS_INIT = 8,            /* likewise */
        SPEBROKER_KVM_STEP_IRQ = 9,                 /* KVM_SET_DEVICE_ATTR: the lease's interrupt */
        SPEBROKER_KVM_STEP_SPU = 10,                /* likewise: its PMU type */
        SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE = 11,    /* likewise: its buffer size */
        SPEBROKER_KVM_STEP_UPDATE = 12,             /* the broker, for memory that is missing */
        SPEBROKER_KVM_STEP_INIT = 13,               /* KVM_SET_DEVICE_ATTR: SPE is enabled */
        SPEBROKER_KVM_STEP_RUN = 14                 /* KVM_RUN came back: the handlers of exits */
};

enum spebroker_kvm_outcome {
        /* KVM's numbers for SPE are known neither from a kernel header nor from the broker. Nothing was
           asked. */
        SPEBROKER_KVM_NUMBERS_UNKNOWN = 1,
        /* KVM gives no SPE to guests: the kernel lacks it, it is no VHE or protected, or there is no driver.
         */
        SPEBROKER_KVM_UNSUPPORTED = 2,
        /* KVM has SPE but not this attribute: the numbers are those of another kernel. */
        SPEBROKER_KVM_NO_ATTRIBUTE = 3,
        /* The descriptor given for the VM is none. */
        SPEBROKER_KVM_NOT_A_VM = 4,
        /* The descriptor given for the VCPU is none. */
        SPEBROKER_KVM_NOT_A_VCPU = 5,
        /* Another process made the VM or the connection to the broker, and this one was forked from it. */
        SPEBROKER_KVM_OTHER_PROCESS = 6,
        /* The VCPU was not initialised with the feature, see spebroker_kvm_add_feature(). */
        SPEBROKER_KVM_NO_FEATURE = 7,
        /* The VM has no vGIC in the kernel. */
        SPEBROKER_KVM_NO_VGIC = 8,
        /* The vGIC is not initialised, or the interrupt is another device's. */
        SPEBROKER_KVM_NOT_READY = 9,
        /* KVM knows no SPU of the lease's PMU type: its driver is not loaded any more, or was loaded again.
         */
        SPEBROKER_KVM_NO_SPU = 10,
        /* KVM has another value for this VM than the lease's: of its SPU, of its buffer, or of its interrupt.
         */
        SPEBROKER_KVM_OTHER_VALUE = 11,
        /* The lease is another than that of the VCPUs before, or has other values now. KVM was not asked. */
        SPEBROKER_KVM_OTHER_LEASE = 12,
        /* The lease is not granted: it waits, is being revoked, or has ended; or the VM must start anew. */
        SPEBROKER_KVM_LEASE_OVER = 13,
        /* The lease has no SPU to give now: wait for "restored". */
        SPEBROKER_KVM_LEASE_WITHOUT_SPU = 14,
        /* As many VCPUs as the lease is for have SPE. */
        SPEBROKER_KVM_TOO_MANY_VCPUS = 15,
        /* The hardware cannot represent the buffer size. */
        SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE = 16,
        /* RLIMIT_MEMLOCK is too low, and could not be raised. */
        SPEBROKER_KVM_MEMLOCK = 17,
        /* The kernel has no memory; no limit is in the way. */
        SPEBROKER_KVM_NO_MEMORY = 18,
        /* The broker's gate refuses: this process has no lease, or another SPU's, or a smaller buffer. */
        SPEBROKER_KVM_GATE = 19,
        /* Too late: the VCPU has SPE already, or a VCPU of the VM has run. */
        SPEBROKER_KVM_TOO_LATE = 20,
        /* The exit has nothing to do with SPE, or no VCPU of the VM has it. */
        SPEBROKER_KVM_NOT_SPE = 21,
        /* The VCPU ran on one of the lease's CPUs, and KVM refuses it there. */
        SPEBROKER_KVM_CPU_REFUSED = 22,
        /* The broker did not answer. */
        SPEBROKER_KVM_NO_ANSWER = 23,
        /* An errno that nobody has documented for this step. */
        SPEBROKER_KVM_FAILED = 24
};

/* What keeps a guest's buffer within the lease's size. */
enum spebroker_kvm_bound {
        SPEBROKER_KVM_BOUND_NONE = 0, /* nothing: no VCPU was enabled */
        SPEBROKER_KVM_BOUND_KVM = 1,  /* KVM, per VCPU: the guest is told the maximum */
        SPEBROKER_KVM_BOUND_MEMLOCK =
                2, /* RLIMIT_MEMLOCK alone, for all VCPUs together: KVM has no maximum */
};

/* @vm_fd stays the caller's, and open as long as the object is used. It is looked at later. -EBADF if
 * negative. */
int spebroker_kvm_new(int vm_fd, struct spebroker_kvm **ret_kvm);
struct spebroker_kvm *spebroker_kvm_ref(struct spebroker_kvm *kvm);
struct spebroker_kvm *spebroker_kvm_unref(struct spebroker_kvm *kvm);

/* --- Numbers --- */

/* -1: not known, or no number of the enum's. */
int64_t spebroker_kvm_get_number(const struct spebroker_kvm *kvm, enum spebroker_kvm_number number);

/* @value -1: not known. -EINVAL if it cannot be that number's: above 65535, of a feature above 223. */
int spebroker_kvm_set_number(struct spebroker_kvm *kvm, enum spebroker_kvm_number number, int64_t value);

/*
 * Puts the numbers that the broker knows, from section [KVM] of its configuration or from the header that it
 * was built with, in the place of those here. Returns as a call of spebroker.h does (enum spebroker_result).
 * A broker that knows none changes none.
 */
int spebroker_kvm_ask_numbers(struct spebroker_kvm *kvm, struct spebroker *context);

/* --- Enabling --- */

/*
 * Can the VM have SPE? An outcome. If not, @context (which may be NULL) is asked for what is in the way, as
 * by spebroker_check_host(), and that is said, too.
 */
int spebroker_kvm_check(struct spebroker_kvm *kvm, struct spebroker *context);

/*
 * Sets SPE's bit in kvm_vcpu_init.features, an array of seven words. An outcome:
 * SPEBROKER_KVM_NUMBERS_UNKNOWN.
 */
int spebroker_kvm_add_feature(struct spebroker_kvm *kvm, uint32_t *features);

/*
 * Gives SPE to a VCPU: the interrupt, the SPU and the buffer size of @lease, and then INIT. An outcome. All
 * VCPUs of a VM get the same from the same lease, the first one's. The descriptor must stay open as long as
 * the object is used.
 *
 * Where RLIMIT_MEMLOCK is in the way, the broker is asked once for what is missing, and KVM once more: with a
 * @context of NULL nobody is asked. It is the lease's owner that must call.
 *
 * After a failure, the VCPU has no SPE and is not enabled by KVM; calling again goes on at the step that
 * failed. VCPUs enabled before keep it (spebroker_kvm_get_enabled()): a guest with SPE on some of its VCPUs
 * only is not what Linux expects, so enable the rest, or destroy the VM and release the lease.
 */
int spebroker_kvm_enable(struct spebroker_kvm *kvm, struct spebroker *context, struct spebroker_lease *lease,
                         int vcpu_fd);

/* The descriptors of the VCPUs that have SPE, in the order in which they got it; -1 from the end of the list
 * on. */
int spebroker_kvm_get_enabled(const struct spebroker_kvm *kvm, size_t index);

/* What keeps the guest's buffers small. */
enum spebroker_kvm_bound spebroker_kvm_get_bound(const struct spebroker_kvm *kvm);

/* --- Exits of KVM_RUN --- */

/*
 * KVM_EXIT_RLIMIT: the guest wants to pin more than RLIMIT_MEMLOCK allows. Asks the broker for the bytes that
 * are @missing, as kvm_run says (its layout is the kernel's; what is not known need not be guessed: 0 is
 * -EINVAL). An outcome; 0: KVM_RUN may be called again. Else the guest's profiling cannot go on: calling
 * KVM_RUN again exits again. @ret_lease may be NULL.
 */
int spebroker_kvm_handle_rlimit(struct spebroker_kvm *kvm, struct spebroker *context, uint64_t missing,
                                struct spebroker_lease **ret_lease);

/*
 * KVM_EXIT_FAIL_ENTRY, with kvm_run's hardware_entry_failure_reason and cpu: the VCPU ran where its SPU is
 * not. Asks the broker for the lease as it is now. An outcome; 0: move the VCPU's thread to the CPUs of
 * *@ret_lease, and call KVM_RUN again.
 */
int spebroker_kvm_handle_fail_entry(struct spebroker_kvm *kvm, struct spebroker *context, uint64_t reason,
                                    uint32_t cpu, struct spebroker_lease **ret_lease);

/* --- What went wrong: after a positive outcome, until the next function that returns one --- */

/* Where it ended. */
enum spebroker_kvm_step spebroker_kvm_get_step(const struct spebroker_kvm *kvm);

/* The kernel's errno of that step, positive; 0 if it was not the kernel that refused. */
int spebroker_kvm_get_errno(const struct spebroker_kvm *kvm);

/* What that means, in a sentence on one line, and which VCPUs have SPE, if there are any. NULL if it went
 * well. */
const char *spebroker_kvm_get_message(const struct spebroker_kvm *kvm);

/* What to do about it, in a sentence on one line; NULL: nothing can be done, or it went well. */
const char *spebroker_kvm_get_advice(const struct spebroker_kvm *kvm);

/*
 * SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE: the nearest size below that Arm's encoding has, in bytes; 0 if there
 * is none, and of other outcomes.
 */
uint64_t spebroker_kvm_get_nearest_buffer_size(const struct spebroker_kvm *kvm);

/*
 * The check of the host that decides, by its name in spe-broker(8) ("driver-loaded", "kvm-mode"), where KVM
 * has no SPE or no such SPU and the broker was there to ask; else NULL.
 */
const char *spebroker_kvm_get_check(const struct spebroker_kvm *kvm);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
