/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * KVM cannot switch a guest's SPE off, so the end of a revocation is not the end of what it was about. What
 * the broker can do about that, and has done, is said here of each state; nothing of it is stored but the
 * state itself, so that it says the same after a restart.
 */

#include "broker/lease-reason.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "broker/lease.h"
#include "util/cleanup.h"

/* What becomes of the owner of a lease that is revoked. */
static const char *describe_end(const Lease *lease) {
        bool pending = lease->deadline_usec != UINT64_MAX;

        if (!lease->kill)
                return "'speadm revoke --kill' ends it";
        if (lease->terminated)
                return pending ? "it has been sent SIGTERM, and SIGKILL follows" : "it has been sent SIGKILL";

        return pending ? "it is killed when the time is over" : "the broker was not able to kill it";
}

/* What comes next of one that is being taken back; of one that was, what the broker cannot stop. NULL:
 * nothing, or no memory. */
static char *describe_revocation(const Lease *lease) {
        char cpus[CPUSET_TEXT_MAX];
        char *text;
        int n;

        if (lease->state == LEASE_STATE_REVOKING && lease->kill)
                return strdup(lease->owner->owner->cgroup
                                      ? "the processes of its control group are killed when the time is over"
                                      : "its process is killed when the time is over");
        if (lease->state != LEASE_STATE_REVOKED)
                return NULL;

        cpuset_format(&lease->cpus, cpus, sizeof(cpus));
        n = asprintf(&text, "%s%s%s until it ends, since KVM cannot switch a guest's SPE off: %s",
                     lease->away ? "once CPUs " : "its VM may go on profiling on CPUs ", cpus,
                     lease->away ? " are back, its VM may profile there again" : "", describe_end(lease));
        return n < 0 ? NULL : text;
}

static const char *describe_unclaimed(const Lease *lease) {
        return lease->unclaimed_linked
                       ? "no process is in its control group yet: it ends unless one comes in time"
                       : NULL;
}

char *lease_explain(const Lease *lease) {
        _cleanup_(freep) char *revocation = describe_revocation(lease);
        const char *parts[] = {lease->reason,     describe_unclaimed(lease),  revocation,
                               lease->contention, lease->contention_by_lease, lease->misplacement};
        size_t size = 0;
        char *text, *end;

        if (lease->state == LEASE_STATE_ENDED)
                return lease->reason ? strdup(lease->reason) : NULL;

        for (size_t i = 0; i < ELEMENTS_OF(parts); i++)
                if (parts[i])
                        size += strlen(parts[i]) + strlen("; ");
        if (size == 0)
                return NULL;

        text = end = malloc(size + 1);
        if (!text)
                return NULL;
        for (size_t i = 0; i < ELEMENTS_OF(parts); i++)
                if (parts[i])
                        end = stpcpy(stpcpy(end, end == text ? "" : "; "), parts[i]);

        return text;
}
