/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What is closed to new host sessions, and that it is exactly what present ones would conflict with: the
 * kernel lets no session in that a lease could not have been granted beside, and refuses no other.
 */

#include "policy/closed.h"
#include "policy/session.h"
#include "tests/unit/policy-host.h"

#define N_CPUS   12U
#define N_LEASES 3U
#define N_ROUNDS 3000U

static ClosedCpus closed;

static void assert_closed(const char *cpu_wide, const char *task_bound) {
        assert_cpus(&closed.cpu_wide, cpu_wide);
        assert_cpus(&closed.task_bound, task_bound);
}

static void look(const Claims *claims) {
        memset(&closed, 0xa5, sizeof(closed));
        closed_cpus(&host.model, claims, &closed);
}

static void test_leases(_unused_ void **state) {
        look(NULL);
        assert_closed("", "");
        occupy(LEASE_MODE_SHARED, "0-4");
        look(NULL);
        assert_closed("", "");
        occupy(LEASE_MODE_GUEST, "1-3,4095");
        look(NULL);
        assert_closed("1-3,4095", "");
        occupy(LEASE_MODE_EXCLUSIVE, "6");
        look(NULL);
        assert_closed("1-3,6,4095", "6");
}

/* Whoever is to be let in next finds its CPUs as free of sessions as they are now. */
static void test_claims(_unused_ void **state) {
        Claims claims = CLAIMS_NULL;
        CpuSet exclusive = cpus("0"), guest = cpus("1-2"), shared = cpus("3");

        occupy(LEASE_MODE_GUEST, "8");
        look(&claims);
        assert_closed("8", "");
        claims_add(&claims, LEASE_MODE_EXCLUSIVE, &exclusive);
        claims_add(&claims, LEASE_MODE_GUEST, &guest);
        claims_add(&claims, LEASE_MODE_SHARED, &shared);
        look(&claims);
        assert_closed("0-2,8", "0");
        look(NULL);
        assert_closed("8", "");
}

static void test_assignments(_unused_ void **state) {
        CpuSet all = CPUSET_NULL, two = cpus("2");

        assign("0-1", ASSIGNMENT_OWNER_HOST, NULL);
        assign("2-3", ASSIGNMENT_OWNER_GUEST, NULL);
        assign("4", ASSIGNMENT_OWNER_GUEST, "web");
        assign("5", ASSIGNMENT_OWNER_ANY, "web"); /* other VMs are kept off, not the host */
        assign("6-7", ASSIGNMENT_OWNER_NONE, NULL);
        look(NULL);
        assert_closed("2-4,6-7", "2-4,6-7");

        /* The highest origin decides. */
        assert_int_equal(assignment_table_set(&host.model.assignments, &two, ASSIGNMENT_OWNER_HOST, NULL,
                                              ASSIGNMENT_ORIGIN_RUNTIME, NEVER),
                         0);
        look(NULL);
        assert_closed("3-4,6-7", "3-4,6-7");

        /* A lease that still holds CPUs which are the host's now protects them until it is revoked. */
        occupy(LEASE_MODE_GUEST, "0");
        look(NULL);
        assert_closed("0,3-4,6-7", "3-4,6-7");

        assert_int_equal(assignment_table_clear(&host.model.assignments, &two, ASSIGNMENT_ORIGIN_RUNTIME), 0);
        host.model.assignments.default_owner = ASSIGNMENT_OWNER_NONE;
        look(NULL);
        cpuset_add_range(&all, 2, CPUSET_MAX - 1);
        cpuset_remove(&all, 5);
        assert_true(cpuset_equal(&closed.task_bound, &all));
        cpuset_add(&all, 0);
        assert_true(cpuset_equal(&closed.cpu_wide, &all));
}

static void test_add(_unused_ void **state) {
        CpuSet one = cpus("1"), two = cpus("2"), three = cpus("3");

        occupy(LEASE_MODE_GUEST, "0");
        look(NULL);
        closed_cpus_add(&closed, LEASE_MODE_SHARED, &one);
        assert_closed("0", "");
        closed_cpus_add(&closed, LEASE_MODE_GUEST, &two);
        assert_closed("0,2", "");
        closed_cpus_add(&closed, LEASE_MODE_EXCLUSIVE, &three);
        assert_closed("0,2-3", "3");
}

/* ---- against the rule of one session and one lease ---- */

static uint64_t state_of_chance = 0x9e3779b97f4a7c15;

static uint64_t draw(uint64_t below) {
        state_of_chance ^= state_of_chance << 13;
        state_of_chance ^= state_of_chance >> 7;
        state_of_chance ^= state_of_chance << 17;
        return (state_of_chance >> 11) % below;
}

static CpuSet draw_cpus(unsigned percent) {
        CpuSet set = CPUSET_NULL;

        cpuset_add(&set, (unsigned)draw(N_CPUS));
        for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                if (draw(100) < percent)
                        cpuset_add(&set, cpu);
        return set;
}

/* Would a session of @kind on @cpu, whose target is nobody's owner, stand against any of these? */
static bool stands_against(SessionKind kind, unsigned cpu, const LeaseMode *modes, const CpuSet *sets) {
        const Assignment *decides = assignment_table_lookup(&host.model.assignments, cpu);
        AssignmentOwner owner = decides ? decides->owner : host.model.assignments.default_owner;
        CpuSet reach = CPUSET_NULL, guest_cpus, found;

        if (owner == ASSIGNMENT_OWNER_GUEST || owner == ASSIGNMENT_OWNER_NONE)
                return true;

        cpuset_add(&reach, cpu);
        assignment_table_owned_by(&host.model.assignments, ASSIGNMENT_OWNER_GUEST, &guest_cpus);
        for (size_t i = 0; i < N_LEASES; i++) {
                session_conflicts(kind, &reach, false, modes[i], &sets[i], &guest_cpus, &found);
                if (!cpuset_is_empty(&found))
                        return true;
        }
        return false;
}

static void random_round(void) {
        LeaseMode modes[N_LEASES];
        CpuSet sets[N_LEASES];
        Claims claims = CLAIMS_NULL;

        for (unsigned i = 0; i < 2; i++) {
                CpuSet set = draw_cpus(20);

                assert_int_equal(assignment_table_set(&host.model.assignments, &set,
                                                      (AssignmentOwner)draw(_ASSIGNMENT_OWNER_MAX), NULL,
                                                      (AssignmentOrigin)draw(_ASSIGNMENT_ORIGIN_MAX), NEVER),
                                 0);
        }
        for (size_t i = 0; i < N_LEASES; i++) {
                modes[i] = (LeaseMode)draw(_LEASE_MODE_MAX);
                sets[i] = draw_cpus(20);
                if (i == 0)
                        claims_add(&claims, modes[i], &sets[i]);
                else
                        occupancy_add(&host.model.occupancy, modes[i], &sets[i]);
        }

        look(&claims);
        for (unsigned cpu = 0; cpu < N_CPUS; cpu++) {
                assert_int_equal(cpuset_has(&closed.cpu_wide, cpu),
                                 stands_against(SESSION_KIND_CPU, cpu, modes, sets));
                assert_int_equal(cpuset_has(&closed.task_bound, cpu),
                                 stands_against(SESSION_KIND_TASK, cpu, modes, sets));
                assert_int_equal(cpuset_has(&closed.task_bound, cpu),
                                 stands_against(SESSION_KIND_TASKCPU, cpu, modes, sets));
        }
        assert_true(cpuset_is_subset(&closed.task_bound, &closed.cpu_wide));
}

static void test_random(_unused_ void **state) {
        for (unsigned round = 0; round < N_ROUNDS; round++) {
                set_up_empty(NULL);
                random_round();
                tear_down(NULL);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_leases),
                TEST(test_claims),
                TEST(test_assignments),
                TEST(test_add),
                cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
