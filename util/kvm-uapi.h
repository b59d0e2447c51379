/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The numbers of KVM's SPE interface as the kernel header that this is built with has them. They are not
 * upstream, so most headers have none: then KVM_UAPI_X is a guess, and KVM_UAPI_X_NAMED is 0. The names are
 * those of the series 'KVM: arm64: Add Statistical Profiling Extension (SPE) support', v6.
 *
 * Of the guesses, group, IRQ and INIT are those of v5 (34/38); the rest are the next in line: after
 * KVM_ARM_VCPU_HAS_EL2_E2H0, and after INIT as with KVM_ARM_VCPU_PMU_V3_CTRL. For a capability there is
 * none worth making: v4's 208 has become another one.
 */

#include <linux/kvm.h>

#ifdef KVM_CAP_ARM_SPE
#define KVM_UAPI_CAPABILITY       KVM_CAP_ARM_SPE
#define KVM_UAPI_CAPABILITY_NAMED 1
#else
#define KVM_UAPI_CAPABILITY       0
#define KVM_UAPI_CAPABILITY_NAMED 0
#endif

#if defined(KVM_ARM_VCPU_HAS_SPE)
#define KVM_UAPI_FEATURE       KVM_ARM_VCPU_HAS_SPE
#define KVM_UAPI_FEATURE_NAMED 1
#elif defined(KVM_ARM_VCPU_SPE) /* v5 */
#define KVM_UAPI_FEATURE       KVM_ARM_VCPU_SPE
#define KVM_UAPI_FEATURE_NAMED 1
#else
#define KVM_UAPI_FEATURE       9
#define KVM_UAPI_FEATURE_NAMED 0
#endif

#ifdef KVM_ARM_VCPU_SPE_CTRL
#define KVM_UAPI_GROUP       KVM_ARM_VCPU_SPE_CTRL
#define KVM_UAPI_GROUP_NAMED 1
#else
#define KVM_UAPI_GROUP       3
#define KVM_UAPI_GROUP_NAMED 0
#endif

#ifdef KVM_ARM_VCPU_SPE_IRQ
#define KVM_UAPI_ATTRIBUTE_IRQ       KVM_ARM_VCPU_SPE_IRQ
#define KVM_UAPI_ATTRIBUTE_IRQ_NAMED 1
#else
#define KVM_UAPI_ATTRIBUTE_IRQ       0
#define KVM_UAPI_ATTRIBUTE_IRQ_NAMED 0
#endif

#ifdef KVM_ARM_VCPU_SPE_SPU
#define KVM_UAPI_ATTRIBUTE_SPU       KVM_ARM_VCPU_SPE_SPU
#define KVM_UAPI_ATTRIBUTE_SPU_NAMED 1
#else
#define KVM_UAPI_ATTRIBUTE_SPU       2
#define KVM_UAPI_ATTRIBUTE_SPU_NAMED 0
#endif

#ifdef KVM_ARM_VCPU_MAX_BUFFER_SIZE
#define KVM_UAPI_ATTRIBUTE_MAX_BUFFER_SIZE       KVM_ARM_VCPU_MAX_BUFFER_SIZE
#define KVM_UAPI_ATTRIBUTE_MAX_BUFFER_SIZE_NAMED 1
#else
#define KVM_UAPI_ATTRIBUTE_MAX_BUFFER_SIZE       3
#define KVM_UAPI_ATTRIBUTE_MAX_BUFFER_SIZE_NAMED 0
#endif

#ifdef KVM_ARM_VCPU_SPE_INIT
#define KVM_UAPI_ATTRIBUTE_INIT       KVM_ARM_VCPU_SPE_INIT
#define KVM_UAPI_ATTRIBUTE_INIT_NAMED 1
#else
#define KVM_UAPI_ATTRIBUTE_INIT       1
#define KVM_UAPI_ATTRIBUTE_INIT_NAMED 0
#endif
