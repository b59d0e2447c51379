/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the decision says beyond yes and no: counter-offers, moves, and what a lease keeps. */

#include "tests/unit/policy-host.h"

static void test_counter_offer(_unused_ void **state) {
        PolicyRequest r = request("2-6");

        /* Spanning: the instance that has most of them. */
        ask(&r);
        assert_counter(host.one, "4-6", MIB(4), LEASE_MODE_GUEST);
        occupy(LEASE_MODE_EXCLUSIVE, "4-5");
        ask(&r);
        assert_counter(host.zero, "2-3", MIB(4), LEASE_MODE_GUEST);

        /* All that was asked for is busy: the rest of the instance, not the other one. */
        r = request("4-5");
        r.instance = "arm_spe_1";
        assert_refused(&r, REFUSAL_BUSY);
        assert_counter(host.one, "6-11", MIB(4), LEASE_MODE_GUEST);
        occupy(LEASE_MODE_EXCLUSIVE, "6-11");
        assert_refused(&r, REFUSAL_BUSY);
        assert_counter(host.zero, "0-3", MIB(4), LEASE_MODE_GUEST);
        occupy(LEASE_MODE_EXCLUSIVE, "0-3");
        assert_refused(&r, REFUSAL_BUSY);
        assert_false(host.decision.has_counter_offer);
}

/* Where all of an instance is busy: another one whole, chosen as ever by its charge, not by its size. */
static void test_counter_offer_elsewhere(_unused_ void **state) {
        Instance *two = add_instance(2, "12-13");
        PolicyRequest r = request(NULL);

        r.instance = "arm_spe_0";
        occupy(LEASE_MODE_EXCLUSIVE, "0-3");
        assert_refused(&r, REFUSAL_BUSY);
        assert_counter(host.one, "4-11", MIB(4), LEASE_MODE_GUEST);
        charge(1, "x", host.one, 1);
        assert_refused(&r, REFUSAL_BUSY);
        assert_counter(two, "12-13", MIB(4), LEASE_MODE_GUEST);
}

/* Fewer CPUs are nearer than a milder mode; two things at once only where one does not do. */
static void test_counter_offer_mode(_unused_ void **state) {
        PolicyRequest r = request("0-1");

        r.mode = LEASE_MODE_EXCLUSIVE;
        r.administrator = true;
        occupy(LEASE_MODE_GUEST, "1");
        assert_refused(&r, REFUSAL_BUSY);
        assert_counter(host.zero, "0", MIB(4), LEASE_MODE_EXCLUSIVE);
        occupy(LEASE_MODE_SHARED, "0");
        assert_refused(&r, REFUSAL_BUSY);
        assert_counter(host.zero, "0-1", MIB(4), LEASE_MODE_GUEST);
        occupy(LEASE_MODE_EXCLUSIVE, "3");
        r.cpus = cpus("0,3");
        r.exact = true;
        r.buffer_size = MIB(65);
        ask(&r);
        assert_counter(host.zero, "0", MIB(64), LEASE_MODE_GUEST);
}

static void test_without_counter_offer(_unused_ void **state) {
        PolicyRequest r = request("3-4");

        decide(&host.model, &r, NULL, false, &host.decision);
        assert_false(host.decision.granted);
        assert_false(host.decision.has_counter_offer);
        assert_true(ask(&r)->has_counter_offer);
}

static const Decision *move(const PolicyRequest *r, const char *held, const Claims *ahead) {
        CpuSet set = cpus(held);

        memset(&host.decision, 0xa5, sizeof(host.decision));
        decide_move(&host.model, r, host.zero, &set, ahead, &host.decision);
        return &host.decision;
}

static void assert_moved(const PolicyRequest *r, const char *held, const char *to) {
        const Decision *d = move(r, held, NULL);

        assert_true(d->granted);
        assert_offer(&d->offer, host.zero, to, r->buffer_size);
        assert_int_equal(d->offer.charge, 0);
}

static void assert_not_moved(const PolicyRequest *r, const char *held, RefusalKind kind, const char *text) {
        const Decision *d = move(r, held, NULL);

        assert_false(d->granted);
        assert_int_equal(d->n_refusals, 1);
        assert_int_equal(d->refusals[0].kind, kind);
        assert_cpus(&d->refusals[0].cpus, text);
}

static void test_move(_unused_ void **state) {
        PolicyRequest r = request("1-2");
        Claims ahead = CLAIMS_NULL;
        CpuSet claimed = cpus("1");

        r.mode = LEASE_MODE_EXCLUSIVE;
        r.administrator = true;
        occupy(LEASE_MODE_EXCLUSIVE, "0-1");
        assert_moved(&r, "0-1", "1-2"); /* not in its own way */
        occupy(LEASE_MODE_GUEST, "2");
        assert_not_moved(&r, "0-1", REFUSAL_BUSY, "2");
        r.cpus = cpus("3");
        assert_moved(&r, "0-1", "3");
        r.cpus = cpus("3-4");
        assert_not_moved(&r, "0-1", REFUSAL_NO_INSTANCE_FOR_CPUS, "3-4");
        assign("3", ASSIGNMENT_OWNER_HOST, NULL);
        r.cpus = cpus("3");
        assert_not_moved(&r, "0-1", REFUSAL_NOT_ASSIGNED, "3");

        /* Sizes and limits are no longer in question, nor what KVM can do. */
        r.cpus = cpus("1");
        r.buffer_size = GIB(8);
        host.model.limits.max_leases = 0;
        host.zero->guest = GUEST_SUPPORT_NO;
        assert_moved(&r, "0-1", "1");

        /* It keeps what it has before those who wait for it, but takes nothing more from them. */
        claims_add(&ahead, LEASE_MODE_EXCLUSIVE, &claimed);
        assert_true(move(&r, "0-1", &ahead)->granted);
        claimed = cpus("0");
        assert_true(move(&r, "0", NULL)->n_refusals == 1); /* CPU 1 is somebody else's then */
        r.cpus = cpus("0");
        claims_add(&ahead, LEASE_MODE_EXCLUSIVE, &claimed);
        occupancy_remove(&host.model.occupancy, LEASE_MODE_EXCLUSIVE, &claimed);
        assert_false(move(&r, "1", &ahead)->granted);
        assert_true(host.decision.refusals[0].by_claim);
        assert_true(move(&r, "1", NULL)->granted);

        host.zero->state = INSTANCE_STATE_GONE;
        assert_false(move(&r, "1", NULL)->granted);
        assert_int_equal(host.decision.refusals[0].kind, REFUSAL_INSTANCE_NOT_READY);
}

static void assert_kept(const PolicyRequest *r, const char *held, const char *kept) {
        CpuSet set = cpus(held), left;

        decide_keep(&host.model, r, &set, &left);
        assert_cpus(&left, kept);
}

static void test_keep(_unused_ void **state) {
        PolicyRequest r = request(NULL);

        assert_kept(&r, "0-3", "0-3");
        assign("0", ASSIGNMENT_OWNER_HOST, NULL);
        assign("1", ASSIGNMENT_OWNER_GUEST, "db");
        assign("2", ASSIGNMENT_OWNER_GUEST, "web");
        assert_kept(&r, "0-3", "2-3");
        assert_kept(&r, "0-1", "");
        r.vm_origin = VM_ORIGIN_CALLER;
        assert_kept(&r, "0-3", "3");

        /* The right to be exclusive was asked for at the grant. */
        r.vm_origin = VM_ORIGIN_UNIT;
        r.mode = LEASE_MODE_EXCLUSIVE;
        assert_kept(&r, "2-3", "2-3");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_counter_offer),
                TEST(test_counter_offer_elsewhere),
                TEST(test_counter_offer_mode),
                TEST(test_without_counter_offer),
                TEST(test_move),
                TEST(test_keep),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
