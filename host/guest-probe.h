/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Can KVM give an SPU to a guest? Neither the SPU's directory nor a perf PMU that works says so. KVM is asked
 * as a virtual machine monitor would ask it, with a VM and a VCPU that never run, have no memory, and are
 * gone before the answer is given.
 */

#include <stdbool.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/kvm-numbers.h"

typedef enum GuestAnswer {
        GUEST_ANSWER_UNKNOWN,
        GUEST_ANSWER_YES,
        GUEST_ANSWER_NO, /* a fact: there is no KVM, or it refuses for good and was asked with known numbers
                          */
} GuestAnswer;

/* In this order. */
typedef enum GuestStep {
        GUEST_STEP_NONE, /* nothing was asked yet */
        GUEST_STEP_OPEN,
        GUEST_STEP_VERSION,
        GUEST_STEP_ARCHITECTURE,
        GUEST_STEP_CAPABILITY,
        GUEST_STEP_VM,
        GUEST_STEP_VGIC,
        GUEST_STEP_VCPU,
        GUEST_STEP_TARGET,
        GUEST_STEP_FEATURE, /* the VCPU is initialised, with SPE */
        GUEST_STEP_HAS_IRQ,
        GUEST_STEP_HAS_SPU,
        GUEST_STEP_HAS_MAX_BUFFER_SIZE,
        GUEST_STEP_HAS_INIT,
        GUEST_STEP_IRQ,
        GUEST_STEP_SPU,
        _GUEST_STEP_MAX,
} GuestStep;

typedef struct GuestVerdict {
        GuestAnswer answer;
        GuestStep step;     /* the last one taken: if the answer is not yes, the one that decided */
        int error;          /* that step's errno, 0 if it has none */
        char *reason;       /* a clause, "KVM_CREATE_VM: Device or resource busy" */
        const char *advice; /* one line, or NULL: nothing can be done */
} GuestVerdict;

#define GUEST_VERDICT_NULL ((GuestVerdict){0}) /* unknown, without a reason: nobody has asked */
void guest_verdict_deinit(GuestVerdict *verdict);
int guest_verdict_copy(const GuestVerdict *verdict, GuestVerdict *ret_copy);

/*
 * Asks dev/kvm below @root_fd for the SPU of PMU type *@pmu_type; if NULL, for as much as can be had without
 * one (then the answer is never yes). @foreign: the tree is not this machine's, so a dev/kvm that is not
 * there, or that this machine has no driver for, says nothing. Takes milliseconds. Nothing is open
 * afterwards. The kernel tells of the VM with uevents (misc kvm, EVENT=create and destroy): who probes on
 * those never stops. Only -ENOMEM is returned.
 */
int guest_probe(int root_fd, bool foreign, const KvmNumbers *numbers, const uint32_t *pmu_type,
                GuestVerdict *ret_verdict);
