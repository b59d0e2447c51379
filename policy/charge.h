/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Host bytes that a lease may pin: vcpus x (buffer + the guest stage-1 page tables that map it, for the worst
 * guest granule, + 2 host pages). Sources: KVM SPE v6 30/35, 32/35, 33/35 (pin at enable, guest tables are
 * pinned too, RLIMIT_MEMLOCK); the table formula is derived from the page table geometry and checked in
 * tests/unit/test-charge.c against the table computed by hand.
 */

#include <stdint.h>

/* What a charge saturates at; no sum of charges may reach it. */
#define CHARGE_SATURATED INT64_MAX

/* The guest granules, as rows of charge_table_count(). */
typedef enum GuestGranule {
        GUEST_GRANULE_4K,
        GUEST_GRANULE_16K,
        GUEST_GRANULE_64K,
        _GUEST_GRANULE_MAX,
} GuestGranule;

/* Number of guest page tables, of one granule each, that map a buffer of @size at its worst alignment. */
uint64_t charge_table_count(GuestGranule granule, uint64_t size);
/*
 * Bytes of guest page tables that map a buffer of @size at its worst alignment, for the worst of the 4, 16
 * and 64 KiB granules, where each table pins whole host pages of @host_page_size.
 */
uint64_t charge_tables(uint64_t size, uint64_t host_page_size);
/* The whole charge, the buffer rounded up to host pages; saturates at CHARGE_SATURATED. */
uint64_t charge_lease(unsigned vcpus, uint64_t buffer_size, uint64_t host_page_size);
/*
 * The largest power of two for which @vcpus are charged at most @available, or 0 where not even
 * BUFFER_SIZE_MIN is.
 */
uint64_t charge_fit(unsigned vcpus, uint64_t available, uint64_t host_page_size);
