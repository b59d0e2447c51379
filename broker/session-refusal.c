/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel says only which of its sets was in the way; which lease or assignment had closed those CPUs is
 * worked out from the model as it is now. Should it have changed since, the refusal says that.
 *
 * Anybody can be refused in a loop. So of one process, equal refusals are one entry that counts, and told of
 * once; of one user, SESSION_REFUSALS_PER_USER are kept, so that nobody pushes out those of leases, or of
 * other users; and what comes too fast is only counted.
 */

#include "broker/session-refusal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/events.h"
#include "broker/manager.h"
#include "broker/refusal-fill.h"
#include "broker/session-journal.h"
#include "broker/session-table.h"
#include "policy/closed.h"
#include "util/clock.h"

#define SESSION_REFUSALS_PER_USER 64U
/* To work out what was in the way takes all leases; so many are looked into per second, the others counted.
 */
#define LOOK_MAX           256U
#define LOOK_INTERVAL_USEC USEC_PER_SEC

typedef struct Case {
        const Manager *manager;
        const ArbiterRefusal *facts;
        const Instance *instance; /* NULL: not one that is known */
        const char *name;         /* of the instance */
        SessionKind kind;
        CpuSet reach;
        CpuSet guest_cpus;
        ClosedCpus closed;
        char who[ARBITER_COMMAND_MAX + sizeof(" (pid -2147483648)")];
        char what[64]; /* "CPU 3 of arm_spe_0" */
} Case;

static void case_init(Case *c, const Manager *manager, const ArbiterRefusal *facts) {
        const ArbiterSession *session = &facts->session;

        *c = (Case){.manager = manager, .facts = facts, .kind = session_kind(session)};
        c->instance = arbitration_find_instance(manager, session->pmu);
        c->name = c->instance ? c->instance->name : session->pmu;
        if (session->cpu >= 0 && session->cpu < (int)CPUSET_MAX)
                cpuset_add(&c->reach, (unsigned)session->cpu);
        else if (c->instance)
                c->reach = c->instance->effective;
        if (c->kind != SESSION_KIND_CPU)
                cpuset_and(&c->reach, &facts->affinity);

        assignment_table_owned_by(&manager->model.assignments, ASSIGNMENT_OWNER_GUEST, &c->guest_cpus);
        closed_cpus(&manager->model, &manager->keeping, &c->closed);
        (void)snprintf(c->who, sizeof(c->who), "%.*s (pid %i)", (int)ARBITER_COMMAND_MAX - 1,
                       session->command, (int)session->pid);
        if (c->kind == SESSION_KIND_CPU)
                (void)snprintf(c->what, sizeof(c->what), "CPU %i of %s", session->cpu, c->name);
        else
                (void)snprintf(c->what, sizeof(c->what), "thread %i with %s", (int)session->target_thread,
                               c->name);
}

/* Of the CPUs where it would have been, those that assignments keep from the host. */
static void find_barred(const Case *c, CpuSet *ret_cpus) {
        CpuSet drained;

        assignment_table_owned_by(&c->manager->model.assignments, ASSIGNMENT_OWNER_NONE, &drained);
        *ret_cpus = c->guest_cpus;
        cpuset_or(ret_cpus, &drained);
        cpuset_and(ret_cpus, &c->reach);
}

static int fill_not_assigned(const Case *c, const CpuSet *barred, Refusal *refusal) {
        AssignmentOwner owner;
        const char *vm;
        CpuSet cpus;
        int r;

        assignment_table_alike(&c->manager->model.assignments, cpuset_next(barred, 0), &owner, &vm, &cpus);
        cpuset_and(&cpus, barred);
        refusal->owner = assignment_owner_to_string(owner);
        r = refusal_copy_cpus(&cpus, &refusal->cpus);
        if (r == 0 && vm)
                r = refusal_copy(vm, &refusal->assigned_vm);
        if (r < 0)
                return r;

        if (owner == ASSIGNMENT_OWNER_NONE)
                return refusal_say(refusal,
                                   "%s may not sample %s: CPUs %s are drained, nobody may profile there",
                                   c->who, c->what, refusal->cpus);
        return refusal_say(refusal, "%s may not sample %s: CPUs %s are assigned to %s%s", c->who, c->what,
                           refusal->cpus, vm ? "VM " : "guests", vm ?: "");
}

/* Whether the target of a task-bound session is @owner, or in it: @cgroup is where it is, or NULL. */
static bool is_of_owner(const Case *c, const Owner *owner, const char *cgroup) {
        if (c->kind == SESSION_KIND_CPU)
                return false;
        if (owner->cgroup)
                return cgroup && cgroup_has_path(owner->cgroup, cgroup);

        return owner->pid == c->facts->session.target_process;
}

/* The leases that it would have stood against. */
static int add_holders(const Case *c, Refusal *refusal) {
        _cleanup_(freep) char *cgroup = NULL;
        const Lease *lease;
        int r;

        if (c->kind != SESSION_KIND_CPU)
                (void)cgroup_path_of_process(c->facts->session.target_process, &cgroup);

        r = refusal_make_holders(c->manager, refusal);
        if (r < 0)
                return r;

        TAILQ_FOREACH(lease, &c->manager->leases.all, link) {
                bool of_owner = is_of_owner(c, lease->owner->owner, cgroup);
                CpuSet cpus;

                if (!lease_is_holding(lease))
                        continue;
                session_conflicts(c->kind, &c->reach, of_owner, lease->request.policy.mode, &lease->cpus,
                                  &c->guest_cpus, &cpus);
                r = refusal_add_lease(refusal, lease, &cpus);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int fill_busy(const Case *c, Refusal *refusal) {
        bool claimed;
        int r;

        r = add_holders(c, refusal);
        if (r < 0)
                return r;

        if (refusal->n_holders > 0)
                return refusal_say(refusal,
                                   "%s may not sample %s: VM %s has CPUs %s until lease %s ends (pid %i)",
                                   c->who, c->what, refusal->holders[0].vm, refusal->holders[0].cpus,
                                   refusal->holders[0].lease_id, (int)refusal->holders[0].pid);

        claimed = cpuset_intersects(&c->reach, c->kind == SESSION_KIND_CPU ? &c->closed.cpu_wide
                                                                           : &c->closed.task_bound);
        return refusal_say(refusal, "%s may not sample %s: %s", c->who, c->what,
                           claimed ? "a lease is waited for there, which comes first"
                                   : "what stood in the way has ended since");
}

static int fill_full(const Case *c, Refusal *refusal) {
        int r;

        r = refusal_copy("the table of host sessions is full: what cannot be seen is not let in",
                         &refusal->reason);
        if (r < 0)
                return r;

        return refusal_say(refusal, "%s may not sample %s: %s", c->who, c->what, refusal->reason);
}

/* What would be allowed, for a CPU-wide session. */
static int allow_cpu_wide(const Case *c, const CpuSet *open, char **ret_sentence) {
        bool tasks = !cpuset_intersects(&c->reach, &c->closed.task_bound);
        char text[CPUSET_TEXT_MAX];
        int n = 0;

        cpuset_format(open, text, sizeof(text));
        if (tasks && *text)
                n = asprintf(ret_sentence,
                             "sessions of tasks are allowed (perf record -p PID, or a command), and CPU-wide "
                             "ones on CPUs %s of %s",
                             text, c->name);
        else if (tasks)
                n = asprintf(ret_sentence,
                             "sessions of tasks are allowed (perf record -p PID, or a command)");
        else if (*text)
                n = asprintf(ret_sentence, "CPU-wide sessions are allowed on CPUs %s of %s", text, c->name);
        return n < 0 ? -ENOMEM : 0;
}

/* And for one of a task. */
static int allow_task_bound(const Case *c, const CpuSet *open, char **ret_sentence) {
        char text[CPUSET_TEXT_MAX];
        int n = 0;

        cpuset_format(open, text, sizeof(text));
        if (c->facts->cause == ARBITER_CAUSE_OWNER)
                n = asprintf(ret_sentence, "sessions of tasks other than the lease's owner are allowed");
        else if (*text)
                n = asprintf(ret_sentence,
                             "sessions of tasks that may run on CPUs %s of %s only are allowed "
                             "(taskset -c)",
                             text, c->name);
        return n < 0 ? -ENOMEM : 0;
}

static int fill_allowed(const Case *c, Refusal *refusal) {
        bool cpu_wide = c->kind == SESSION_KIND_CPU;
        CpuSet open = c->instance ? c->instance->effective : CPUSET_NULL;
        char *sentence = NULL;
        int r;

        if (c->facts->cause == ARBITER_CAUSE_FULL)
                return 0;

        cpuset_subtract(&open, cpu_wide ? &c->closed.cpu_wide : &c->closed.task_bound);
        r = cpu_wide ? allow_cpu_wide(c, &open, &sentence) : allow_task_bound(c, &open, &sentence);
        if (r < 0)
                return r;

        refusal->allowed = sentence;
        return 0;
}

static int make(const Case *c, Refusal **ret_refusal) {
        _cleanup_(refusal_freep) Refusal *refusal = NULL;
        const ArbiterSession *session = &c->facts->session;
        RefusalKind kind = REFUSAL_BUSY;
        CpuSet barred;
        int r;

        find_barred(c, &barred);
        if (c->facts->cause == ARBITER_CAUSE_FULL)
                kind = REFUSAL_ARBITRATION_UNAVAILABLE;
        else if (c->facts->cause != ARBITER_CAUSE_OWNER && !cpuset_is_empty(&barred))
                kind = REFUSAL_NOT_ASSIGNED;

        r = refusal_begin(c->manager, kind, session->pid, session->uid, &refusal);
        if (r == 0)
                r = refusal_copy(c->name, &refusal->instance);
        if (r < 0)
                return r;

        refusal->open = (RefusedOpen){
                .kind = c->kind, .cpu = session->cpu, .thread = session->target_thread, .times = 1};
        if (kind == REFUSAL_BUSY)
                r = fill_busy(c, refusal);
        else
                r = kind == REFUSAL_NOT_ASSIGNED ? fill_not_assigned(c, &barred, refusal)
                                                 : fill_full(c, refusal);
        if (r == 0)
                r = fill_allowed(c, refusal);
        if (r < 0)
                return r;

        *ret_refusal = steal_ptr(refusal);
        return 0;
}

static bool is_repetition(const Refusal *refusal, const Case *c) {
        const ArbiterSession *session = &c->facts->session;

        return refusal->open.times > 0 && refusal->pid == session->pid && refusal->uid == session->uid &&
               refusal->open.kind == c->kind && refusal->open.cpu == session->cpu &&
               refusal->open.thread == session->target_thread && strcmp(refusal->instance, c->name) == 0;
}

/* What is kept of this user's: the entry that says the same already, or NULL; and the oldest one if there are
 * as many as may be. */
static Refusal *look_up(const RefusalLog *log, const Case *c, Refusal **ret_oldest) {
        Refusal *refusal, *oldest = NULL;
        unsigned n = 0;

        *ret_oldest = NULL;
        TAILQ_FOREACH(refusal, &log->entries, link) {
                if (is_repetition(refusal, c))
                        return refusal;
                if (refusal->open.times == 0 || refusal->uid != c->facts->session.uid)
                        continue;
                oldest = refusal;
                n++;
        }

        if (n >= SESSION_REFUSALS_PER_USER)
                *ret_oldest = oldest;
        return NULL;
}

/* One more like @entry, just after it. */
static void count(Manager *manager, Refusal *entry) {
        RefusalLog *log = &manager->refusals;

        entry->open.times++;
        entry->when_usec = manager_now_realtime(manager);
        TAILQ_REMOVE(&log->entries, entry, link);
        TAILQ_INSERT_HEAD(&log->entries, entry, link);
}

static void enter(Manager *manager, Refusal *refusal, Refusal *before, const char *command) {
        bool news = !before || strcmp(before->message, refusal->message) != 0;

        if (!news)
                refusal->open.times = before->open.times + 1;
        if (before)
                refusal_log_remove(&manager->refusals, before);
        if (news) {
                session_journal_refusal(manager, refusal, command);
                events_refusal(manager, refusal);
        }
        if (refusal_log_add(&manager->refusals, refusal) < 0)
                refusal_free(refusal);
}

void session_refused(const ArbiterRefusal *arbiter_refusal, void *userdata) {
        Manager *manager = userdata;
        SessionTable *table = &manager->sessions;
        uint64_t now = manager_now_monotonic(manager);
        ArbiterRefusal facts = *arbiter_refusal;
        Refusal *refusal, *before, *oldest;
        Case c;

        session_clean(&facts.session);
        case_init(&c, manager, &facts);
        before = look_up(&manager->refusals, &c, &oldest);
        if (before && now - before->open.looked_usec < LOOK_INTERVAL_USEC) {
                count(manager, before);
                return;
        }

        if (!rate_limit_allows(&table->refusals, now, LOOK_MAX, LOOK_INTERVAL_USEC) ||
            make(&c, &refusal) < 0) {
                table->refusals_lost++;
                return;
        }

        refusal->open.looked_usec = now;
        if (oldest)
                refusal_log_remove(&manager->refusals, oldest);
        enter(manager, refusal, before, facts.session.command);
}
