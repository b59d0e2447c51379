/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rule about one session and one lease, over all that it depends on; and the same rule about the sums of
 * all sessions, held to the first one by chance.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/session.h"
#include "util/cleanup.h"

#define N_CPUS     10U
#define N_SESSIONS 5U
#define N_ROUNDS   20000U

static CpuSet cpus(const char *text) {
        CpuSet set;

        assert_int_equal(cpuset_parse(text, strlen(text), &set), 0);
        return set;
}

static void assert_cpus(const CpuSet *set, const char *text) {
        char buffer[CPUSET_TEXT_MAX];

        cpuset_format(set, buffer, sizeof(buffer));
        assert_string_equal(buffer, text);
}

/* A session on 0-5, a lease on 2-7, and on 4-9 the CPUs that are kept for guests, if any are. */
static void test_one(_unused_ void **state) {
        static const struct {
                LeaseMode mode;
                SessionKind kind;
                bool of_owner, assigned;
                const char *conflict;
        } table[] = {
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_CPU, false, false, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_CPU, false, true, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_CPU, true, false, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_CPU, true, true, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASK, false, false, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASK, false, true, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASK, true, false, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASK, true, true, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASKCPU, false, false, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASKCPU, false, true, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASKCPU, true, false, "2-5"},
                {LEASE_MODE_EXCLUSIVE, SESSION_KIND_TASKCPU, true, true, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_CPU, false, false, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_CPU, false, true, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_CPU, true, false, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_CPU, true, true, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_TASK, false, false, ""},
                {LEASE_MODE_GUEST, SESSION_KIND_TASK, false, true, "4-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_TASK, true, false, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_TASK, true, true, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_TASKCPU, false, false, ""},
                {LEASE_MODE_GUEST, SESSION_KIND_TASKCPU, false, true, "4-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_TASKCPU, true, false, "2-5"},
                {LEASE_MODE_GUEST, SESSION_KIND_TASKCPU, true, true, "2-5"},
                {LEASE_MODE_SHARED, SESSION_KIND_CPU, false, false, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_CPU, false, true, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_CPU, true, false, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_CPU, true, true, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASK, false, false, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASK, false, true, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASK, true, false, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASK, true, true, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASKCPU, false, false, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASKCPU, false, true, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASKCPU, true, false, ""},
                {LEASE_MODE_SHARED, SESSION_KIND_TASKCPU, true, true, ""},
        };
        CpuSet reach = cpus("0-5"), lease = cpus("2-7"), found;

        assert_int_equal(ELEMENTS_OF(table), _LEASE_MODE_MAX * _SESSION_KIND_MAX * 2 * 2);
        for (size_t i = 0; i < ELEMENTS_OF(table); i++) {
                CpuSet guest_cpus = cpus(table[i].assigned ? "4-9" : "");

                memset(&found, 0xa5, sizeof(found));
                session_conflicts(table[i].kind, &reach, table[i].of_owner, table[i].mode, &lease,
                                  &guest_cpus, &found);
                assert_cpus(&found, table[i].conflict);

                /* A dead session, and one that the lease does not meet, conflict with nothing. */
                session_conflicts(table[i].kind, &CPUSET_NULL, table[i].of_owner, table[i].mode, &lease,
                                  &guest_cpus, &found);
                assert_cpus(&found, "");
                session_conflicts(table[i].kind, &(CpuSet){.words = {3}}, table[i].of_owner, table[i].mode,
                                  &lease, &guest_cpus, &found);
                assert_cpus(&found, "");
        }
}

static void test_sums(_unused_ void **state) {
        SessionOccupancy sums = {.cpu_wide = cpus("0"), .task_bound = cpus("1-3"), .unholdable = cpus("9")};
        CpuSet own = cpus("1"), guest_cpus = cpus("3-4"), found;

        session_occupancy_conflicts(&sums, LEASE_MODE_EXCLUSIVE, &own, &guest_cpus, &found);
        assert_cpus(&found, "0-3,9");
        session_occupancy_conflicts(&sums, LEASE_MODE_GUEST, &own, &guest_cpus, &found);
        assert_cpus(&found, "0-1,3,9");
        session_occupancy_conflicts(&sums, LEASE_MODE_GUEST, &CPUSET_NULL, &CPUSET_NULL, &found);
        assert_cpus(&found, "0,9");
        session_occupancy_conflicts(&sums, LEASE_MODE_SHARED, &own, &guest_cpus, &found);
        assert_cpus(&found, "");
        assert_false(session_occupancy_is_empty(&sums));
        assert_false(session_occupancy_is_empty(&(SessionOccupancy){.cpu_wide = sums.cpu_wide}));
        assert_false(session_occupancy_is_empty(&(SessionOccupancy){.task_bound = sums.task_bound}));
        assert_false(session_occupancy_is_empty(&(SessionOccupancy){.unholdable = sums.unholdable}));
        assert_true(session_occupancy_is_empty(&SESSION_OCCUPANCY_NULL));
        session_occupancy_conflicts(&SESSION_OCCUPANCY_NULL, LEASE_MODE_EXCLUSIVE, &CPUSET_NULL, &guest_cpus,
                                    &found);
        assert_cpus(&found, "");
}

/* ---- both ---- */

static uint64_t state_of_chance = 0x9e3779b97f4a7c15;

static uint64_t draw(uint64_t below) {
        state_of_chance ^= state_of_chance << 13;
        state_of_chance ^= state_of_chance >> 7;
        state_of_chance ^= state_of_chance << 17;
        return (state_of_chance >> 11) % below;
}

static CpuSet draw_cpus(unsigned percent) {
        CpuSet set = CPUSET_NULL;

        for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                if (draw(100) < percent)
                        cpuset_add(&set, cpu);
        return set;
}

/* Session by session, or by their sums: the same CPUs of a lease are in question. */
static void test_one_and_sums(_unused_ void **state) {
        unsigned n_conflicts = 0, n_free = 0;

        for (unsigned round = 0; round < N_ROUNDS; round++) {
                CpuSet lease = draw_cpus(60), guest_cpus = draw_cpus(40), own = CPUSET_NULL;
                CpuSet one_by_one = CPUSET_NULL, at_once;
                SessionOccupancy sums = SESSION_OCCUPANCY_NULL;
                LeaseMode mode = (LeaseMode)draw(_LEASE_MODE_MAX);

                for (unsigned i = (unsigned)draw(N_SESSIONS + 1); i > 0; i--) {
                        SessionKind kind = (SessionKind)draw(_SESSION_KIND_MAX);
                        CpuSet reach = draw_cpus(25), found;
                        bool of_owner = kind != SESSION_KIND_CPU && draw(3) == 0;

                        session_conflicts(kind, &reach, of_owner, mode, &lease, &guest_cpus, &found);
                        assert_true(cpuset_is_subset(&found, &reach) && cpuset_is_subset(&found, &lease));
                        cpuset_or(&one_by_one, &found);
                        cpuset_or(kind == SESSION_KIND_CPU ? &sums.cpu_wide : &sums.task_bound, &reach);
                        if (of_owner)
                                cpuset_or(&own, &reach);
                }
                if (draw(4) == 0) {
                        sums.unholdable = draw_cpus(30);
                        if (mode != LEASE_MODE_SHARED) {
                                cpuset_or(&one_by_one, &sums.unholdable);
                                cpuset_and(&one_by_one, &lease);
                        }
                }

                session_occupancy_conflicts(&sums, mode, &own, &guest_cpus, &at_once);
                cpuset_and(&at_once, &lease);
                assert_true(cpuset_equal(&at_once, &one_by_one));
                if (cpuset_is_empty(&at_once))
                        n_free++;
                else
                        n_conflicts++;
        }

        assert_true(n_conflicts > N_ROUNDS / 10 && n_free > N_ROUNDS / 10);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one),
                cmocka_unit_test(test_sums),
                cmocka_unit_test(test_one_and_sums),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
