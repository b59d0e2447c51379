/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The encoding of PMBIDR_EL1.MaxBuffSize. Every step follows from one fact: above 2 MiB a size has ten
 * significant bits, below it a step of 4 KiB.
 */

#include "util/buffer-size.h"

/* floor(log2(@v)); @v is not 0. */
static unsigned log2_floor(uint64_t v) {
        return 63U - (unsigned)__builtin_clzll(v);
}

/* The lowest bit that a size of this magnitude may have set. */
static unsigned granularity(uint64_t size) {
        unsigned k = log2_floor(size);

        return k < 21 ? 12 : k - 9;
}

bool buffer_size_is_representable(uint64_t size) {
        return size > 0 && buffer_size_floor(size) == size;
}

uint64_t buffer_size_floor(uint64_t size) {
        if (size < BUFFER_SIZE_MIN)
                return 0;
        if (size > BUFFER_SIZE_MAX)
                return BUFFER_SIZE_MAX;

        return size >> granularity(size) << granularity(size);
}

uint64_t buffer_size_floor_power_of_two(uint64_t size) {
        if (size < BUFFER_SIZE_MIN)
                return 0;
        if (size > BUFFER_SIZE_MAX)
                size = BUFFER_SIZE_MAX;

        return UINT64_C(1) << log2_floor(size);
}

uint16_t buffer_size_encode(uint64_t size) {
        unsigned k = log2_floor(size);

        if (k < 21)
                return (uint16_t)(size >> 12);

        return (uint16_t)((k - 20) << 9 | (size >> (k - 9) & 0x1ff));
}

uint64_t buffer_size_decode(uint16_t code) {
        unsigned e = code >> 9 & 0x1f, m = code & 0x1ff;

        return e == 0 ? (uint64_t)m << 12 : (uint64_t)(m | 0x200) << (e + 11);
}
