/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What arm64's <asm/kvm.h> alone declares and the probe of KVM needs (arch/arm64/include/uapi/asm/kvm.h).
 * With it the probe is one source for all architectures, and what tests it here is what runs there.
 */

#include <linux/kvm.h>
#include <stdint.h>

typedef struct KvmVcpuInit {
        uint32_t target;
        uint32_t features[7]; /* bits */
} KvmVcpuInit;

#define KVM_ABI_VCPU_INIT        _IOW(KVMIO, 0xae, KvmVcpuInit)
#define KVM_ABI_PREFERRED_TARGET _IOR(KVMIO, 0xaf, KvmVcpuInit)
