/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The rules about sizes and limits: each refusal beside the largest request that is granted. */

#include "tests/unit/policy-host.h"

static void test_representable(_unused_ void **state) {
        const RefusalFacts *facts;
        const Decision *d;
        PolicyRequest r = request("0");

        r.buffer_size = MIB(4) + 4096;
        d = ask(&r);
        assert_true(d->granted);
        assert_offer(&d->offer, host.zero, "0", MIB(4));
        assert_null(d->offer.limited_by); /* the field's fault, no limit's */

        r.exact = true;
        facts = assert_refused(&r, REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE);
        assert_int_equal(facts->requested, MIB(4) + 4096);
        assert_int_equal(facts->nearest, MIB(4));
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_GUEST);
        r.buffer_size = MIB(4) + 8192;
        assert_granted(&r, host.zero, "0");

        for (int exact = 0; exact < 2; exact++) {
                r.exact = exact;
                for (uint64_t size = 0; size <= 4095; size += 4095) {
                        r.buffer_size = size;
                        facts = assert_refused(&r, REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE);
                        assert_int_equal(facts->requested, size);
                        assert_int_equal(facts->nearest, 4096);
                        assert_counter(host.zero, "0", 4096, LEASE_MODE_GUEST);
                }
                r.buffer_size = 4096;
                assert_granted(&r, host.zero, "0");
        }
}

static void assert_limited(const PolicyRequest *r, uint64_t size, const char *limit) {
        const Decision *d = ask(r);

        assert_true(d->granted);
        assert_int_equal(d->offer.buffer_size, size);
        assert_int_equal(d->offer.charge, charge_lease(r->vcpus, size, HOST_PAGE));
        assert_string_equal(d->offer.limited_by, limit);
}

static void assert_exceeded(const PolicyRequest *r, const char *limit, uint64_t requested,
                            uint64_t available) {
        const RefusalFacts *facts = assert_refused(r, REFUSAL_LIMIT_EXCEEDED);

        assert_string_equal(facts->limit, limit);
        assert_int_equal(facts->requested, requested);
        assert_int_equal(facts->available, available);
}

static void test_buffer_limits(_unused_ void **state) {
        PolicyRequest r = request("0");

        host.model.limits.max_buffer_size = MIB(6); /* no power of two */
        r.buffer_size = MIB(6);
        assert_granted(&r, host.zero, "0");
        r.buffer_size = MIB(7);
        assert_limited(&r, MIB(4), "MaxBufferSize");
        r.exact = true;
        assert_exceeded(&r, "MaxBufferSize", MIB(7), MIB(6));
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_GUEST);

        host.zero->max_buffer_size = MIB(3);
        assert_exceeded(&r, "maxBufferSize", MIB(7), MIB(3));
        r.exact = false;
        assert_limited(&r, MIB(2), "maxBufferSize");
        host.zero->max_buffer_size = MIB(6); /* equal: the configuration's */
        assert_limited(&r, MIB(4), "MaxBufferSize");

        host.model.limits.max_buffer_size = 4095; /* not even the smallest */
        assert_exceeded(&r, "MaxBufferSize", MIB(7), 4095);
        assert_false(host.decision.has_counter_offer);
        host.model.limits.max_buffer_size = 4096;
        assert_limited(&r, 4096, "MaxBufferSize");
}

static void test_buffer_override(_unused_ void **state) {
        LimitOverride overrides[] = {{.vm = (char *)"web", .max_buffer_size = MIB(1)}};
        PolicyRequest r = request("0");

        host.model.limits.overrides = overrides;
        host.model.limits.n_overrides = 1;
        assert_limited(&r, MIB(1), "MaxBufferSize");
        r.vm_origin = VM_ORIGIN_CALLER;
        assert_granted(&r, host.zero, "0");
}

/* Each sum in turn is the one that is short; exactly enough is enough. */
static void test_memory_limits(_unused_ void **state) {
        PolicyRequest r = request("0"), exact = request("0");
        uint64_t four = charge_lease(2, MIB(4), HOST_PAGE), two = charge_lease(2, MIB(2), HOST_PAGE);
        struct {
                uint64_t *limit;
                const char *name;
                uint64_t used;
        } sums[] = {
                {&host.model.limits.max_memory_per_vm, "MaxMemoryPerVM", 1000},
                {&host.model.limits.max_memory_per_user, "MaxMemoryPerUser", 3000},
                {&host.model.limits.max_memory, "MaxMemory", 7000},
        };

        charge(1000, "web", host.zero, 1000);
        charge(1000, "db", host.zero, 2000);
        charge(1001, "web", host.zero, 4000);
        exact.exact = true;

        for (size_t i = 0; i < ELEMENTS_OF(sums); i++) {
                uint64_t before = *sums[i].limit;

                *sums[i].limit = sums[i].used + four;
                assert_granted(&r, host.zero, "0");
                assert_granted(&exact, host.zero, "0");

                *sums[i].limit = sums[i].used + four - 1;
                assert_limited(&r, MIB(2), sums[i].name);
                assert_exceeded(&exact, sums[i].name, four, four - 1);
                assert_counter(host.zero, "0", MIB(2), LEASE_MODE_GUEST);
                assert_string_equal(host.decision.counter_offer.limited_by, sums[i].name);

                *sums[i].limit = sums[i].used + two - 1;
                assert_limited(&r, MIB(1), sums[i].name);

                *sums[i].limit = sums[i].used + 10; /* not even the smallest */
                assert_exceeded(&r, sums[i].name, four, 10);
                assert_false(host.decision.has_counter_offer);

                *sums[i].limit = sums[i].used - 1; /* lowered below what is used */
                assert_exceeded(&r, sums[i].name, four, 0);
                *sums[i].limit = before;
        }
}

/* Several are short: exact names the first in order, otherwise the tightest decides. */
static void test_memory_order(_unused_ void **state) {
        PolicyRequest r = request("0");

        host.model.limits.max_memory_per_vm = MIB(6);
        host.model.limits.max_memory_per_user = MIB(3);
        host.model.limits.max_memory = MIB(5);
        assert_limited(&r, MIB(1), "MaxMemoryPerUser");
        r.exact = true;
        assert_exceeded(&r, "MaxMemoryPerVM", charge_lease(2, MIB(4), HOST_PAGE), MIB(6));
        r.buffer_size = MIB(1);
        assert_granted(&r, host.zero, "0");

        /* The limit on the buffer comes before all of them, and both may cut. */
        r.buffer_size = MIB(128);
        assert_exceeded(&r, "MaxBufferSize", MIB(128), MIB(64));
        r.exact = false;
        assert_limited(&r, MIB(1), "MaxMemoryPerUser");
}

/* 1 << 63 bytes are no charge, whatever the limits. */
static void test_saturated(_unused_ void **state) {
        Limits *limits = &host.model.limits;
        PolicyRequest r = request("0");

        limits->max_buffer_size = limits->max_memory_per_vm = limits->max_memory_per_user =
                limits->max_memory = INT64_MAX;
        r.vcpus = 4096;
        r.buffer_size = UINT64_C(1) << 51;
        r.exact = true;
        assert_exceeded(&r, "MaxMemoryPerVM", CHARGE_SATURATED, CHARGE_SATURATED - 1);
        r.exact = false;
        assert_limited(&r, UINT64_C(1) << 50, "MaxMemoryPerVM");
}

static void test_counts(_unused_ void **state) {
        PolicyRequest r = request("0");

        for (size_t i = 0; i < 3; i++)
                charge(1000, "web", host.zero, 1);
        assert_granted(&r, host.zero, "0");
        charge(1000, "db", host.zero, 1);
        assert_exceeded(&r, "MaxLeasesPerUser", 1, 0);
        assert_false(host.decision.has_counter_offer);

        r.uid = 1001;
        assert_granted(&r, host.zero, "0");
        charge(1002, "web", host.zero, 1);
        charge(1002, "web", host.zero, 1);
        assert_exceeded(&r, "MaxLeases", 1, 0);
        r.uid = 1000; /* both: the first in order */
        assert_exceeded(&r, "MaxLeases", 1, 0);
        host.model.limits.max_leases++;
        r.uid = 1001;
        assert_granted(&r, host.zero, "0");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_representable), TEST(test_buffer_limits), TEST(test_buffer_override),
                TEST(test_memory_limits), TEST(test_memory_order),  TEST(test_saturated),
                TEST(test_counts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
