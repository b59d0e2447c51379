/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is said of a lease in each state, and of whoever stands against it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "broker/lease-reason.h"
#include "broker/lease.h"
#include "util/cleanup.h"

#define GOES_ON                                                                                          \
        "its VM may go on profiling on CPUs 0-3,8 until it ends, since KVM cannot switch a guest's SPE " \
        "off: "

#define UNCLAIMED "no process is in its control group yet: it ends unless one comes in time"

static Lease lease_of(LeaseState state, const char *reason) {
        Lease lease = {.state = state, .reason = (char *)reason, .deadline_usec = UINT64_MAX};

        cpuset_add_range(&lease.cpus, 0, 3);
        cpuset_add(&lease.cpus, 8);
        return lease;
}

static void assert_explained(const Lease *lease, const char *expected) {
        _cleanup_(freep) char *text = lease_explain(lease);

        if (expected)
                assert_string_equal(text ?: "nothing", expected);
        else
                assert_null(text);
}

static void test_nothing(void **state) {
        Lease lease = lease_of(LEASE_STATE_GRANTED, NULL);

        (void)state;
        assert_explained(&lease, NULL);
        lease.state = LEASE_STATE_ENDED;
        assert_explained(&lease, NULL);
}

static void test_granted(void **state) {
        Lease lease = lease_of(LEASE_STATE_GRANTED, "a");

        (void)state;
        assert_explained(&lease, "a");
        lease.contention = (char *)"b";
        assert_explained(&lease, "a; b");
        lease.contention_by_lease = (char *)"c";
        assert_explained(&lease, "a; b; c");
        lease.misplacement = (char *)"d";
        assert_explained(&lease, "a; b; c; d");
        lease.misplacement = NULL;
        lease.reason = NULL;
        assert_explained(&lease, "b; c");
        lease.contention = NULL;
        assert_explained(&lease, "c");
}

/* All that can be said at once, in one order. */
static void test_unclaimed(void **state) {
        Lease lease = lease_of(LEASE_STATE_REVOKED, "a");

        (void)state;
        lease.unclaimed_linked = true;
        lease.contention = (char *)"b";
        lease.contention_by_lease = (char *)"c";
        assert_explained(&lease, "a; " UNCLAIMED "; " GOES_ON "'speadm revoke --kill' ends it; b; c");
        lease = lease_of(LEASE_STATE_GRANTED, NULL);
        lease.unclaimed_linked = true;
        assert_explained(&lease, UNCLAIMED);
}

static void test_revoking(void **state) {
        Lease lease = lease_of(LEASE_STATE_REVOKING, "a");
        Cgroup *cgroup = calloc(1, sizeof(*cgroup));
        Owner process = {.pid = 1}, group = {.cgroup = cgroup};
        LeaseOwner owner = {.owner = &process};

        (void)state;
        lease.owner = &owner;
        lease.deadline_usec = 1;
        assert_explained(&lease, "a");
        lease.kill = true;
        assert_explained(&lease, "a; its process is killed when the time is over");
        owner.owner = &group;
        assert_explained(&lease, "a; the processes of its control group are killed when the time is over");
        free(cgroup);
}

static void test_revoked(void **state) {
        Lease lease = lease_of(LEASE_STATE_REVOKED, "a");

        (void)state;
        assert_explained(&lease, "a; " GOES_ON "'speadm revoke --kill' ends it");
        lease.contention_by_lease = (char *)"c";
        assert_explained(&lease, "a; " GOES_ON "'speadm revoke --kill' ends it; c");
        lease.contention_by_lease = NULL;
        lease.reason = NULL;
        assert_explained(&lease, GOES_ON "'speadm revoke --kill' ends it");
        lease.away = true;
        assert_explained(&lease,
                         "once CPUs 0-3,8 are back, its VM may profile there again until it ends, since KVM "
                         "cannot switch a guest's SPE off: 'speadm revoke --kill' ends it");
}

static void test_killed(void **state) {
        Lease lease = lease_of(LEASE_STATE_REVOKED, "a");

        (void)state;
        lease.kill = true;
        lease.deadline_usec = 1;
        assert_explained(&lease, "a; " GOES_ON "it is killed when the time is over");
        lease.terminated = true;
        assert_explained(&lease, "a; " GOES_ON "it has been sent SIGTERM, and SIGKILL follows");
        lease.deadline_usec = UINT64_MAX;
        assert_explained(&lease, "a; " GOES_ON "it has been sent SIGKILL");
        lease.terminated = false;
        assert_explained(&lease, "a; " GOES_ON "the broker was not able to kill it");
}

static void test_ended(void **state) {
        Lease lease = lease_of(LEASE_STATE_ENDED, "a");

        (void)state;
        lease.contention = (char *)"b";
        lease.kill = true;
        assert_explained(&lease, "a");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing),   cmocka_unit_test(test_granted),
                cmocka_unit_test(test_unclaimed), cmocka_unit_test(test_revoking),
                cmocka_unit_test(test_revoked),   cmocka_unit_test(test_killed),
                cmocka_unit_test(test_ended),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
