/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Busy: everybody who stands in the way, leases first. Who does is the decision's rule once more, asked of
 * each one, and only on the CPUs that the decision found to be in conflict.
 */

#include "broker/refusal-fill.h"

#include <errno.h>
#include <string.h>

#include "broker/lease.h"
#include "broker/manager.h"

int refusal_make_holders(const Manager *manager, Refusal *refusal) {
        /* And one that nobody can be seen to be. */
        refusal->holders =
                calloc((size_t)manager->leases.n + manager->sessions.n + 1, sizeof(*refusal->holders));
        return refusal->holders ? 0 : -ENOMEM;
}

int refusal_add_lease(Refusal *refusal, const Lease *lease, const CpuSet *cpus) {
        const Owner *owner = lease->owner->owner;
        RefusalHolder *holder = &refusal->holders[refusal->n_holders];
        CpuSet common = lease->cpus;
        int r;

        cpuset_and(&common, cpus);
        if (cpuset_is_empty(&common))
                return 0;

        *holder = (RefusalHolder){.pid = owner->pid, .uid = owner->uid};
        refusal->n_holders++;
        memcpy(holder->lease_id, lease->id, sizeof(holder->lease_id));
        r = refusal_copy(lease->request.vm, &holder->vm);
        if (r == 0)
                r = refusal_copy(owner->command, &holder->command);
        if (r == 0)
                r = refusal_copy_cpus(&common, &holder->cpus);
        return r;
}

static bool modes_conflict(LeaseMode a, LeaseMode b) {
        return a == LEASE_MODE_EXCLUSIVE || b == LEASE_MODE_EXCLUSIVE;
}

static int add_leases(const Manager *manager, const LeaseRequest *request, const CpuSet *cpus,
                      Refusal *refusal) {
        const Lease *lease;

        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                int r;

                if (&lease->request == request) /* a lease that moves is not in its own way */
                        continue;
                if (!lease_is_holding(lease) ||
                    !modes_conflict(lease->request.policy.mode, request->policy.mode))
                        continue;
                r = refusal_add_lease(refusal, lease, cpus);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* A session, or with NULL those whose owner could not be seen. */
static int add_session(Refusal *refusal, const Session *session, const CpuSet *cpus) {
        RefusalHolder *holder = &refusal->holders[refusal->n_holders];
        int r = 0;

        if (cpuset_is_empty(cpus))
                return 0;

        *holder = (RefusalHolder){.session = true};
        refusal->n_holders++;
        if (session) {
                holder->pid = session->facts.pid;
                holder->uid = session->facts.uid;
                r = refusal_copy(session->facts.command, &holder->command);
        }
        if (r == 0)
                r = refusal_copy_cpus(cpus, &holder->cpus);
        return r;
}

/* Where @session stands against @request: by the rule, or because of it perf lets nobody hold the CPUs. */
static void find_conflict(const Manager *manager, const LeaseRequest *request, const Session *session,
                          const CpuSet *cpus, const CpuSet *guest_cpus, CpuSet *ret_conflict) {
        bool of_owner = session_is_of(session, lease_request_get_owner(request));
        CpuSet unholdable = manager->model.sessions.unholdable;

        session_conflicts(session->kind, &session->reach, of_owner, request->policy.mode, cpus, guest_cpus,
                          ret_conflict);
        if (!session->target || !session->instance)
                return;

        cpuset_and(&unholdable, &session->instance->cpus);
        cpuset_subtract(&unholdable, &manager->sessions.unseen);
        cpuset_and(&unholdable, cpus);
        cpuset_or(ret_conflict, &unholdable);
}

static int add_sessions(const Manager *manager, const LeaseRequest *request, const CpuSet *cpus,
                        Refusal *refusal) {
        CpuSet guest_cpus, unseen = manager->sessions.unseen;
        const Session *session;

        if (request->policy.mode == LEASE_MODE_SHARED)
                return 0;

        assignment_table_owned_by(&manager->model.assignments, ASSIGNMENT_OWNER_GUEST, &guest_cpus);
        TAILQ_FOREACH(session, &manager->sessions.all, link) {
                CpuSet conflict;
                int r;

                find_conflict(manager, request, session, cpus, &guest_cpus, &conflict);
                r = add_session(refusal, session, &conflict);
                if (r < 0)
                        return r;
        }

        cpuset_and(&unseen, cpus);
        return add_session(refusal, NULL, &unseen);
}

/* " of arm_spe_0" for the first of @cpus, or "". */
static const char *of_instance(const Manager *manager, const char *cpus, char *buffer, size_t size) {
        const InstanceTable *table = &manager->model.instances;
        CpuSet set;

        *buffer = '\0';
        if (cpuset_parse(cpus, strlen(cpus), &set) == 0)
                for (size_t i = 0; i < table->n; i++)
                        if (cpuset_intersects(&table->entries[i]->cpus, &set))
                                (void)snprintf(buffer, size, " of %s", table->entries[i]->name);
        return buffer;
}

static int say_session(const Manager *manager, Refusal *refusal, const char *more) {
        const RefusalHolder *first = &refusal->holders[0];
        bool one = !strpbrk(first->cpus, "-,");
        char of[INSTANCE_NAME_MAX + sizeof(" of ")];

        of_instance(manager, first->cpus, of, sizeof(of));
        if (first->pid == 0)
                return refusal_say(
                        refusal,
                        "%s %s%s %s taken: the kernel says that somebody has a session there, whom "
                        "the broker cannot see%s",
                        one ? "CPU" : "CPUs", first->cpus, of, one ? "is" : "are", more);

        return refusal_say(refusal, "%s %s%s %s taken: %s (pid %i) has a session there%s",
                           one ? "CPU" : "CPUs", first->cpus, of, one ? "is" : "are", first->command,
                           (int)first->pid, more);
}

int refusal_fill_busy(const Manager *manager, const LeaseRequest *request, const RefusalFacts *facts,
                      Refusal *refusal) {
        char more[sizeof(", and 18446744073709551615 more are in the way")] = "";
        char pid[sizeof(", pid -2147483648")] = "";
        int r;

        r = refusal_make_holders(manager, refusal);
        if (r == 0)
                r = add_leases(manager, request, &facts->cpus, refusal);
        if (r == 0)
                r = add_sessions(manager, request, &facts->cpus, refusal);
        if (r < 0)
                return r;

        if (refusal->n_holders == 0)
                return refusal_say(refusal, "an earlier request waits for these CPUs");
        if (refusal->n_holders > 1)
                (void)snprintf(more, sizeof(more), ", and %zu more %s in the way", refusal->n_holders - 1,
                               refusal->n_holders == 2 ? "is" : "are");
        if (refusal->holders[0].session)
                return say_session(manager, refusal, more);

        if (refusal->holders[0].pid > 0)
                (void)snprintf(pid, sizeof(pid), ", pid %i", (int)refusal->holders[0].pid);
        return refusal_say(refusal, "CPUs %s are held by VM %s (lease %s%s)%s", refusal->holders[0].cpus,
                           refusal->holders[0].vm, refusal->holders[0].lease_id, pid, more);
}
