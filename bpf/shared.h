/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Words of the global data of programs in the kernel, which they load and store as well.
 */

#include <linux/types.h>
#include <stdint.h>

static inline uint64_t shared_load(const __u64 *word) {
        return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline void shared_store(__u64 *word, uint64_t value) {
        __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}
