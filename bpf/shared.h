/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Memory that is shared with the programs in the kernel: words of their global data, and the rings by which
 * they tell of something.
 */

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/types.h>
#include <stdint.h>

/* Of one turn: whoever is refused in a loop fills a ring as fast as it is emptied. */
#define SHARED_NOTICES_MAX 64U

static inline uint64_t shared_load(const __u64 *word) {
        return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline void shared_store(__u64 *word, uint64_t value) {
        __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* What the callback of a ring returns for each notice, of which @n_taken counts those of this turn. */
static inline int shared_taken(unsigned *n_taken) {
        return ++*n_taken < SHARED_NOTICES_MAX ? 0 : -ECANCELED;
}

/* Has the callback take what is in @ring, or so many of it: what is left keeps the ring readable. */
static inline int shared_take(struct ring_buffer *ring, unsigned *n_taken) {
        int r;

        *n_taken = 0;
        r = ring_buffer__consume(ring);
        return r < 0 && r != -ECANCELED ? r : 0;
}
