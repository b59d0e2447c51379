/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the kernel has said about SPE and KVM: the messages that a probe of the driver, the ACPI code before
 * it and KVM's start can leave, recognised whole by their prefix, of all kernels from 5.4 on. Later messages
 * replace earlier ones of the same device: a driver that is loaded again is judged by its last probe.
 *
 * Sources: drivers/perf/arm_spe_pmu.c, drivers/perf/arm_pmu_acpi.c, drivers/base/dd.c and platform.c,
 * arch/arm64/kvm/arm.c, arch/arm64/kernel/cpufeature.c.
 */

#include <stdbool.h>
#include <stddef.h>

typedef enum SpeMessage {
        SPE_SILENT,
        SPE_PROBED,
        SPE_NOT_HOMOGENEOUS, /* ACPI: the CPUs differ in interrupt or core type */
        SPE_NO_GSI,          /* ACPI: the interrupt cannot be registered */
        SPE_NO_DEVICE,       /* ACPI: the device cannot be registered, and nothing said why */
        SPE_KPTI,            /* the kernel is unmapped while user code runs */
        SPE_NO_INTERRUPT,    /* the device has none */
        SPE_NOT_PPI,         /* it has one that is not per CPU */
        SPE_NO_PARTITION,    /* it is per CPU, and for no set of CPUs */
        SPE_NOT_IN_CPU,      /* PMSVer is 0 */
        SPE_HIGHER_LEVEL,    /* PMBIDR_EL1.P: firmware or a hypervisor keeps the buffer */
        SPE_ALIGNMENT,       /* a buffer alignment that the driver cannot do */
        SPE_RECORD_SIZE,     /* likewise the size of a record */
        SPE_NO_NAME,         /* out of memory for the PMU's name */
        SPE_NO_MEMORY,       /* out of memory before */
        SPE_NOT_REGISTERED,  /* failed after the hardware was found good */
        SPE_FAILED,          /* failed with an errno, and nothing said why */
        _SPE_MESSAGE_N,
} SpeMessage;

typedef enum KvmMessage {
        KVM_SILENT,
        KVM_VHE,
        KVM_NVHE, /* or hVHE: the host is not at EL2 itself */
        KVM_PROTECTED,
        KVM_NO_HYP,   /* the kernel was not started at EL2 */
        KVM_DISABLED, /* by the command line */
        KVM_ERROR,    /* it tried, and failed */
} KvmMessage;

typedef enum KptiMessage {
        KPTI_SILENT,
        KPTI_ON,
        KPTI_OFF,
} KptiMessage;

#define KERNEL_QUOTE_MAX          160U
#define KERNEL_MESSAGES_PROBE_MAX 16U

/* The last that was said about one device; the ACPI code's has none. */
typedef struct SpeProbe {
        char device[64];
        SpeMessage message;
        int cpu;   /* that it was said about, or -1 */
        int error; /* errno of SPE_NOT_REGISTERED, SPE_FAILED; else 0 */
        char text[KERNEL_QUOTE_MAX];
} SpeProbe;

typedef struct KernelMessages {
        int outcome; /* of kernel_log_read() */
        SpeProbe acpi;
        SpeProbe probes[KERNEL_MESSAGES_PROBE_MAX]; /* in the order of the first message of each */
        size_t n_probes;
        KvmMessage kvm;
        char kvm_text[KERNEL_QUOTE_MAX];
        KptiMessage kpti;
        bool boot;     /* the log goes back to the boot, */
        bool features; /* and names the CPU features that the kernel uses: KPTI would be among them */
} KernelMessages;

/* Takes one message; a KernelLogFn. @userdata is a KernelMessages, zeroed before the first. */
void kernel_messages_take(const char *text, void *userdata);

/* Reads the whole log. Only -ENOMEM and the like fail; what is wrong with the log is in outcome. */
int kernel_messages_read(int root_fd, bool foreign, KernelMessages *ret_messages);

/* The first device whose last message is a failure, or NULL. */
const SpeProbe *kernel_messages_failure(const KernelMessages *messages);
