/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which instance a request is judged by, and the rules about instances, CPUs and other leases: each refusal
 * beside the nearest request that is granted.
 */

#include "tests/unit/policy-host.h"

static void test_names(_unused_ void **state) {
        static const char *const names[] = {
                "NoSuchInstance", "InstanceNotReady",           "GuestUnsupported", "NoInstanceForCpus",
                "NotAssigned",    "BufferSizeNotRepresentable", "LimitExceeded",    "ArbitrationUnavailable",
                "Busy",
        };

        assert_int_equal(ELEMENTS_OF(names), _REFUSAL_MAX);
        for (RefusalKind kind = 0; kind < _REFUSAL_MAX; kind++)
                assert_string_equal(refusal_kind_to_string(kind), names[kind]);
}

/* As the configuration has them, and state files of leases. */
static void test_limit_names(_unused_ void **state) {
        static const char *const names[] = {
                "maxBufferSize", "MaxBufferSize", "MaxMemoryPerVM",   "MaxMemoryPerUser",
                "MaxMemory",     "MaxLeases",     "MaxLeasesPerUser",
        };

        for (size_t i = 0; i < ELEMENTS_OF(names); i++)
                assert_string_equal(limit_from_string(names[i]), names[i]);
        assert_null(limit_from_string("MaxConnections"));
        assert_null(limit_from_string("maxmemory"));
        assert_null(limit_from_string(""));
}

static void test_no_instances(_unused_ void **state) {
        PolicyRequest r = request(NULL), by_cpus = request("0");

        assert_null(assert_refused(&r, REFUSAL_NO_SUCH_INSTANCE)->instance);
        assert_false(host.decision.has_counter_offer);
        assert_cpus(&assert_refused(&by_cpus, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus, "0");
        add_instance(0, "0");
        assert_granted(&r, host.model.instances.entries[0], "0");
        assert_granted(&by_cpus, host.model.instances.entries[0], "0");
}

static void test_choose_anywhere(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        assert_granted(&r, host.zero, "0-3"); /* a tie: the lower index */

        charge(1, "x", host.zero, 10);
        assert_granted(&r, host.one, "4-11"); /* the smaller charge */
        charge(1, "x", host.one, 10);
        assert_granted(&r, host.zero, "0-3");
        charge(1, "x", host.one, 1);

        /* An instance that would be refused is passed over, whatever its charge. */
        occupy(LEASE_MODE_EXCLUSIVE, "3");
        assert_granted(&r, host.one, "4-11");
        host.one->guest = GUEST_SUPPORT_NO;
        assert_cpus(&assert_refused(&r, REFUSAL_BUSY)->cpus, "3");
        host.one->guest = GUEST_SUPPORT_YES;
        assert_granted(&r, host.one, "4-11");
        host.one->state = INSTANCE_STATE_PARTIAL;
        assert_refused(&r, REFUSAL_BUSY);
}

/* Of instances that refuse, the one that is nearest to a grant: Busy can be waited for. */
static void test_choose_least_bad(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        assign("0-3", ASSIGNMENT_OWNER_HOST, NULL);
        occupy(LEASE_MODE_EXCLUSIVE, "4-11");
        assert_cpus(&assert_refused(&r, REFUSAL_BUSY)->cpus, "4-11");
        assert_offer(&host.decision.offer, host.one, "4-11", MIB(4));
        assert_false(host.decision.has_counter_offer);
}

static void test_choose_named(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        r.instance = "arm_spe_1";
        assert_granted(&r, host.one, "4-11");

        r.instance = "arm_spe_2";
        assert_null(assert_refused(&r, REFUSAL_NO_SUCH_INSTANCE)->instance);
        assert_counter(host.zero, "0-3", MIB(4), LEASE_MODE_GUEST);

        r = request("5");
        r.instance = "arm_spe_2";
        assert_refused(&r, REFUSAL_NO_SUCH_INSTANCE);
        assert_counter(host.one, "5", MIB(4), LEASE_MODE_GUEST); /* the CPUs are as meant */
        r.instance = "arm_spe_1";
        assert_granted(&r, host.one, "5");
}

static void test_choose_by_cpus(_unused_ void **state) {
        PolicyRequest r = request("5-6");

        assert_granted(&r, host.one, "5-6");
        r.cpus = cpus("3-4"); /* spans */
        assert_cpus(&assert_refused(&r, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus, "3-4");
        r.cpus = cpus("3");
        assert_granted(&r, host.zero, "3");

        r.cpus = cpus("11-12"); /* unknown to all */
        assert_refused(&r, REFUSAL_NO_INSTANCE_FOR_CPUS);
        assert_counter(host.one, "11", MIB(4), LEASE_MODE_GUEST);

        r.cpus = cpus("11");
        cpuset_remove(&host.one->effective, 11); /* off line */
        assert_cpus(&assert_refused(&r, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus, "11");
        cpuset_add(&host.one->effective, 11);
        assert_granted(&r, host.one, "11");

        r.instance = "arm_spe_0"; /* the other one's */
        assert_cpus(&assert_refused(&r, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus, "11");
        assert_counter(host.one, "11", MIB(4), LEASE_MODE_GUEST);
        r.instance = "arm_spe_1";
        assert_granted(&r, host.one, "11");
}

/* The affinity counts where no CPUs are named, and only there. */
static void test_affinity(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        r.has_affinity = true;
        r.affinity = cpus("6-7,20");
        assert_granted(&r, host.one, "6-7");
        r.instance = "arm_spe_0";
        assert_cpus(&assert_refused(&r, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus, "6-7,20");
        assert_counter(host.one, "6-7", MIB(4), LEASE_MODE_GUEST);

        r = request("2");
        r.has_affinity = true;
        r.affinity = cpus("6-7");
        assert_granted(&r, host.zero, "2");

        r = request(NULL);
        host.zero->effective = CPUSET_NULL; /* all off line */
        r.instance = "arm_spe_0";
        assert_cpus(&assert_refused(&r, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus, "0-3");
}

static void test_not_ready(_unused_ void **state) {
        PolicyRequest r = request(NULL), by_cpus = request("0");

        host.zero->state = INSTANCE_STATE_PARTIAL;
        assert_granted(&r, host.one, "4-11");
        assert_ptr_equal(assert_refused(&by_cpus, REFUSAL_INSTANCE_NOT_READY)->instance, host.zero);
        r.instance = "arm_spe_0";
        assert_ptr_equal(assert_refused(&r, REFUSAL_INSTANCE_NOT_READY)->instance, host.zero);
        assert_counter(host.one, "4-11", MIB(4), LEASE_MODE_GUEST);

        host.zero->state = INSTANCE_STATE_GONE;
        assert_refused(&r, REFUSAL_INSTANCE_NOT_READY);

        /* None is ready: the lowest speaks for all; two that hold the same CPUs say nothing. */
        r.instance = NULL;
        host.one->state = INSTANCE_STATE_PARTIAL;
        assert_ptr_equal(assert_refused(&r, REFUSAL_INSTANCE_NOT_READY)->instance, host.zero);
        assert_false(host.decision.has_counter_offer);
        cpuset_add(&host.one->cpus, 0);
        assert_refused(&by_cpus, REFUSAL_NO_INSTANCE_FOR_CPUS);

        host.zero->state = INSTANCE_STATE_READY;
        assert_granted(&r, host.zero, "0-3");
        assert_granted(&by_cpus, host.zero, "0");
}

static void test_guest_unsupported(_unused_ void **state) {
        PolicyRequest r = request(NULL), by_cpus = request("0");

        host.zero->guest = GUEST_SUPPORT_NO;
        assert_granted(&r, host.one, "4-11");
        assert_ptr_equal(assert_refused(&by_cpus, REFUSAL_GUEST_UNSUPPORTED)->instance, host.zero);
        host.one->guest = GUEST_SUPPORT_NO;
        assert_ptr_equal(assert_refused(&r, REFUSAL_GUEST_UNSUPPORTED)->instance, host.zero);
        assert_false(host.decision.has_counter_offer);

        /* The ready one says more than one that is not. */
        host.zero->state = INSTANCE_STATE_PARTIAL;
        assert_ptr_equal(assert_refused(&r, REFUSAL_GUEST_UNSUPPORTED)->instance, host.one);
        host.one->guest = GUEST_SUPPORT_UNKNOWN;
        assert_granted(&r, host.one, "4-11");
}

static void test_not_assigned(_unused_ void **state) {
        const RefusalFacts *facts;
        PolicyRequest r = request("4-9"), any = request(NULL);

        assign("5", ASSIGNMENT_OWNER_GUEST, "db");
        assign("6", ASSIGNMENT_OWNER_HOST, NULL);
        assign("7", ASSIGNMENT_OWNER_ANY, "db");
        assign("8", ASSIGNMENT_OWNER_GUEST, "db");
        assign("9", ASSIGNMENT_OWNER_GUEST, "web");

        facts = assert_refused(&r, REFUSAL_NOT_ASSIGNED);
        assert_cpus(&facts->cpus, "5,8"); /* those that are like the first */
        assert_int_equal(facts->owner, ASSIGNMENT_OWNER_GUEST);
        assert_string_equal(facts->vm, "db");
        assert_false(facts->needs_own_cpus);
        assert_counter(host.one, "4,9", MIB(4), LEASE_MODE_GUEST);

        r.cpus = cpus("6");
        facts = assert_refused(&r, REFUSAL_NOT_ASSIGNED);
        assert_int_equal(facts->owner, ASSIGNMENT_OWNER_HOST);
        assert_null(facts->vm);
        r.cpus = cpus("4,9");
        assert_granted(&r, host.one, "4,9");

        /* Unnamed CPUs are those that are left; a claimed name gets nobody's. */
        any.instance = "arm_spe_1";
        assert_granted(&any, host.one, "4,9-11");
        any.vm = "db";
        assert_granted(&any, host.one, "4-5,7-8,10-11");
        any.vm_origin = VM_ORIGIN_CALLER;
        assert_granted(&any, host.one, "4,10-11");

        any.instance = "arm_spe_0";
        assert_granted(&any, host.zero, "0-3");
        host.model.assignments.default_owner = ASSIGNMENT_OWNER_NONE;
        facts = assert_refused(&any, REFUSAL_NOT_ASSIGNED);
        assert_cpus(&facts->cpus, "0-3");
        assert_int_equal(facts->owner, ASSIGNMENT_OWNER_NONE);
        assert_null(facts->vm);
}

static void test_exclusive(_unused_ void **state) {
        const RefusalFacts *facts;
        PolicyRequest r = request("4-5"), any = request(NULL);

        r.mode = any.mode = LEASE_MODE_EXCLUSIVE;
        facts = assert_refused(&r, REFUSAL_NOT_ASSIGNED);
        assert_true(facts->needs_own_cpus);
        assert_cpus(&facts->cpus, "4-5");
        assert_int_equal(facts->owner, ASSIGNMENT_OWNER_ANY); /* whose they are instead */
        assert_null(facts->vm);
        assert_counter(host.one, "4-5", MIB(4), LEASE_MODE_GUEST);
        assert_true(assert_refused(&any, REFUSAL_NOT_ASSIGNED)->needs_own_cpus);

        r.administrator = true;
        assert_granted(&r, host.one, "4-5");
        r.administrator = false;

        assign("5-6", ASSIGNMENT_OWNER_GUEST, "web");
        assert_cpus(&assert_refused(&r, REFUSAL_NOT_ASSIGNED)->cpus, "4");
        assert_counter(host.one, "5", MIB(4), LEASE_MODE_EXCLUSIVE);
        r.cpus = cpus("5-6");
        assert_granted(&r, host.one, "5-6");
        assert_granted(&any, host.one, "5-6"); /* only these, on the only instance that has some */
        any.administrator = true;
        assert_granted(&any, host.zero, "0-3");

        r.vm_origin = VM_ORIGIN_CALLER;
        assert_false(assert_refused(&r, REFUSAL_NOT_ASSIGNED)->needs_own_cpus);
}

static void test_busy(_unused_ void **state) {
        static const struct {
                LeaseMode held, asked;
                bool busy;
        } table[] = {
                {LEASE_MODE_EXCLUSIVE, LEASE_MODE_EXCLUSIVE, true},
                {LEASE_MODE_EXCLUSIVE, LEASE_MODE_GUEST, true},
                {LEASE_MODE_EXCLUSIVE, LEASE_MODE_SHARED, true},
                {LEASE_MODE_GUEST, LEASE_MODE_EXCLUSIVE, true},
                {LEASE_MODE_GUEST, LEASE_MODE_GUEST, false},
                {LEASE_MODE_GUEST, LEASE_MODE_SHARED, false},
                {LEASE_MODE_SHARED, LEASE_MODE_EXCLUSIVE, true},
                {LEASE_MODE_SHARED, LEASE_MODE_GUEST, false},
                {LEASE_MODE_SHARED, LEASE_MODE_SHARED, false},
        };

        for (size_t i = 0; i < ELEMENTS_OF(table); i++) {
                PolicyRequest r = request("0-1");
                CpuSet held = cpus("1-2");
                const RefusalFacts *facts;
                Claims ahead = CLAIMS_NULL;

                r.mode = table[i].asked;
                r.administrator = true;

                /* What a lease forbids, an earlier waiter does. */
                claims_add(&ahead, table[i].held, &held);
                assert_int_equal(ask_after(&r, &ahead)->granted, !table[i].busy);
                if (table[i].busy) {
                        facts = &host.decision.refusals[0];
                        assert_int_equal(facts->kind, REFUSAL_BUSY);
                        assert_true(facts->by_claim);
                        assert_cpus(&facts->cpus, "1");
                }

                occupancy_add(&host.model.occupancy, table[i].held, &held);
                if (table[i].busy) {
                        facts = assert_refused(&r, REFUSAL_BUSY);
                        assert_false(facts->by_claim);
                        assert_cpus(&facts->cpus, "1");
                        assert_offer(&host.decision.offer, host.zero, "0-1", MIB(4)); /* what it waits for */
                        assert_counter(host.zero, "0", MIB(4), table[i].asked);

                        ahead = CLAIMS_NULL;
                        held = cpus("0,11");
                        claims_add(&ahead, table[i].held, &held);
                        ask_after(&r, &ahead);
                        assert_cpus(&host.decision.refusals[0].cpus, "0-1"); /* both */
                        assert_true(host.decision.refusals[0].by_claim);
                        held = cpus("1-2");
                } else
                        assert_granted(&r, host.zero, "0-1");
                r.cpus = cpus("0");
                assert_granted(&r, host.zero, "0");
                occupancy_remove(&host.model.occupancy, table[i].held, &held);
        }
}

/* Everything that is wrong is told, in order. */
static void test_all_refusals(_unused_ void **state) {
        static const RefusalKind on_ready[] = {
                REFUSAL_GUEST_UNSUPPORTED,
                REFUSAL_NO_INSTANCE_FOR_CPUS,
                REFUSAL_NOT_ASSIGNED,
                REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE,
                REFUSAL_LIMIT_EXCEEDED,
                REFUSAL_ARBITRATION_UNAVAILABLE,
                REFUSAL_BUSY,
        };
        static const RefusalKind on_partial[] = {
                REFUSAL_INSTANCE_NOT_READY,
                REFUSAL_GUEST_UNSUPPORTED,
                REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE,
                REFUSAL_LIMIT_EXCEEDED,
                REFUSAL_ARBITRATION_UNAVAILABLE,
        };
        static const RefusalKind on_none[] = {
                REFUSAL_NO_SUCH_INSTANCE,
                REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE,
                REFUSAL_LIMIT_EXCEEDED,
                REFUSAL_ARBITRATION_UNAVAILABLE,
        };
        PolicyRequest r = request("2-4");
        const Decision *d;

        host.zero->guest = GUEST_SUPPORT_NO;
        assign("2", ASSIGNMENT_OWNER_HOST, NULL);
        occupy(LEASE_MODE_EXCLUSIVE, "3");
        r.instance = "arm_spe_0";
        r.exact = true;
        r.buffer_size = MIB(128) + 1;
        host.model.unprotected_reason = "no hand in this kernel";

        d = ask(&r);
        assert_int_equal(d->n_refusals, ELEMENTS_OF(on_ready));
        for (size_t i = 0; i < ELEMENTS_OF(on_ready); i++)
                assert_int_equal(d->refusals[i].kind, on_ready[i]);
        assert_false(d->has_offer);
        assert_counter(host.one, "4", MIB(64), LEASE_MODE_SHARED);

        host.zero->state = INSTANCE_STATE_PARTIAL;
        d = ask(&r);
        assert_int_equal(d->n_refusals, ELEMENTS_OF(on_partial));
        for (size_t i = 0; i < ELEMENTS_OF(on_partial); i++)
                assert_int_equal(d->refusals[i].kind, on_partial[i]);

        r.instance = "arm_spe_9";
        d = ask(&r);
        assert_int_equal(d->n_refusals, ELEMENTS_OF(on_none));
        for (size_t i = 0; i < ELEMENTS_OF(on_none); i++)
                assert_int_equal(d->refusals[i].kind, on_none[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_limit_names),
                cmocka_unit_test_setup_teardown(test_no_instances, set_up_empty, tear_down),
                TEST(test_choose_anywhere),
                TEST(test_choose_least_bad),
                TEST(test_choose_named),
                TEST(test_choose_by_cpus),
                TEST(test_affinity),
                TEST(test_not_ready),
                TEST(test_guest_unsupported),
                TEST(test_not_assigned),
                TEST(test_exclusive),
                TEST(test_busy),
                TEST(test_all_refusals),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
