/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/ledger.h"
#include "util/cleanup.h"

static void assert_account(LedgerAccount account, uint64_t bytes, unsigned n_leases) {
        assert_int_equal(account.bytes, bytes);
        assert_int_equal(account.n_leases, n_leases);
}

static void test_books(_unused_ void **state) {
        _cleanup_(instance_freep) Instance *a = NULL, *b = NULL;
        LedgerCharge first = LEDGER_CHARGE_NULL, second = LEDGER_CHARGE_NULL, third = LEDGER_CHARGE_NULL,
                     fourth = LEDGER_CHARGE_NULL;
        Ledger ledger = LEDGER_NULL;

        assert_int_equal(instance_new("arm_spe_0", 0, &a), 0);
        assert_int_equal(instance_new("arm_spe_1", 1, &b), 0);

        assert_account(ledger_get_user(&ledger, 1000), 0, 0);
        assert_account(ledger_get_vm(&ledger, 1000, "web"), 0, 0);

        assert_int_equal(ledger_charge(&ledger, 1000, "web", a, 10, &first), 0);
        assert_int_equal(ledger_charge(&ledger, 1000, "web", b, 200, &second), 0);
        assert_int_equal(ledger_charge(&ledger, 1000, "db", a, 3000, &third), 0);
        assert_int_equal(ledger_charge(&ledger, 2000, "web", a, 40000, &fourth), 0);

        assert_account(ledger.total, 43210, 4);
        assert_account(ledger_get_user(&ledger, 1000), 3210, 3);
        assert_account(ledger_get_user(&ledger, 2000), 40000, 1);
        assert_account(ledger_get_user(&ledger, 0), 0, 0);
        assert_account(ledger_get_vm(&ledger, 1000, "web"), 210, 2); /* keyed by user and name */
        assert_account(ledger_get_vm(&ledger, 2000, "web"), 40000, 1);
        assert_account(ledger_get_vm(&ledger, 1000, "db"), 3000, 1);
        assert_account(ledger_get_vm(&ledger, 2000, "db"), 0, 0);
        assert_int_equal(a->charge, 43010);
        assert_int_equal(a->n_leases, 3);
        assert_int_equal(b->charge, 200);
        assert_int_equal(b->n_leases, 1);

        ledger_refund(&first);
        assert_account(ledger.total, 43200, 3);
        assert_account(ledger_get_vm(&ledger, 1000, "web"), 200, 1);
        assert_int_equal(a->charge, 43000);
        assert_int_equal(a->n_leases, 2);

        /* Again is nothing: the token is empty. */
        ledger_refund(&first);
        assert_account(ledger.total, 43200, 3);
        assert_int_equal(a->n_leases, 2);

        ledger_refund(&third);
        ledger_refund(&second);
        assert_account(ledger_get_user(&ledger, 1000), 0, 0);
        assert_account(ledger_get_user(&ledger, 2000), 40000, 1);
        ledger_refund(&fourth);

        assert_account(ledger.total, 0, 0);
        assert_int_equal(a->charge, 0);
        assert_int_equal(b->n_leases, 0);
        ledger_deinit(&ledger); /* asserts that no account is left */
}

/* The SPU has another name: only the instances' sums change, and the refund goes where the charge is. */
static void test_move(_unused_ void **state) {
        _cleanup_(instance_freep) Instance *a = NULL, *b = NULL;
        LedgerCharge moved = LEDGER_CHARGE_NULL, stays = LEDGER_CHARGE_NULL;
        Ledger ledger = LEDGER_NULL;

        assert_int_equal(instance_new("arm_spe_0", 0, &a), 0);
        assert_int_equal(instance_new("arm_spe_1", 1, &b), 0);
        assert_int_equal(ledger_charge(&ledger, 1000, "web", a, 10, &moved), 0);
        assert_int_equal(ledger_charge(&ledger, 1000, "web", a, 200, &stays), 0);

        ledger_move(&moved, b);
        assert_int_equal(a->charge, 200);
        assert_int_equal(a->n_leases, 1);
        assert_int_equal(b->charge, 10);
        assert_int_equal(b->n_leases, 1);
        assert_account(ledger.total, 210, 2);
        assert_account(ledger_get_vm(&ledger, 1000, "web"), 210, 2);

        ledger_move(&moved, b);
        assert_int_equal(b->n_leases, 1);
        ledger_refund(&moved);
        assert_int_equal(b->charge, 0);
        assert_int_equal(a->charge, 200);
        ledger_refund(&stays);
        ledger_deinit(&ledger);
}

/* What a lease is charged may become another sum: in all books, and the refund is of all of it. */
static void test_change(_unused_ void **state) {
        _cleanup_(instance_freep) Instance *a = NULL;
        LedgerCharge grows = LEDGER_CHARGE_NULL, stays = LEDGER_CHARGE_NULL;
        Ledger ledger = LEDGER_NULL;

        assert_int_equal(instance_new("arm_spe_0", 0, &a), 0);
        assert_int_equal(ledger_charge(&ledger, 1000, "web", a, 10, &grows), 0);
        assert_int_equal(ledger_charge(&ledger, 1000, "db", a, 200, &stays), 0);

        assert_int_equal(ledger_change(&grows, 3010), 0);
        assert_int_equal(grows.bytes, 3010);
        assert_account(ledger.total, 3210, 2);
        assert_account(ledger_get_user(&ledger, 1000), 3210, 2);
        assert_account(ledger_get_vm(&ledger, 1000, "web"), 3010, 1);
        assert_account(ledger_get_vm(&ledger, 1000, "db"), 200, 1);
        assert_int_equal(a->charge, 3210);

        assert_int_equal(ledger_change(&grows, UINT64_MAX - 199), -EOVERFLOW);
        assert_account(ledger.total, 3210, 2);
        assert_int_equal(ledger_change(&grows, UINT64_MAX - 200), 0);
        assert_int_equal(ledger_change(&grows, 10), 0);
        assert_account(ledger.total, 210, 2);
        assert_int_equal(a->charge, 210);

        assert_int_equal(ledger_change(&grows, 30), 0);
        ledger_refund(&grows);
        assert_account(ledger.total, 200, 1);
        assert_int_equal(a->charge, 200);
        ledger_refund(&stays);
        ledger_deinit(&ledger);
}

static void test_overflow(_unused_ void **state) {
        _cleanup_(instance_freep) Instance *instance = NULL;
        LedgerCharge most = LEDGER_CHARGE_NULL, more = LEDGER_CHARGE_NULL;
        Ledger ledger = LEDGER_NULL;

        assert_int_equal(instance_new("arm_spe_0", 0, &instance), 0);
        assert_int_equal(ledger_charge(&ledger, 1, "a", instance, UINT64_MAX - 5, &most), 0);
        assert_int_equal(ledger_charge(&ledger, 2, "b", instance, 6, &more), -EOVERFLOW);
        assert_null(more.ledger);
        assert_account(ledger.total, UINT64_MAX - 5, 1);
        assert_account(ledger_get_user(&ledger, 2), 0, 0);
        assert_int_equal(instance->n_leases, 1);

        assert_int_equal(ledger_charge(&ledger, 2, "b", instance, 5, &more), 0);
        assert_account(ledger.total, UINT64_MAX, 2);

        ledger_refund(&most);
        ledger_refund(&more);
        ledger_deinit(&ledger);
}

/* Many accounts, opened and closed in different orders: every sum is right at every step. */
static void test_many(_unused_ void **state) {
        enum { USERS = 17, VMS = 23, N = USERS * VMS };

        static LedgerCharge charges[N];
        _cleanup_(instance_freep) Instance *instance = NULL;
        Ledger ledger = LEDGER_NULL;
        uint64_t total = 0;

        assert_int_equal(instance_new("arm_spe_0", 0, &instance), 0);
        for (unsigned i = 0; i < N; i++) {
                char vm[2] = {(char)('a' + i % VMS), 0};

                assert_int_equal(ledger_charge(&ledger, i / VMS, vm, instance, i + 1, &charges[i]), 0);
                total += i + 1;
                assert_account(ledger_get_vm(&ledger, i / VMS, vm), i + 1, 1);
                assert_account(ledger.total, total, i + 1);
        }

        for (unsigned i = 0; i < N; i++) {
                unsigned k = i * 200 % N; /* 200 and 391 have no common factor: each once */
                char vm[2] = {(char)('a' + k % VMS), 0};
                LedgerAccount before = ledger_get_user(&ledger, k / VMS), after;

                ledger_refund(&charges[k]);
                total -= k + 1;
                after = ledger_get_user(&ledger, k / VMS);
                assert_int_equal(before.bytes - after.bytes, k + 1);
                assert_int_equal(before.n_leases - after.n_leases, 1);
                assert_account(ledger_get_vm(&ledger, k / VMS, vm), 0, 0);
                assert_account(ledger.total, total, N - i - 1);
        }

        assert_int_equal(instance->charge, 0);
        ledger_deinit(&ledger);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_books),    cmocka_unit_test(test_move), cmocka_unit_test(test_change),
                cmocka_unit_test(test_overflow), cmocka_unit_test(test_many),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
