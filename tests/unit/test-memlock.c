/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rule of one process's limit, against a kernel of one process: what prlimit() would let the broker do,
 * and what others do meanwhile.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/memlock.h"
#include "util/cleanup.h"

#define BASE UINT64_C(65536)
#define MORE UINT64_C(1000000)

/* The kernel. */
static struct {
        MemlockLimit limit;
        bool dead;
        bool may_read;
        bool may_set;
        bool wavers; /* its process changes it with every look */
        unsigned n_set;
} kernel;

static const Owner process = {.pid = 4711};

/* In host/memlock.c's place. */

bool memlock_limit_equal(const MemlockLimit *a, const MemlockLimit *b) {
        return a->soft == b->soft && a->hard == b->hard;
}

int memlock_limit_read(const Owner *owner, MemlockLimit *ret_limit) {
        assert_ptr_equal(owner, &process);
        if (kernel.dead)
                return MEMLOCK_E_NO_PROCESS;
        if (!kernel.may_read)
                return MEMLOCK_E_NOT_PERMITTED;
        if (kernel.wavers)
                kernel.limit.soft ^= 1;
        *ret_limit = kernel.limit;
        return 0;
}

int memlock_limit_replace(const Owner *owner, const MemlockLimit *expected, const MemlockLimit *limit) {
        MemlockLimit now;
        int r = memlock_limit_read(owner, &now);

        if (r)
                return r;
        if (expected && !memlock_limit_equal(&now, expected))
                return MEMLOCK_E_CHANGED;
        if (!kernel.may_set)
                return MEMLOCK_E_NOT_PERMITTED;
        assert_true(limit->soft <= limit->hard);
        kernel.limit = *limit;
        kernel.n_set++;
        return 0;
}

static int setup(_unused_ void **state) {
        kernel = (typeof(kernel)){
                .limit = {.soft = BASE, .hard = 2 * BASE},
                .may_read = true,
                .may_set = true,
        };
        return 0;
}

static void assert_limit(uint64_t soft, uint64_t hard) {
        assert_int_equal(kernel.limit.soft, soft);
        assert_int_equal(kernel.limit.hard, hard);
}

/* A lease more, and what is said then. */
static MemlockNews add(Memlock *memlock, uint64_t bytes, const char *state) {
        MemlockNews news;

        memlock_begin(memlock, &process, true);
        news = memlock_charge(memlock, &process, true, bytes);
        assert_string_equal(memlock_state_to_string(memlock->state), state);
        return news;
}

static MemlockNews take(Memlock *memlock, uint64_t bytes) {
        return memlock_refund(memlock, &process, true, bytes);
}

static void test_rule(_unused_ void **state) {
        Memlock memlock = MEMLOCK_NULL;

        assert_int_equal(add(&memlock, 10, "applied"), MEMLOCK_NEWS_NONE);
        assert_limit(BASE + 10, 2 * BASE);
        assert_int_equal(add(&memlock, MORE, "applied"), MEMLOCK_NEWS_NONE);
        assert_limit(BASE + 10 + MORE, BASE + 10 + MORE);
        assert_int_equal(take(&memlock, 10), MEMLOCK_NEWS_NONE);
        assert_limit(BASE + MORE, BASE + MORE);
        assert_int_equal(take(&memlock, MORE), MEMLOCK_NEWS_NONE);
        assert_limit(BASE, 2 * BASE);

        /* The next first lease finds another base. */
        kernel.limit = (MemlockLimit){.soft = 1, .hard = 1};
        assert_int_equal(add(&memlock, MORE, "applied"), MEMLOCK_NEWS_NONE);
        assert_limit(1 + MORE, 1 + MORE);
        (void)take(&memlock, MORE);
        assert_limit(1, 1);
}

static void test_unlimited(_unused_ void **state) {
        Memlock memlock = MEMLOCK_NULL;

        kernel.limit = (MemlockLimit){.soft = MEMLOCK_UNLIMITED, .hard = MEMLOCK_UNLIMITED};
        add(&memlock, MORE, "unlimited");
        take(&memlock, MORE);
        assert_limit(MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED);
        assert_int_equal(kernel.n_set, 0);

        /* Nearly: the sum is never taken for it. */
        kernel.limit.soft = MEMLOCK_UNLIMITED - 2;
        add(&memlock, MORE, "applied");
        assert_limit(MEMLOCK_UNLIMITED - 1, MEMLOCK_UNLIMITED);
        take(&memlock, MORE);
        kernel.limit.soft = MEMLOCK_UNLIMITED - 2;
        add(&memlock, 2, "applied");
        assert_limit(MEMLOCK_UNLIMITED - 1, MEMLOCK_UNLIMITED);
}

/* What is somebody else's stays so, until there is no lease any more; that it is, is told once. */
static void test_changed(_unused_ void **state) {
        Memlock memlock = MEMLOCK_NULL;

        add(&memlock, MORE, "applied");
        kernel.limit.soft--;
        kernel.n_set = 0;
        assert_int_equal(add(&memlock, 10, "unmanaged"), MEMLOCK_NEWS_CHANGED);
        assert_int_equal(add(&memlock, 10, "unmanaged"), MEMLOCK_NEWS_NONE);
        kernel.limit = (MemlockLimit){.soft = BASE + MORE + 20, .hard = MEMLOCK_UNLIMITED};
        assert_int_equal(take(&memlock, 10), MEMLOCK_NEWS_NONE);
        assert_int_equal(memlock.state, MEMLOCK_STATE_ALREADY_ENOUGH);
        assert_int_equal(kernel.n_set, 0);
        take(&memlock, MORE);
        take(&memlock, 10);
        assert_int_equal(kernel.n_set, 0);
        assert_limit(BASE + MORE + 20, MEMLOCK_UNLIMITED);

        /* That was then. */
        assert_int_equal(add(&memlock, 10, "applied"), MEMLOCK_NEWS_NONE);
        assert_limit(BASE + MORE + 30, MEMLOCK_UNLIMITED);
}

/* What is left after the last lease: @soft and @hard are what others have made of it. */
static void check_rest(uint64_t soft, uint64_t hard, uint64_t rest_soft, uint64_t rest_hard) {
        Memlock memlock = MEMLOCK_NULL;

        setup(NULL);
        add(&memlock, MORE, "applied");
        assert_limit(BASE + MORE, BASE + MORE);
        kernel.limit = (MemlockLimit){.soft = soft, .hard = hard};
        assert_int_equal(take(&memlock, MORE), MEMLOCK_NEWS_NONE);
        assert_limit(rest_soft, rest_hard);
}

static void test_rest(_unused_ void **state) {
        check_rest(BASE + MORE, BASE + MORE, BASE, 2 * BASE);
        /* Nobody needs a right to lower it, and gains nothing. */
        check_rest(BASE + MORE - 1, BASE + MORE, 2 * BASE, 2 * BASE);
        check_rest(BASE + MORE - 1, BASE + MORE - 1, 2 * BASE, 2 * BASE);
        check_rest(BASE, BASE + MORE, BASE, 2 * BASE);
        check_rest(1, 2, 1, 2);
        /* Who raises it has the right to. */
        check_rest(BASE, BASE + MORE + 1, BASE, BASE + MORE + 1);
        check_rest(MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED);
}

/* Who changes its limit all the time is not too quick for us. */
static void test_wavers(_unused_ void **state) {
        Memlock memlock = MEMLOCK_NULL;

        add(&memlock, MORE, "applied");
        kernel.wavers = true;
        take(&memlock, MORE);
        assert_int_equal(kernel.limit.hard, 2 * BASE);
        assert_true(kernel.limit.soft <= 2 * BASE);
}

static void test_not_permitted(_unused_ void **state) {
        Memlock memlock = MEMLOCK_NULL;

        kernel.may_set = false;
        assert_int_equal(add(&memlock, MORE, "no_capability"), MEMLOCK_NEWS_NONE);
        assert_int_equal(take(&memlock, MORE), MEMLOCK_NEWS_NONE);
        kernel.may_read = false;
        assert_int_equal(add(&memlock, MORE, "no_capability"), MEMLOCK_NEWS_NONE);
        assert_int_equal(take(&memlock, MORE), MEMLOCK_NEWS_NONE);
        assert_limit(BASE, 2 * BASE);

        /* It was raised, and cannot be brought back. */
        kernel.may_set = kernel.may_read = true;
        add(&memlock, MORE, "applied");
        kernel.may_set = false;
        assert_int_equal(add(&memlock, MORE, "no_capability"), MEMLOCK_NEWS_NONE);
        assert_int_equal(take(&memlock, MORE), MEMLOCK_NEWS_NONE);
        assert_int_equal(memlock.state, MEMLOCK_STATE_APPLIED);
        assert_int_equal(take(&memlock, MORE), MEMLOCK_NEWS_STUCK);
        assert_limit(BASE + MORE, BASE + MORE);
}

static void test_dead(_unused_ void **state) {
        Memlock memlock = MEMLOCK_NULL;

        add(&memlock, MORE, "applied");
        kernel.dead = true;
        kernel.n_set = 0;
        assert_int_equal(memlock_charge(&memlock, &process, true, 1), MEMLOCK_NEWS_NONE);
        assert_int_equal(take(&memlock, MORE), MEMLOCK_NEWS_NONE);
        assert_int_equal(take(&memlock, 1), MEMLOCK_NEWS_NONE);
        assert_int_equal(kernel.n_set, 0);
}

static void test_not_managed(_unused_ void **state) {
        Memlock memlock = MEMLOCK_NULL;

        memlock_begin(&memlock, &process, false);
        assert_int_equal(memlock_charge(&memlock, &process, false, MORE), MEMLOCK_NEWS_NONE);
        assert_int_equal(memlock.state, MEMLOCK_STATE_UNMANAGED);
        /* From now on they are: but this one has cared for itself. */
        add(&memlock, MORE, "unmanaged");
        take(&memlock, MORE);
        take(&memlock, MORE);
        assert_int_equal(kernel.n_set, 0);

        add(&memlock, MORE, "applied");
        assert_int_equal(memlock_charge(&memlock, &process, false, MORE), MEMLOCK_NEWS_NONE);
        assert_int_equal(memlock.state, MEMLOCK_STATE_UNMANAGED);
        assert_limit(BASE + MORE, BASE + MORE);
        assert_int_equal(memlock_refund(&memlock, &process, false, 2 * MORE), MEMLOCK_NEWS_NONE);
        assert_limit(BASE, 2 * BASE);
}

/* Two leases of an earlier broker, with what it wrote down, when the limit is @soft and @hard. */
static void check_resume(const MemlockBase *one, const MemlockBase *two, uint64_t soft, uint64_t hard,
                         const char *state, MemlockNews expected) {
        Memlock memlock = MEMLOCK_NULL;

        setup(NULL);
        kernel.limit = (MemlockLimit){.soft = soft, .hard = hard};
        memlock_restore(&memlock, one, 10);
        memlock_restore(&memlock, two, MORE);
        assert_true(memlock.resumes);
        assert_int_equal(memlock_resume(&memlock, &process, true), expected);
        assert_false(memlock.resumes);
        assert_string_equal(memlock_state_to_string(memlock.state), state);
        if (memlock.state == MEMLOCK_STATE_APPLIED) {
                assert_limit(BASE + 10 + MORE, BASE + 10 + MORE);
                take(&memlock, MORE + 10);
                assert_limit(BASE, 2 * BASE);
        } else {
                assert_int_equal(kernel.n_set, 0);
        }
}

static void test_resume(_unused_ void **state) {
        const MemlockBase base = {.limit = {.soft = BASE, .hard = 2 * BASE}},
                          changed = {.limit = base.limit, .changed = true},
                          other = {.limit = {.soft = BASE + 1, .hard = 2 * BASE}};
        const uint64_t all = BASE + 10 + MORE;

        check_resume(&base, &base, all, all, "applied", MEMLOCK_NEWS_NONE);
        check_resume(&base, &base, BASE, 2 * BASE, "applied", MEMLOCK_NEWS_NONE);
        check_resume(&base, &base, BASE + 10, 2 * BASE, "applied", MEMLOCK_NEWS_NONE);
        check_resume(&base, NULL, all, all, "applied", MEMLOCK_NEWS_NONE);
        check_resume(NULL, &base, all, all, "applied", MEMLOCK_NEWS_NONE);

        check_resume(&base, &base, all + 1, all + 1, "already_enough", MEMLOCK_NEWS_CHANGED);
        check_resume(&base, &base, all, all + 1, "already_enough", MEMLOCK_NEWS_CHANGED);
        check_resume(&base, &base, BASE - 1, 2 * BASE, "unmanaged", MEMLOCK_NEWS_CHANGED);
        check_resume(&base, &base, BASE, 2 * BASE - 1, "unmanaged", MEMLOCK_NEWS_CHANGED);
        check_resume(&changed, &base, all - 1, all - 1, "unmanaged", MEMLOCK_NEWS_NONE);
        check_resume(&base, &changed, all, all, "already_enough", MEMLOCK_NEWS_NONE);

        check_resume(NULL, NULL, all, all, "unmanaged", MEMLOCK_NEWS_NONE);
        check_resume(NULL, NULL, MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED, "unmanaged", MEMLOCK_NEWS_NONE);
        check_resume(&base, &other, all, all, "unmanaged", MEMLOCK_NEWS_NONE);
        check_resume(&other, &base, all, all, "unmanaged", MEMLOCK_NEWS_NONE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_rule, setup),
                cmocka_unit_test_setup(test_unlimited, setup),
                cmocka_unit_test_setup(test_changed, setup),
                cmocka_unit_test(test_rest),
                cmocka_unit_test_setup(test_wavers, setup),
                cmocka_unit_test_setup(test_not_permitted, setup),
                cmocka_unit_test_setup(test_dead, setup),
                cmocka_unit_test_setup(test_not_managed, setup),
                cmocka_unit_test(test_resume),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
