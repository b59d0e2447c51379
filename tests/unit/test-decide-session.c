/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Host sessions in a decision: when they are in the way, where a lease goes instead, and what it would be
 * offered; and the level that cannot be had. */

#include "tests/unit/policy-host.h"

static const char reason[] = "no hand in this kernel";

static void profile(SessionKind kind, const char *text) {
        CpuSet set = cpus(text);

        cpuset_or(kind == SESSION_KIND_CPU ? &host.model.sessions.cpu_wide : &host.model.sessions.task_bound,
                  &set);
}

static const RefusalFacts *assert_busy(const PolicyRequest *r, const char *text) {
        const RefusalFacts *facts = assert_refused(r, REFUSAL_BUSY);

        assert_cpus(&facts->cpus, text);
        return facts;
}

static void test_cpu_wide(_unused_ void **state) {
        PolicyRequest r = request("0-1");

        r.administrator = true;
        profile(SESSION_KIND_CPU, "1-2");
        assert_true(assert_busy(&r, "1")->by_session);
        assert_false(host.decision.refusals[0].by_claim);
        assert_offer(&host.decision.offer, host.zero, "0-1", MIB(4)); /* what it waits for */
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_GUEST);
        r.mode = LEASE_MODE_EXCLUSIVE;
        assert_true(assert_busy(&r, "1")->by_session);
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_EXCLUSIVE);
        r.mode = LEASE_MODE_SHARED;
        assert_granted(&r, host.zero, "0-1");
        r = request("0,3");
        assert_granted(&r, host.zero, "0,3");
}

/* A task's event is off while a VCPU runs: only exclusive leases, and CPUs that are the guests', know none.
 */
static void test_task_bound(_unused_ void **state) {
        PolicyRequest r = request("0-1"), exclusive = request("0-1"), shared = request("0-1");

        exclusive.mode = LEASE_MODE_EXCLUSIVE;
        exclusive.administrator = true;
        shared.mode = LEASE_MODE_SHARED;
        profile(SESSION_KIND_TASK, "1-2");
        assert_granted(&r, host.zero, "0-1");
        assert_true(assert_busy(&exclusive, "1")->by_session);
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_EXCLUSIVE);

        assign("1", ASSIGNMENT_OWNER_ANY, "web");
        assert_granted(&r, host.zero, "0-1");
        assign("1-3", ASSIGNMENT_OWNER_GUEST, NULL);
        assert_true(assert_busy(&r, "1")->by_session);
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_GUEST);
        assert_granted(&shared, host.zero, "0-1");
        r.cpus = cpus("0,3");
        assert_granted(&r, host.zero, "0,3");

        assert_true(assignment_table_clear(&host.model.assignments, &(CpuSet){.words = {0xe}},
                                           ASSIGNMENT_ORIGIN_PERSISTENT) == 0);
        host.model.assignments.default_owner = ASSIGNMENT_OWNER_GUEST;
        r.cpus = cpus("0-1");
        assert_true(assert_busy(&r, "1")->by_session);
}

/* The owner's own threads are what its events are about. */
static void test_own(_unused_ void **state) {
        PolicyRequest r = request("0-1"), other = r;

        profile(SESSION_KIND_TASKCPU, "1-3");
        r.own_sessions = cpus("1");
        assert_true(assert_busy(&r, "1")->by_session);
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_GUEST);
        assert_granted(&other, host.zero, "0-1");
        r.mode = LEASE_MODE_SHARED;
        assert_granted(&r, host.zero, "0-1");
        r = request("2");
        r.own_sessions = cpus("1,3");
        assert_granted(&r, host.zero, "2");
}

/* What perf itself would refuse to reserve is in the way whatever is seen there. */
static void test_unholdable(_unused_ void **state) {
        PolicyRequest r = request("0-1");

        host.model.sessions.unholdable = cpus("0-3");
        assert_true(assert_busy(&r, "0-1")->by_session);
        assert_counter(host.one, "4-11", MIB(4), LEASE_MODE_GUEST);
        r.mode = LEASE_MODE_SHARED;
        assert_granted(&r, host.zero, "0-1");
}

/* All that stands in the way is told at once, each with its name. */
static void test_together(_unused_ void **state) {
        PolicyRequest r = request("0-3");
        Claims ahead = CLAIMS_NULL;
        CpuSet claimed = cpus("2");
        const RefusalFacts *facts = host.decision.refusals;

        profile(SESSION_KIND_CPU, "1");
        occupy(LEASE_MODE_EXCLUSIVE, "0");
        assert_busy(&r, "0-1");
        claims_add(&ahead, LEASE_MODE_EXCLUSIVE, &claimed);
        ask_after(&r, &ahead);
        assert_cpus(&facts->cpus, "0-2");
        assert_true(facts->by_claim && facts->by_session);
        assert_counter(host.zero, "3", MIB(4), LEASE_MODE_GUEST);

        r.cpus = cpus("0,2");
        ask_after(&r, &ahead);
        assert_cpus(&facts->cpus, "0,2");
        assert_true(facts->by_claim && !facts->by_session);
}

/* An instance that nobody profiles wins, whatever is charged to it; with none, the free CPUs are offered. */
static void test_choose(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        charge(1, "x", host.one, 10);
        assert_granted(&r, host.zero, "0-3");
        profile(SESSION_KIND_CPU, "2");
        assert_granted(&r, host.one, "4-11");
        profile(SESSION_KIND_CPU, "4-7");
        assert_true(assert_busy(&r, "2")->by_session);
        assert_offer(&host.decision.offer, host.zero, "0-3", MIB(4));
        assert_counter(host.one, "8-11", MIB(4), LEASE_MODE_GUEST); /* it has most that are free */

        r.instance = "arm_spe_0";
        assert_busy(&r, "2");
        assert_counter(host.zero, "0-1,3", MIB(4), LEASE_MODE_GUEST);
}

/* Fewer CPUs, a milder mode, other places: all come before a lease that is not protected. */
static void test_shared_is_last(_unused_ void **state) {
        PolicyRequest r = request("0-1");

        r.administrator = true;
        r.mode = LEASE_MODE_EXCLUSIVE;
        profile(SESSION_KIND_TASK, "0-3");
        assert_busy(&r, "0-1");
        assert_counter(host.zero, "0-1", MIB(4), LEASE_MODE_GUEST);
        profile(SESSION_KIND_CPU, "0-3");
        assert_busy(&r, "0-1");
        assert_counter(host.one, "4-11", MIB(4), LEASE_MODE_EXCLUSIVE);
        profile(SESSION_KIND_TASK, "4-11");
        assert_busy(&r, "0-1");
        assert_counter(host.one, "4-11", MIB(4), LEASE_MODE_GUEST);
        profile(SESSION_KIND_CPU, "4-10");
        assert_busy(&r, "0-1");
        assert_counter(host.one, "11", MIB(4), LEASE_MODE_GUEST);

        profile(SESSION_KIND_CPU, "11");
        assert_busy(&r, "0-1");
        assert_counter(host.zero, "0-1", MIB(4), LEASE_MODE_SHARED);

        /* Together with the others, where it alone does not do. */
        r.exact = true;
        r.buffer_size = MIB(65);
        occupy(LEASE_MODE_EXCLUSIVE, "0");
        ask(&r);
        assert_counter(host.zero, "1", MIB(64), LEASE_MODE_SHARED);
        occupy(LEASE_MODE_EXCLUSIVE, "1-11");
        ask(&r);
        assert_false(host.decision.has_counter_offer);
}

/* To go without protection is enough: the instance is then chosen as ever, not for most CPUs. */
static void test_shared_alone(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        profile(SESSION_KIND_CPU, "0-11");
        assert_busy(&r, "0-3");
        assert_counter(host.zero, "0-3", MIB(4), LEASE_MODE_SHARED);

        r.mode = LEASE_MODE_EXCLUSIVE; /* and the right to be exclusive is not needed any more */
        assert_refused(&r, REFUSAL_NOT_ASSIGNED);
        assert_counter(host.zero, "0-3", MIB(4), LEASE_MODE_SHARED);
}

/* CPUs that the owner may not run on are no reason to think that there is something protected left. */
static void test_shared_within_affinity(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        r.has_affinity = true;
        r.affinity = cpus("0-1");
        profile(SESSION_KIND_CPU, "0-3");
        assert_busy(&r, "0-1");
        assert_counter(host.zero, "0-1", MIB(4), LEASE_MODE_SHARED);

        r.has_cpus = true; /* the affinity counts again if the CPUs are given up */
        r.cpus = cpus("2-3");
        assert_busy(&r, "2-3");
        assert_counter(host.zero, "2-3", MIB(4), LEASE_MODE_SHARED);
}

static void test_unprotected(_unused_ void **state) {
        PolicyRequest r = request("0-1"), shared = request("0-1"), large = request("0-1");

        r.administrator = true;
        shared.mode = LEASE_MODE_SHARED;
        large.exact = true;
        large.buffer_size = MIB(65);
        assert_granted(&r, host.zero, "0-1");
        host.model.unprotected_reason = reason;
        for (LeaseMode mode = LEASE_MODE_EXCLUSIVE; mode < LEASE_MODE_SHARED; mode++) {
                r.mode = mode;
                assert_ptr_equal(assert_refused(&r, REFUSAL_ARBITRATION_UNAVAILABLE)->reason, reason);
                assert_false(host.decision.has_offer); /* nothing to wait for */
                assert_counter(host.zero, "0-1", MIB(4), LEASE_MODE_SHARED);
        }
        assert_granted(&shared, host.zero, "0-1");

        /* After the limits, before Busy. */
        ask(&large);
        assert_int_equal(host.decision.n_refusals, 2);
        assert_int_equal(host.decision.refusals[0].kind, REFUSAL_LIMIT_EXCEEDED);
        assert_int_equal(host.decision.refusals[1].kind, REFUSAL_ARBITRATION_UNAVAILABLE);
        assert_null(host.decision.refusals[0].reason);
        assert_counter(host.zero, "0-1", MIB(64), LEASE_MODE_SHARED);
        occupy(LEASE_MODE_EXCLUSIVE, "1");
        ask(&r);
        assert_int_equal(host.decision.n_refusals, 2);
        assert_int_equal(host.decision.refusals[0].kind, REFUSAL_ARBITRATION_UNAVAILABLE);
        assert_int_equal(host.decision.refusals[1].kind, REFUSAL_BUSY);
        assert_false(host.decision.has_offer);
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_SHARED);
}

static const Decision *move(const PolicyRequest *r, const char *held) {
        CpuSet set = cpus(held);

        memset(&host.decision, 0xa5, sizeof(host.decision));
        decide_move(&host.model, r, host.zero, &set, NULL, &host.decision);
        return &host.decision;
}

static void assert_not_moved(const PolicyRequest *r, const char *held, RefusalKind kind, const char *text) {
        assert_false(move(r, held)->granted);
        assert_int_equal(host.decision.n_refusals, 1);
        assert_int_equal(host.decision.refusals[0].kind, kind);
        if (text)
                assert_cpus(&host.decision.refusals[0].cpus, text);
}

/* Sessions on the CPUs that it has are no obstacle, those on the ones that it is to gain are. */
static void test_move(_unused_ void **state) {
        PolicyRequest r = request("1-2");

        occupy(LEASE_MODE_GUEST, "0-1");
        profile(SESSION_KIND_CPU, "0-1,3");
        assert_true(move(&r, "0-1")->granted);
        assert_not_moved(&r, "0", REFUSAL_BUSY, "1");
        assert_true(host.decision.refusals[0].by_session);
        r.cpus = cpus("1-3");
        assert_not_moved(&r, "0-1", REFUSAL_BUSY, "3");
        r.mode = LEASE_MODE_SHARED;
        assert_true(move(&r, "0-1")->granted);

        r.mode = LEASE_MODE_GUEST;
        r.cpus = cpus("1-2");
        profile(SESSION_KIND_TASK, "2");
        assert_true(move(&r, "0-1")->granted);
        r.own_sessions = cpus("1-2");
        assert_not_moved(&r, "0-1", REFUSAL_BUSY, "2");
        r.cpus = cpus("1");
        assert_true(move(&r, "0-1")->granted);
}

static void test_move_unprotected(_unused_ void **state) {
        PolicyRequest r = request("1");

        occupy(LEASE_MODE_GUEST, "0-1");
        host.model.unprotected_reason = reason;
        assert_true(move(&r, "0-1")->granted);
        r.cpus = cpus("0-1");
        assert_true(move(&r, "0-1")->granted);
        r.cpus = cpus("1-2");
        assert_not_moved(&r, "0-1", REFUSAL_ARBITRATION_UNAVAILABLE, NULL);
        assert_ptr_equal(host.decision.refusals[0].reason, reason);
        r.mode = LEASE_MODE_SHARED;
        assert_true(move(&r, "0-1")->granted);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_cpu_wide),       TEST(test_task_bound),   TEST(test_own),
                TEST(test_unholdable),     TEST(test_together),     TEST(test_choose),
                TEST(test_shared_is_last), TEST(test_shared_alone), TEST(test_shared_within_affinity),
                TEST(test_unprotected),    TEST(test_move),         TEST(test_move_unprotected),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
