/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rules, in the order in which their refusals are answered. Every check adds its refusal and lets the
 * others go on, as far as they still make sense, so that a decision lists all that is in the way. CPUs are
 * judged on ready instances only: of the others it is not known which CPUs they will have.
 */

#include "policy/evaluate.h"

#include <assert.h>

#include "policy/charge.h"
#include "util/buffer-size.h"

static uint64_t left(uint64_t limit, uint64_t used) {
        return limit > used ? limit - used : 0;
}

/* A saturated charge fits nowhere, however large the limit. */
static uint64_t bytes_left(uint64_t limit, uint64_t used) {
        uint64_t bytes = left(limit, used);

        return bytes < CHARGE_SATURATED ? bytes : CHARGE_SATURATED - 1;
}

static void init_limits(Evaluator *e) {
        const PolicyRequest *request = e->request;
        const Ledger *ledger = &e->model->ledger;
        const Limits *limits = &e->model->limits;
        LedgerAccount user = ledger_get_user(ledger, request->uid);
        LedgerAccount vm = ledger_get_vm(ledger, request->uid, request->vm);
        LimitsView view;

        limits_view(limits, request->uid, request->vm, request->vm_origin, &view);

        e->buffer = (LimitLeft){LIMIT_MAX_BUFFER_SIZE, view.max_buffer_size};
        e->memory[EVALUATOR_MEMORY_VM] =
                (LimitLeft){LIMIT_MAX_MEMORY_PER_VM, bytes_left(view.max_memory_per_vm, vm.bytes)};
        e->memory[EVALUATOR_MEMORY_USER] =
                (LimitLeft){LIMIT_MAX_MEMORY_PER_USER, bytes_left(view.max_memory_per_user, user.bytes)};
        e->memory[EVALUATOR_MEMORY_TOTAL] =
                (LimitLeft){LIMIT_MAX_MEMORY, bytes_left(limits->max_memory, ledger->total.bytes)};
        e->leases = (LimitLeft){LIMIT_MAX_LEASES, left(limits->max_leases, ledger->total.n_leases)};
        e->leases_of_user =
                (LimitLeft){LIMIT_MAX_LEASES_PER_USER, left(limits->max_leases_per_user, user.n_leases)};
}

/* What @mode may not meet among earlier waiters: the same as among leases. */
static void claims_in_way(const Claims *ahead, LeaseMode mode, CpuSet *ret_cpus) {
        *ret_cpus = ahead->by_mode[LEASE_MODE_EXCLUSIVE];
        if (mode != LEASE_MODE_EXCLUSIVE)
                return;

        cpuset_or(ret_cpus, &ahead->by_mode[LEASE_MODE_GUEST]);
        cpuset_or(ret_cpus, &ahead->by_mode[LEASE_MODE_SHARED]);
}

/* What @request may not meet among sessions; on CPUs that the lease holds already they are no obstacle. */
static void sessions_in_way(const Model *model, const PolicyRequest *request, const CpuSet *held,
                            CpuSet *ret_cpus) {
        CpuSet guest_cpus;

        *ret_cpus = CPUSET_NULL;
        if (session_occupancy_is_empty(&model->sessions)) /* nearly always */
                return;

        assignment_table_owned_by(&model->assignments, ASSIGNMENT_OWNER_GUEST, &guest_cpus);
        session_occupancy_conflicts(&model->sessions, request->mode, &request->own_sessions, &guest_cpus,
                                    ret_cpus);
        if (held)
                cpuset_subtract(ret_cpus, held);
}

void evaluator_init(Evaluator *e, const Model *model, const PolicyRequest *request, const CpuSet *held,
                    const Claims *ahead) {
        assert(request->vcpus > 0);
        assert(!request->has_cpus || !cpuset_is_empty(&request->cpus));

        e->model = model;
        e->request = request;
        e->held = held;
        init_limits(e);

        assignment_table_allowed_cpus(&model->assignments, request->vm, request->vm_origin, &e->allowed);
        e->needs_own_cpus = request->mode == LEASE_MODE_EXCLUSIVE && !request->administrator;
        if (e->needs_own_cpus)
                assignment_table_own_cpus(&model->assignments, request->vm, request->vm_origin, &e->own);

        occupancy_conflicts(&model->occupancy, request->mode, held, request->mode, &e->occupied);
        if (ahead)
                claims_in_way(ahead, request->mode, &e->claimed);
        else
                e->claimed = CPUSET_NULL;
        if (held)
                cpuset_subtract(&e->claimed, held); /* who waits for these waits for this lease already */
        sessions_in_way(model, request, held, &e->sessions);
}

bool evaluator_can_lease(const Instance *instance) {
        return instance->state == INSTANCE_STATE_READY && instance->guest != GUEST_SUPPORT_NO;
}

/* The next refusal; its CPU set is the caller's to fill, where its kind has one. */
static RefusalFacts *refuse(Decision *d, RefusalKind kind) {
        RefusalFacts *facts;

        assert(d->n_refusals < _REFUSAL_MAX);
        assert(d->n_refusals == 0 || d->refusals[d->n_refusals - 1].kind < kind);

        facts = d->refusals + d->n_refusals++;
        facts->kind = kind;
        facts->instance = NULL;
        facts->owner = _ASSIGNMENT_OWNER_INVALID;
        facts->vm = NULL;
        facts->needs_own_cpus = false;
        facts->limit = NULL;
        facts->requested = facts->available = facts->nearest = 0;
        facts->reason = NULL;
        facts->by_claim = facts->by_session = false;
        return facts;
}

/* Not one big initialiser: the CPU sets are most of a decision, and most of them are never looked at. */
static void begin(const Evaluator *e, Instance *instance, Decision *d) {
        d->granted = d->has_offer = d->has_counter_offer = false;
        d->n_refusals = 0;
        d->offer.instance = instance;
        d->offer.buffer_size = e->request->buffer_size;
        d->offer.charge = 0;
        d->offer.mode = e->request->mode;
        d->offer.limited_by = NULL;
}

static void conclude(Decision *d) {
        d->granted = d->n_refusals == 0;
        d->has_offer = d->granted || d->refusals[0].kind == REFUSAL_BUSY;
}

static void check_instance(Decision *d, bool for_new) {
        const Instance *instance = d->offer.instance;

        if (instance->state != INSTANCE_STATE_READY)
                refuse(d, REFUSAL_INSTANCE_NOT_READY)->instance = instance;
        if (for_new && instance->guest == GUEST_SUPPORT_NO)
                refuse(d, REFUSAL_GUEST_UNSUPPORTED)->instance = instance;
}

/* Names whose the CPUs @denied are: the first one's owner and VM, and all others of the same. */
static void refuse_not_assigned(const Evaluator *e, const CpuSet *denied, bool needs_own_cpus, Decision *d) {
        RefusalFacts *facts = refuse(d, REFUSAL_NOT_ASSIGNED);

        assignment_table_alike(&e->model->assignments, cpuset_next(denied, 0), &facts->owner, &facts->vm,
                               &facts->cpus);
        cpuset_and(&facts->cpus, denied);
        facts->needs_own_cpus = needs_own_cpus;
}

/* CPUs that were asked for by name: all of them, or a refusal. */
static void check_named_cpus(const Evaluator *e, Decision *d) {
        const CpuSet *cpus = &e->request->cpus;
        CpuSet denied;

        d->offer.cpus = *cpus;
        if (!cpuset_is_subset(cpus, &d->offer.instance->effective))
                refuse(d, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus = *cpus;

        if (!cpuset_is_subset(cpus, &e->allowed)) {
                denied = *cpus;
                cpuset_subtract(&denied, &e->allowed);
                refuse_not_assigned(e, &denied, false, d);
        } else if (e->needs_own_cpus && !cpuset_is_subset(cpus, &e->own)) {
                denied = *cpus;
                cpuset_subtract(&denied, &e->own);
                refuse_not_assigned(e, &denied, true, d);
        }
}

/* Whatever of the instance the owner may run on and the VM may have. */
static void check_any_cpus(const Evaluator *e, Decision *d) {
        const PolicyRequest *request = e->request;
        CpuSet *cpus = &d->offer.cpus, before;

        *cpus = d->offer.instance->effective;
        if (request->has_affinity)
                cpuset_and(cpus, &request->affinity);
        if (cpuset_is_empty(cpus)) {
                refuse(d, REFUSAL_NO_INSTANCE_FOR_CPUS)->cpus =
                        request->has_affinity ? request->affinity : d->offer.instance->cpus;
                return;
        }

        before = *cpus;
        cpuset_and(cpus, &e->allowed);
        if (cpuset_is_empty(cpus)) {
                refuse_not_assigned(e, &before, false, d);
                return;
        }

        if (!e->needs_own_cpus)
                return;

        before = *cpus;
        cpuset_and(cpus, &e->own);
        if (cpuset_is_empty(cpus))
                refuse_not_assigned(e, &before, true, d);
}

static void check_cpus(const Evaluator *e, Decision *d) {
        if (e->request->has_cpus)
                check_named_cpus(e, d);
        else
                check_any_cpus(e, d);
}

/* The checks of limits answer with the first that is exceeded: each is asked only if the ones before hold. */
static bool refuse_limit(Decision *d, const LimitLeft *limit, uint64_t requested) {
        RefusalFacts *facts = refuse(d, REFUSAL_LIMIT_EXCEEDED);

        facts->limit = limit->limit;
        facts->requested = requested;
        facts->available = limit->available;
        return false;
}

/* The size per VCPU, and the limits on it. */
static bool check_buffer(const Evaluator *e, Decision *d) {
        const PolicyRequest *request = e->request;
        const Instance *instance = d->offer.instance;
        uint64_t size = buffer_size_floor(request->buffer_size);
        LimitLeft cap = e->buffer;

        if (size == 0 || (request->exact && size != request->buffer_size)) {
                RefusalFacts *facts = refuse(d, REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE);

                size = size > 0 ? size : BUFFER_SIZE_MIN;
                facts->requested = request->buffer_size;
                facts->nearest = size;
        }

        if (instance && instance->max_buffer_size > 0 && instance->max_buffer_size < cap.available)
                cap = (LimitLeft){LIMIT_INSTANCE_MAX_BUFFER_SIZE, instance->max_buffer_size};

        if (size > cap.available) {
                size = request->exact ? 0 : buffer_size_floor_power_of_two(cap.available);
                if (size == 0)
                        return refuse_limit(d, &cap, request->buffer_size);
                d->offer.limited_by = cap.limit;
        }

        d->offer.buffer_size = size;
        return true;
}

/* What the lease may pin, against what is left of each sum. */
static bool check_memory(const Evaluator *e, Decision *d) {
        const PolicyRequest *request = e->request;
        uint64_t page_size = e->model->limits.host_page_size;
        const LimitLeft *exceeded = NULL, *least = e->memory;
        uint64_t charge, size;

        charge = charge_lease(request->vcpus, d->offer.buffer_size, page_size);
        for (const LimitLeft *p = e->memory; p < e->memory + _EVALUATOR_MEMORY_MAX; p++) {
                if (charge > p->available && !exceeded)
                        exceeded = p;
                if (p->available < least->available)
                        least = p;
        }

        if (exceeded) {
                if (request->exact)
                        return refuse_limit(d, exceeded, charge);

                size = charge_fit(request->vcpus, least->available, page_size);
                if (size == 0)
                        return refuse_limit(d, least, charge);

                d->offer.buffer_size = size;
                d->offer.limited_by = least->limit;
                charge = charge_lease(request->vcpus, size, page_size);
        }

        d->offer.charge = charge;
        return true;
}

static bool check_count(const LimitLeft *leases, Decision *d) {
        return leases->available > 0 || refuse_limit(d, leases, 1);
}

static void check_size(const Evaluator *e, Decision *d) {
        if (check_buffer(e, d) && check_memory(e, d) && check_count(&e->leases, d))
                check_count(&e->leases_of_user, d);
}

/* What may not share must be protected; a lease that moves is as it was on the CPUs that it holds. */
static void check_protection(const Evaluator *e, Decision *d) {
        const char *reason = e->model->unprotected_reason;

        if (!reason || e->request->mode == LEASE_MODE_SHARED)
                return;
        if (e->held && cpuset_is_subset(&d->offer.cpus, e->held))
                return;

        refuse(d, REFUSAL_ARBITRATION_UNAVAILABLE)->reason = reason;
}

/* Asked last, of d->offer.cpus; there may be none if they have been refused. */
static void check_busy(const Evaluator *e, Decision *d) {
        const CpuSet *cpus = &d->offer.cpus;
        bool by_claim = cpuset_intersects(cpus, &e->claimed);
        bool by_session = cpuset_intersects(cpus, &e->sessions);
        RefusalFacts *facts;

        if (!by_claim && !by_session && !cpuset_intersects(cpus, &e->occupied))
                return;

        facts = refuse(d, REFUSAL_BUSY);
        facts->cpus = e->occupied;
        cpuset_or(&facts->cpus, &e->claimed);
        cpuset_or(&facts->cpus, &e->sessions);
        cpuset_and(&facts->cpus, cpus);
        facts->by_claim = by_claim;
        facts->by_session = by_session;
}

void evaluator_decide(const Evaluator *e, Instance *instance, Decision *d) {
        bool ready = instance->state == INSTANCE_STATE_READY;

        begin(e, instance, d);
        check_instance(d, true);
        if (ready)
                check_cpus(e, d);
        check_size(e, d);
        check_protection(e, d);
        if (ready)
                check_busy(e, d);
        conclude(d);
}

void evaluator_decide_nowhere(const Evaluator *e, RefusalKind kind, Decision *d) {
        begin(e, NULL, d);
        if (kind == REFUSAL_NO_INSTANCE_FOR_CPUS)
                refuse(d, kind)->cpus = e->request->cpus;
        else
                refuse(d, kind);
        check_size(e, d);
        check_protection(e, d);
        conclude(d);
}

void evaluator_decide_move(const Evaluator *e, Instance *instance, Decision *d) {
        bool ready = instance->state == INSTANCE_STATE_READY;

        begin(e, instance, d);
        check_instance(d, false);
        if (ready) {
                check_cpus(e, d);
                check_protection(e, d);
                check_busy(e, d);
        }
        conclude(d);
}

void evaluator_free_cpus(const Evaluator *e, const Instance *instance, CpuSet *ret_cpus) {
        const PolicyRequest *request = e->request;

        *ret_cpus = instance->effective;
        if (request->has_cpus)
                cpuset_and(ret_cpus, &request->cpus);
        else if (request->has_affinity)
                cpuset_and(ret_cpus, &request->affinity);

        cpuset_and(ret_cpus, &e->allowed);
        if (e->needs_own_cpus)
                cpuset_and(ret_cpus, &e->own);
        cpuset_subtract(ret_cpus, &e->occupied);
        cpuset_subtract(ret_cpus, &e->claimed);
        cpuset_subtract(ret_cpus, &e->sessions);
}
