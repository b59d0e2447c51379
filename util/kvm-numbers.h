/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one table of the numbers of KVM's SPE interface, and where each comes from. Nothing may be concluded
 * from what KVM says to a guessed number: it may mean something else in the kernel that is running.
 */

#include <stdbool.h>
#include <stdint.h>

typedef enum KvmNumber {
        KVM_NUMBER_CAPABILITY,                /* for KVM_CHECK_EXTENSION */
        KVM_NUMBER_FEATURE,                   /* bit of kvm_vcpu_init.features */
        KVM_NUMBER_GROUP,                     /* of the VCPU's device attributes */
        KVM_NUMBER_ATTRIBUTE_IRQ,             /* int: the guest's interrupt */
        KVM_NUMBER_ATTRIBUTE_SPU,             /* int: the PMU type */
        KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE, /* u64: bytes. Versions of the interface lack it */
        KVM_NUMBER_ATTRIBUTE_INIT,            /* nothing: the rest is set */
        _KVM_NUMBER_MAX,
} KvmNumber;

typedef enum KvmOrigin {
        KVM_ORIGIN_GUESS,
        KVM_ORIGIN_HEADER, /* <linux/kvm.h>, at compile time */
        KVM_ORIGIN_CONFIG,
} KvmOrigin;

typedef struct KvmNumbers {
        struct {
                uint32_t value;
                KvmOrigin origin;
        } of[_KVM_NUMBER_MAX];
} KvmNumbers;

/* Far above any that is in use. */
#define KVM_NUMBER_VALUE_MAX UINT32_C(65535)
/* kvm_vcpu_init has seven words of feature bits. */
#define KVM_FEATURE_VALUE_MAX UINT32_C(223)

/* The key of section [KVM] of the configuration: "AttributeIrq". */
const char *kvm_number_to_string(KvmNumber number);
/* Likewise: config, header, guess. */
const char *kvm_origin_to_string(KvmOrigin origin);

/* What the configuration does not say. */
#define KVM_NUMBER_UNSET INT64_C(-1)

/* The header's numbers, or guesses; each that @configured has (all others are KVM_NUMBER_UNSET) instead. */
KvmNumbers kvm_numbers(const int64_t configured[static _KVM_NUMBER_MAX]);

static inline uint32_t kvm_number(const KvmNumbers *numbers, KvmNumber number) {
        return numbers->of[number].value;
}

static inline bool kvm_number_is_known(const KvmNumbers *numbers, KvmNumber number) {
        return numbers->of[number].origin != KVM_ORIGIN_GUESS;
}

/* None of them is guessed, but for that of the attribute that KVM may not have. */
bool kvm_numbers_are_known(const KvmNumbers *numbers);
