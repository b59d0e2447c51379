/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/lease-walk.h"
#include "broker/lease.h"
#include "util/cleanup.h"

#define N 6

typedef struct Fixture {
        LeaseTable table;
        Lease leases[N];
        LeaseWalk walk;
} Fixture;

static void add(Fixture *f, unsigned i) {
        TAILQ_INSERT_TAIL(&f->table.all, &f->leases[i], link);
}

static void drop(Fixture *f, unsigned i) {
        lease_walks_skip(&f->table, &f->leases[i]);
        TAILQ_REMOVE(&f->table.all, &f->leases[i], link);
        f->leases[i] = (Lease){0};
}

static void expect(Fixture *f, unsigned i) {
        assert_ptr_equal(lease_walk_next(&f->walk), &f->leases[i]);
}

static void begin(Fixture *f, unsigned n) {
        *f = (Fixture){0};
        lease_table_init(&f->table);
        for (unsigned i = 0; i < n; i++)
                add(f, i);
        lease_walk_begin(&f->walk, &f->table);
}

static void end(Fixture *f) {
        assert_null(lease_walk_next(&f->walk));
        assert_null(lease_walk_next(&f->walk));
        lease_walk_end(&f->walk);
        assert_true(LIST_EMPTY(&f->table.walks));
}

static void test_all(_unused_ void **state) {
        static Fixture f;

        begin(&f, N);
        for (unsigned i = 0; i < N; i++)
                expect(&f, i);
        end(&f);
        begin(&f, 0);
        end(&f);
}

/* Those that have been met, the next one, several next ones, the last one, all. */
static void test_gone(_unused_ void **state) {
        static Fixture f;

        begin(&f, N);
        expect(&f, 0);
        drop(&f, 0);
        expect(&f, 1);
        drop(&f, 2);
        drop(&f, 3);
        expect(&f, 4);
        drop(&f, 5);
        end(&f);

        begin(&f, N);
        for (unsigned i = 0; i < N; i++)
                drop(&f, i);
        end(&f);
}

/* It meets those that come behind the last one, too. */
static void test_come(_unused_ void **state) {
        static Fixture f;

        begin(&f, 2);
        expect(&f, 0);
        add(&f, 2);
        drop(&f, 1);
        add(&f, 3);
        expect(&f, 2);
        expect(&f, 3);
        assert_null(lease_walk_next(&f.walk));
        add(&f, 4);
        expect(&f, 4);
        drop(&f, 4);
        end(&f);
}

static void test_several(_unused_ void **state) {
        static Fixture f;
        LeaseWalk other;

        begin(&f, N);
        expect(&f, 0);
        lease_walk_begin(&other, &f.table);
        drop(&f, 0);
        drop(&f, 1);
        assert_ptr_equal(lease_walk_next(&other), &f.leases[2]);
        drop(&f, 3);
        assert_ptr_equal(lease_walk_next(&other), &f.leases[4]);
        lease_walk_end(&other);
        drop(&f, 5);
        expect(&f, 2);
        expect(&f, 4);
        end(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all),
                cmocka_unit_test(test_gone),
                cmocka_unit_test(test_come),
                cmocka_unit_test(test_several),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
