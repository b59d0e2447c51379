/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/charge.h"
#include "util/buffer-size.h"
#include "util/cleanup.h"

#define KIB(n)    ((uint64_t)(n) << 10)
#define MIB(n)    ((uint64_t)(n) << 20)
#define GIB(n)    ((uint64_t)(n) << 30)
#define HOST_PAGE UINT64_C(4096)

/* Worked out by hand from the geometry of the page tables. */
static const struct {
        uint64_t size;
        unsigned tables[_GUEST_GRANULE_MAX];
        unsigned kib[_GUEST_GRANULE_MAX];
} by_hand[] = {
        {MIB(1), {7, 7, 5}, {28, 112, 320}},      {MIB(2), {7, 7, 5}, {28, 112, 320}},
        {MIB(4), {8, 7, 5}, {32, 112, 320}},      {MIB(16), {14, 7, 5}, {56, 112, 320}},
        {MIB(64), {38, 8, 5}, {152, 128, 320}},   {MIB(256), {134, 14, 5}, {536, 224, 320}},
        {GIB(1), {518, 38, 6}, {2072, 608, 384}},
};

static void test_tables(_unused_ void **state) {
        static const unsigned granule_kib[_GUEST_GRANULE_MAX] = {4, 16, 64};

        for (size_t i = 0; i < ELEMENTS_OF(by_hand); i++) {
                unsigned worst = 0;

                for (GuestGranule g = 0; g < _GUEST_GRANULE_MAX; g++) {
                        assert_int_equal(charge_table_count(g, by_hand[i].size), by_hand[i].tables[g]);
                        assert_int_equal(by_hand[i].tables[g] * granule_kib[g], by_hand[i].kib[g]);
                        worst = by_hand[i].kib[g] > worst ? by_hand[i].kib[g] : worst;
                }
                assert_int_equal(charge_tables(by_hand[i].size, HOST_PAGE), KIB(worst));
        }

        assert_int_equal(charge_tables(MIB(4), HOST_PAGE), 327680);
        assert_int_equal(charge_tables(GIB(1), HOST_PAGE), 2121728);
}

/* A table of 4 KiB pins a whole host page of 64. */
static void test_large_host_pages(_unused_ void **state) {
        assert_int_equal(charge_tables(MIB(4), KIB(16)), KIB(320));
        assert_int_equal(charge_tables(MIB(4), KIB(64)), 8 * KIB(64));
        assert_int_equal(charge_tables(GIB(1), KIB(64)), 518 * KIB(64));
        assert_int_equal(charge_tables(MIB(4), MIB(2)), 8 * MIB(2));

        assert_int_equal(charge_lease(1, 4096, KIB(64)), KIB(64) + 7 * KIB(64) + 2 * KIB(64));
        assert_int_equal(charge_lease(3, KIB(64) + 4096, KIB(64)), 3 * (2 + 7 + 2) * KIB(64));
}

static void test_lease(_unused_ void **state) {
        assert_int_equal(charge_lease(1, MIB(4), HOST_PAGE), MIB(4) + 327680 + 8192);
        assert_int_equal(charge_lease(4, MIB(4), HOST_PAGE), 4 * (MIB(4) + 327680 + 8192));
        assert_int_equal(charge_lease(4096, GIB(1), HOST_PAGE), 4096 * (GIB(1) + 2121728 + 8192));
}

static void test_saturates(_unused_ void **state) {
        assert_int_equal(charge_lease(4096, BUFFER_SIZE_MAX, HOST_PAGE), CHARGE_SATURATED);
        assert_int_equal(charge_lease(1, UINT64_MAX, HOST_PAGE), CHARGE_SATURATED);
        assert_int_equal(charge_lease(1, UINT64_MAX, KIB(64)), CHARGE_SATURATED);
        assert_int_equal(charge_lease(UINT32_MAX, GIB(4), HOST_PAGE), CHARGE_SATURATED);

        /* The largest that there is does not, for one VCPU. */
        assert_true(charge_lease(1, BUFFER_SIZE_MAX, HOST_PAGE) > BUFFER_SIZE_MAX);
        assert_true(charge_lease(1, BUFFER_SIZE_MAX, HOST_PAGE) < CHARGE_SATURATED);

        /* Nor does a saturated charge fit anywhere. */
        for (unsigned vcpus = 1; vcpus <= 4096; vcpus *= 2) {
                uint64_t size = charge_fit(vcpus, UINT64_MAX, HOST_PAGE);

                assert_true(size >= GIB(1));
                assert_true(charge_lease(vcpus, size, HOST_PAGE) < CHARGE_SATURATED);
        }
}

static void test_rises(_unused_ void **state) {
        static const uint64_t pages[] = {KIB(4), KIB(16), KIB(64)};

        for (size_t i = 0; i < ELEMENTS_OF(pages); i++) {
                uint64_t before = 0;

                for (unsigned code = 1; code < 1U << 14; code++) {
                        uint64_t charge = charge_lease(2, buffer_size_decode((uint16_t)code), pages[i]);

                        assert_true(charge >= before);
                        before = charge;
                }
        }
}

/* The fit is the largest power of two that fits: it does, and the next does not. */
static void test_fit(_unused_ void **state) {
        static const unsigned vcpus[] = {1, 3, 8, 4096};

        assert_int_equal(charge_fit(1, 0, HOST_PAGE), 0);
        assert_int_equal(charge_fit(4, 4 * (MIB(4) + 327680 + 8192), HOST_PAGE), MIB(4));
        assert_int_equal(charge_fit(4, 4 * (MIB(4) + 327680 + 8192) - 1, HOST_PAGE), MIB(2));
        assert_int_equal(charge_fit(1, 4096 + 327680 + 8192, HOST_PAGE), 4096);
        assert_int_equal(charge_fit(1, 4096 + 327680 + 8192 - 1, HOST_PAGE), 0);

        for (size_t i = 0; i < ELEMENTS_OF(vcpus); i++)
                for (uint64_t available = 1000; available < UINT64_C(1) << 60; available += available / 3) {
                        uint64_t size = charge_fit(vcpus[i], available, HOST_PAGE), next;

                        assert_int_equal(size & (size - 1), 0);
                        if (size > 0)
                                assert_true(charge_lease(vcpus[i], size, HOST_PAGE) <= available);

                        next = size > 0 ? size * 2 : BUFFER_SIZE_MIN;
                        if (next <= BUFFER_SIZE_MAX)
                                assert_true(charge_lease(vcpus[i], next, HOST_PAGE) > available);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tables), cmocka_unit_test(test_large_host_pages),
                cmocka_unit_test(test_lease),  cmocka_unit_test(test_saturates),
                cmocka_unit_test(test_rises),  cmocka_unit_test(test_fit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
