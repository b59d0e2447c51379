/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Sizes that PMBIDR_EL1.MaxBuffSize can represent: a 9-bit mantissa M in [40:32] and a 5-bit exponent E in
 * [45:41]. Decoded: E == 0 ? M << 12 : (M | 0x200) << (E + 11). Code 0 means 'no limit', which the broker
 * never grants, so 0 is not a size here.
 *
 * Source: Arm DEN0154 as implemented by 'perf: arm_spe: Add support for SPE VM interface' 3/3, 1 Jul 2025.
 * KVM refuses any other size with EDOM and rounds nothing.
 */

#include <stdbool.h>
#include <stdint.h>

#define BUFFER_SIZE_MIN UINT64_C(4096)
#define BUFFER_SIZE_MAX (UINT64_C(1023) << 42)

/* True if KVM_ARM_VCPU_MAX_BUFFER_SIZE can take @size. */
bool buffer_size_is_representable(uint64_t size);

/* The largest representable size not above @size, or 0 where there is none (@size below 4096). */
uint64_t buffer_size_floor(uint64_t size);

/*
 * The largest power of two not above @size that is representable, or 0 where there is none. perf in the
 * guest maps nothing else, so a limit that is no power of two would be a limit of the next lower one.
 */
uint64_t buffer_size_floor_power_of_two(uint64_t size);

/* The field's value [13:0] for a representable size, and back; decode(0) is 0, 'no limit'. */
uint16_t buffer_size_encode(uint64_t size);
uint64_t buffer_size_decode(uint16_t code);
