/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a lease may pin. The guest chooses its granule and where its buffer lies, so the worst of both counts:
 * a buffer that straddles one more table than its size needs, at the last level and the one above. The charge
 * never falls as the size grows, which is what lets charge_fit() stop at the first size that fits.
 */

#include "policy/charge.h"

#include <assert.h>
#include <stdbool.h>

#include "util/buffer-size.h"

/* Per VCPU, beside buffer and tables: what KVM pins for itself. */
#define CHARGE_HOST_PAGES 2U

/* 48-bit virtual addresses, page mappings: one table maps 'last' bytes, one of the level above 'above'. */
static const struct {
        uint64_t size;
        uint64_t last;
        uint64_t above;
        unsigned top; /* tables from there up to the root, where a buffer may straddle two halves */
} granules[_GUEST_GRANULE_MAX] = {
        [GUEST_GRANULE_4K] = {UINT64_C(4) << 10, UINT64_C(2) << 20, UINT64_C(1) << 30, 3},
        [GUEST_GRANULE_16K] = {UINT64_C(16) << 10, UINT64_C(32) << 20, UINT64_C(64) << 30, 3},
        [GUEST_GRANULE_64K] = {UINT64_C(64) << 10, UINT64_C(512) << 20, UINT64_C(4) << 40, 1},
};

static uint64_t divide_up(uint64_t a, uint64_t b) {
        return a / b + (a % b > 0);
}

uint64_t charge_table_count(GuestGranule granule, uint64_t size) {
        return divide_up(size, granules[granule].last) + 1 + divide_up(size, granules[granule].above) + 1 +
               granules[granule].top;
}

uint64_t charge_tables(uint64_t size, uint64_t host_page_size) {
        uint64_t worst = 0;

        assert(host_page_size > 0);

        for (GuestGranule g = 0; g < _GUEST_GRANULE_MAX; g++) {
                /* A table smaller than a host page pins all of that page. */
                uint64_t pinned = granules[g].size > host_page_size ? granules[g].size : host_page_size;
                uint64_t bytes;

                if (__builtin_mul_overflow(charge_table_count(g, size), pinned, &bytes))
                        return UINT64_MAX;
                if (bytes > worst)
                        worst = bytes;
        }

        return worst;
}

uint64_t charge_lease(unsigned vcpus, uint64_t buffer_size, uint64_t host_page_size) {
        uint64_t pages, bytes, extra;

        assert(host_page_size > 0);

        pages = divide_up(buffer_size, host_page_size);
        if (__builtin_add_overflow(pages, CHARGE_HOST_PAGES, &pages) ||
            __builtin_mul_overflow(pages, host_page_size, &bytes))
                return CHARGE_SATURATED;

        extra = charge_tables(buffer_size, host_page_size);
        if (__builtin_add_overflow(bytes, extra, &bytes) || __builtin_mul_overflow(bytes, vcpus, &bytes))
                return CHARGE_SATURATED;

        return bytes > CHARGE_SATURATED ? CHARGE_SATURATED : bytes;
}

uint64_t charge_fit(unsigned vcpus, uint64_t available, uint64_t host_page_size) {
        uint64_t size;

        assert(vcpus > 0);

        /* The buffers alone cannot be larger than this, so few sizes are left to try. */
        for (size = buffer_size_floor_power_of_two(available / vcpus); size >= BUFFER_SIZE_MIN; size /= 2) {
                uint64_t charge = charge_lease(vcpus, size, host_page_size);

                if (charge <= available && charge < CHARGE_SATURATED)
                        return size;
        }

        return 0;
}
