/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The rules of the decision a second time, for test-decide-random.c: beside the model under test stands a
 * plain list of grants and, per CPU, of what the operator said, and everything is worked out from these one
 * CPU and one lease at a time. Sizes and charges are taken as given: they have exhaustive tests of their own.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/charge.h"
#include "policy/decide.h"
#include "util/buffer-size.h"
#include "util/cleanup.h"

#define N_CPUS      12U
#define N_INSTANCES 4U
#define N_GRANTS    16U
#define N_CLAIMS    2U
#define N_SESSIONS  4U
#define N_VMS       3U
#define MIB(n)      ((uint64_t)(n) << 20)
#define HOST_PAGE   UINT64_C(4096)
#define KIND(kind)  (1U << REFUSAL_##kind)
#define VM_NONE     (-1)

static const char *const vm_names[N_VMS] = {"a", "b", "c"};

typedef struct Grant {
        bool used;
        uid_t uid;
        int vm;
        VmOrigin vm_origin;
        Instance *instance;
        LeaseMode mode;
        bool cpus[N_CPUS];
        uint64_t charge;
        LedgerCharge token;
} Grant;

/* What the operator said about one CPU at one origin. */
typedef struct Saying {
        bool said;
        AssignmentOwner owner;
        int vm;
} Saying;

/* An open host session. Its target, if it has one, is the owner of the leases of one VM. */
typedef struct HostSession {
        bool used;
        SessionKind kind;
        int target_vm;
        bool cpus[N_CPUS];
} HostSession;

typedef struct World {
        uint64_t random;
        Model model;
        LimitOverride overrides[2];
        Saying sayings[_ASSIGNMENT_ORIGIN_MAX][N_CPUS + 1];
        Grant grants[N_GRANTS];
        Claims ahead;
        struct {
                LeaseMode mode;
                bool cpus[N_CPUS];
        } claims[N_CLAIMS];
        size_t n_claims;
        HostSession sessions[N_SESSIONS];
        bool unholdable[N_CPUS];
} World;

static World world;

/* ---- chance ---- */

static uint64_t draw(uint64_t below) {
        world.random ^= world.random << 13;
        world.random ^= world.random >> 7;
        world.random ^= world.random << 17;
        return (world.random >> 11) % below;
}

static bool chance(unsigned percent) {
        return draw(100) < percent;
}

static CpuSet draw_cpus(unsigned percent) {
        CpuSet set = CPUSET_NULL;

        while (cpuset_is_empty(&set))
                for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                        if (chance(percent))
                                cpuset_add(&set, cpu);
        return set;
}

/* ---- the rules, one CPU at a time ---- */

static void decided_by(unsigned cpu, AssignmentOwner *ret_owner, int *ret_vm) {
        *ret_owner = world.model.assignments.default_owner;
        *ret_vm = VM_NONE;
        for (AssignmentOrigin origin = 0; origin < _ASSIGNMENT_ORIGIN_MAX; origin++)
                if (world.sayings[origin][cpu].said) {
                        *ret_owner = world.sayings[origin][cpu].owner;
                        *ret_vm = world.sayings[origin][cpu].vm;
                }
}

static bool is_vm(const char *name, VmOrigin origin, int vm) {
        return vm != VM_NONE && origin != VM_ORIGIN_CALLER && strcmp(vm_names[vm], name) == 0;
}

static bool is_allowed(const char *name, VmOrigin origin, unsigned cpu) {
        AssignmentOwner owner;
        int vm;

        decided_by(cpu, &owner, &vm);
        if (owner == ASSIGNMENT_OWNER_HOST || owner == ASSIGNMENT_OWNER_NONE)
                return false;
        return vm == VM_NONE || is_vm(name, origin, vm);
}

static bool is_own(const PolicyRequest *r, unsigned cpu) {
        AssignmentOwner owner;
        int vm;

        decided_by(cpu, &owner, &vm);
        return is_allowed(r->vm, r->vm_origin, cpu) && is_vm(r->vm, r->vm_origin, vm);
}

static bool modes_conflict(LeaseMode a, LeaseMode b) {
        return a == LEASE_MODE_EXCLUSIVE || b == LEASE_MODE_EXCLUSIVE;
}

static bool is_claimed(LeaseMode mode, unsigned cpu) {
        for (size_t i = 0; i < world.n_claims; i++)
                if (world.claims[i].cpus[cpu] && modes_conflict(world.claims[i].mode, mode))
                        return true;
        return false;
}

static bool is_occupied(LeaseMode mode, unsigned cpu, const Grant *self) {
        for (const Grant *g = world.grants; g < world.grants + N_GRANTS; g++)
                if (g->used && g != self && g->cpus[cpu] && modes_conflict(g->mode, mode))
                        return true;
        return false;
}

static bool session_is_in_way(const HostSession *s, const PolicyRequest *r, unsigned cpu) {
        AssignmentOwner owner;
        int vm;

        if (!s->used || !s->cpus[cpu])
                return false;
        decided_by(cpu, &owner, &vm);
        return s->kind == SESSION_KIND_CPU || r->mode == LEASE_MODE_EXCLUSIVE ||
               owner == ASSIGNMENT_OWNER_GUEST || strcmp(vm_names[s->target_vm], r->vm) == 0;
}

static bool is_profiled(const PolicyRequest *r, unsigned cpu, const Grant *self) {
        if (r->mode == LEASE_MODE_SHARED || (self && self->cpus[cpu]))
                return false;
        for (const HostSession *s = world.sessions; s < world.sessions + N_SESSIONS; s++)
                if (session_is_in_way(s, r, cpu))
                        return true;
        return world.unholdable[cpu];
}

static bool is_busy(const PolicyRequest *r, unsigned cpu, const Grant *self) {
        return is_occupied(r->mode, cpu, self) || is_profiled(r, cpu, self) ||
               (is_claimed(r->mode, cpu) && !(self && self->cpus[cpu]));
}

/* Can the lease not be protected? One that is there already moves to @cpus. */
static bool is_unprotected(const PolicyRequest *r, const CpuSet *cpus, const Grant *self) {
        if (!world.model.unprotected_reason || r->mode == LEASE_MODE_SHARED)
                return false;
        for (unsigned cpu = 0; cpu < N_CPUS + 1; cpu++)
                if (!self || (cpuset_has(cpus, cpu) && (cpu == N_CPUS || !self->cpus[cpu])))
                        return true;
        return false;
}

static bool may_be_leased(const Instance *instance) {
        return instance->state == INSTANCE_STATE_READY && instance->guest != GUEST_SUPPORT_NO;
}

/* The kinds of refusal that CPUs give cause to, and the CPUs that remain. */
static unsigned judge_cpus(const PolicyRequest *r, const Instance *instance, const Grant *self,
                           CpuSet *ret_cpus) {
        bool own_only = r->mode == LEASE_MODE_EXCLUSIVE && !r->administrator;
        unsigned n_reach = 0, n_left = 0, n_named = 0, kinds = 0;

        *ret_cpus = CPUSET_NULL;
        for (unsigned cpu = 0; cpu < N_CPUS + 1; cpu++) {
                bool named = r->has_cpus && cpuset_has(&r->cpus, cpu), reach, allowed, left;

                reach = cpuset_has(&instance->effective, cpu) &&
                        (r->has_cpus ? named : !r->has_affinity || cpuset_has(&r->affinity, cpu));
                allowed = is_allowed(r->vm, r->vm_origin, cpu);
                left = allowed && (!own_only || is_own(r, cpu));

                n_named += named;
                n_reach += reach;
                n_left += (named || reach) && left;
                if (named || (!r->has_cpus && reach && left)) {
                        cpuset_add(ret_cpus, cpu);
                        if (cpu < N_CPUS && is_busy(r, cpu, self))
                                kinds |= KIND(BUSY);
                }
        }

        if (r->has_cpus ? n_reach < n_named : n_reach == 0)
                kinds |= KIND(NO_INSTANCE_FOR_CPUS);
        if (r->has_cpus ? n_left < n_named : n_reach > 0 && n_left == 0)
                kinds |= KIND(NOT_ASSIGNED);
        return kinds;
}

/* What is charged to this VM (if @vm) of this user (if @user), from the list of grants. */
static uint64_t charged(bool user, uid_t uid, const char *vm, unsigned *ret_n) {
        uint64_t sum = 0;

        *ret_n = 0;
        for (const Grant *g = world.grants; g < world.grants + N_GRANTS; g++)
                if (g->used && (!user || g->uid == uid) && (!vm || strcmp(vm_names[g->vm], vm) == 0)) {
                        sum += g->charge;
                        (*ret_n)++;
                }
        return sum;
}

static bool fits(const PolicyRequest *r, const Instance *instance, uint64_t size) {
        const Limits *l = &world.model.limits;
        uint64_t buffer = l->max_buffer_size, per_vm = l->max_memory_per_vm,
                 per_user = l->max_memory_per_user;
        uint64_t charge = charge_lease(r->vcpus, size, HOST_PAGE);
        unsigned n;

        /* overrides[1] is the user's; the VM's is read later and so wins. */
        for (size_t i = l->n_overrides; i > 0; i--) {
                const LimitOverride *o = &l->overrides[i - 1];

                if (o->vm ? r->vm_origin == VM_ORIGIN_CALLER || strcmp(o->vm, r->vm) != 0 : o->uid != r->uid)
                        continue;
                buffer = o->max_buffer_size > 0 ? o->max_buffer_size : buffer;
                if (o->max_memory > 0)
                        *(o->vm ? &per_vm : &per_user) = o->max_memory;
        }

        return size <= buffer &&
               (!instance || instance->max_buffer_size == 0 || size <= instance->max_buffer_size) &&
               charged(true, r->uid, r->vm, &n) + charge <= per_vm &&
               charged(true, r->uid, NULL, &n) + charge <= per_user &&
               charged(false, 0, NULL, &n) + charge <= l->max_memory;
}

static unsigned judge_size(const PolicyRequest *r, const Instance *instance, uint64_t *ret_size) {
        uint64_t size = buffer_size_floor(r->buffer_size);
        unsigned n_of_user, n_total, kinds = 0;

        if (size == 0 || (r->exact && size != r->buffer_size))
                kinds |= KIND(BUFFER_SIZE_NOT_REPRESENTABLE);
        if (size == 0)
                size = BUFFER_SIZE_MIN;

        if (!fits(r, instance, size)) {
                uint64_t power = 0;

                for (uint64_t p = BUFFER_SIZE_MIN; !r->exact && p < size; p *= 2)
                        if (fits(r, instance, p))
                                power = p;
                if (power == 0)
                        kinds |= KIND(LIMIT_EXCEEDED);
                size = power;
        }

        (void)charged(false, 0, NULL, &n_total);
        (void)charged(true, r->uid, NULL, &n_of_user);
        if (n_total >= world.model.limits.max_leases || n_of_user >= world.model.limits.max_leases_per_user)
                kinds |= KIND(LIMIT_EXCEEDED);

        *ret_size = size;
        return kinds;
}

typedef struct Verdict {
        unsigned kinds; /* none: granted */
        Instance *instance;
        CpuSet cpus;
        uint64_t size;
} Verdict;

static Verdict judge(const PolicyRequest *r, Instance *instance) {
        Verdict v = {.instance = instance};

        if (instance->state != INSTANCE_STATE_READY)
                v.kinds |= KIND(INSTANCE_NOT_READY);
        else
                v.kinds |= judge_cpus(r, instance, NULL, &v.cpus);
        if (instance->guest == GUEST_SUPPORT_NO)
                v.kinds |= KIND(GUEST_UNSUPPORTED);
        v.kinds |= judge_size(r, instance, &v.size);
        if (is_unprotected(r, NULL, NULL))
                v.kinds |= KIND(ARBITRATION_UNAVAILABLE);
        return v;
}

static Verdict judge_nowhere(const PolicyRequest *r, unsigned kind) {
        Verdict v = {.kinds = kind};

        v.kinds |= judge_size(r, NULL, &v.size);
        if (is_unprotected(r, NULL, NULL))
                v.kinds |= KIND(ARBITRATION_UNAVAILABLE);
        return v;
}

static uint64_t charge_of(const Instance *instance) {
        uint64_t sum = 0;

        for (const Grant *g = world.grants; g < world.grants + N_GRANTS; g++)
                if (g->used && g->instance == instance)
                        sum += g->charge;
        return sum;
}

/* The lowest bit is the refusal that is answered; the later it comes, the nearer to a grant. */
static bool is_nearer(const Verdict *a, const Verdict *b) {
        unsigned first_a = a->kinds ? (unsigned)__builtin_ctz(a->kinds) : _REFUSAL_MAX;
        unsigned first_b = b->kinds ? (unsigned)__builtin_ctz(b->kinds) : _REFUSAL_MAX;

        if (first_a != first_b)
                return first_a > first_b;
        return charge_of(a->instance) < charge_of(b->instance);
}

static bool holds_all(const CpuSet *of, const CpuSet *cpus) {
        for (unsigned cpu = 0; cpu < N_CPUS + 1; cpu++)
                if (cpuset_has(cpus, cpu) && !cpuset_has(of, cpu))
                        return false;
        return true;
}

static Verdict judge_by_cpus(const PolicyRequest *r) {
        const InstanceTable *t = &world.model.instances;
        Instance *other = NULL;
        unsigned n_others = 0;

        for (size_t i = 0; i < t->n; i++)
                if (t->entries[i]->state == INSTANCE_STATE_READY &&
                    holds_all(&t->entries[i]->effective, &r->cpus))
                        return judge(r, t->entries[i]);

        for (size_t i = 0; i < t->n; i++)
                if (t->entries[i]->state != INSTANCE_STATE_READY &&
                    holds_all(&t->entries[i]->cpus, &r->cpus)) {
                        other = t->entries[i];
                        n_others++;
                }

        return n_others == 1 ? judge(r, other) : judge_nowhere(r, KIND(NO_INSTANCE_FOR_CPUS));
}

static Verdict judge_anywhere(const PolicyRequest *r) {
        const InstanceTable *t = &world.model.instances;
        Verdict best = {0};

        for (size_t i = 0; i < t->n; i++)
                if (may_be_leased(t->entries[i])) {
                        Verdict v = judge(r, t->entries[i]);

                        if (!best.instance || is_nearer(&v, &best))
                                best = v;
                }
        if (best.instance)
                return best;

        for (size_t i = 0; i < t->n; i++)
                if (t->entries[i]->state == INSTANCE_STATE_READY)
                        return judge(r, t->entries[i]);
        return t->n > 0 ? judge(r, t->entries[0]) : judge_nowhere(r, KIND(NO_SUCH_INSTANCE));
}

static Verdict judge_request(const PolicyRequest *r) {
        if (r->instance) {
                Instance *instance = instance_table_find(&world.model.instances, r->instance);

                return instance ? judge(r, instance) : judge_nowhere(r, KIND(NO_SUCH_INSTANCE));
        }

        return r->has_cpus ? judge_by_cpus(r) : judge_anywhere(r);
}

/* Is there anything at all, anywhere, of any size, that this VM could have now in @mode? */
static bool could_have_anything(const PolicyRequest *r, LeaseMode mode) {
        PolicyRequest least = *r;
        uint64_t size;

        least.mode = mode;
        least.buffer_size = BUFFER_SIZE_MIN;
        if (is_unprotected(&least, NULL, NULL) || judge_size(&least, NULL, &size))
                return false;

        for (size_t i = 0; i < world.model.instances.n; i++) {
                const Instance *instance = world.model.instances.entries[i];

                if (!may_be_leased(instance))
                        continue;
                for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                        if (cpuset_has(&instance->effective, cpu) &&
                            (!r->has_affinity || cpuset_has(&r->affinity, cpu) ||
                             (r->has_cpus && cpuset_has(&r->cpus, cpu))) &&
                            is_allowed(r->vm, r->vm_origin, cpu) && !is_busy(&least, cpu, NULL))
                                return true;
        }

        return false;
}

/* ---- sessions ---- */

/* Where the task-bound sessions are whose target is the owner of @vm's leases. */
static CpuSet own_sessions(const char *vm) {
        CpuSet set = CPUSET_NULL;

        for (const HostSession *s = world.sessions; s < world.sessions + N_SESSIONS; s++)
                for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                        if (s->used && s->cpus[cpu] && s->kind != SESSION_KIND_CPU &&
                            strcmp(vm_names[s->target_vm], vm) == 0)
                                cpuset_add(&set, cpu);
        return set;
}

/* What the model knows of them. */
static void sum_sessions_up(void) {
        SessionOccupancy *sums = &world.model.sessions;

        *sums = SESSION_OCCUPANCY_NULL;
        for (unsigned cpu = 0; cpu < N_CPUS; cpu++) {
                for (const HostSession *s = world.sessions; s < world.sessions + N_SESSIONS; s++)
                        if (s->used && s->cpus[cpu])
                                cpuset_add(s->kind == SESSION_KIND_CPU ? &sums->cpu_wide : &sums->task_bound,
                                           cpu);
                if (world.unholdable[cpu])
                        cpuset_add(&sums->unholdable, cpu);
        }
}
