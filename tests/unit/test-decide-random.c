/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The decision against a second writing of its rules: random small hosts, on which random requests, moves,
 * assignments and releases are decided and carried out, and every answer, every reason in it, the offer, the
 * counter-offer and all sums must be what policy-world.h makes of the same. Seeds are fixed.
 */

#include "tests/unit/policy-world.h"

#include <stdio.h>

#define N_HOSTS 1500U
#define N_STEPS 50U

static unsigned current_host;

/* How often each kind of answer came up. */
static struct {
        unsigned granted, refused[_REFUSAL_MAX], by_session, countered, unprotected, moved, shrunk;
} seen;

/* ---- comparing ---- */

static void check_not_assigned(const PolicyRequest *r, const RefusalFacts *facts) {
        AssignmentOwner owner;
        int vm;

        assert_false(cpuset_is_empty(&facts->cpus));
        CPUSET_FOREACH(cpu, &facts->cpus) {
                if (facts->needs_own_cpus)
                        assert_true(r->mode == LEASE_MODE_EXCLUSIVE && !r->administrator && !is_own(r, cpu));
                else
                        assert_false(is_allowed(r->vm, r->vm_origin, cpu));

                decided_by(cpu, &owner, &vm);
                assert_int_equal(facts->owner, owner);
                if (vm == VM_NONE)
                        assert_null(facts->vm);
                else
                        assert_string_equal(facts->vm, vm_names[vm]);
        }
}

static void check_facts(const PolicyRequest *r, const RefusalFacts *facts, const Verdict *verdict,
                        const Grant *self) {
        bool by_claim = false, by_session = false;

        switch (facts->kind) {
        case REFUSAL_NOT_ASSIGNED:
                check_not_assigned(r, facts);
                break;
        case REFUSAL_LIMIT_EXCEEDED:
                assert_non_null(facts->limit);
                assert_true(facts->requested > facts->available);
                break;
        case REFUSAL_BUSY:
                for (unsigned cpu = 0; cpu < N_CPUS; cpu++) {
                        bool in_question = cpuset_has(&verdict->cpus, cpu);

                        assert_int_equal(cpuset_has(&facts->cpus, cpu), in_question && is_busy(r, cpu, self));
                        by_claim |= in_question && is_claimed(r->mode, cpu) && !(self && self->cpus[cpu]);
                        by_session |= in_question && is_profiled(r, cpu, self);
                }
                assert_int_equal(facts->by_claim, by_claim);
                assert_int_equal(facts->by_session, by_session);
                seen.by_session += by_session;
                break;
        case REFUSAL_ARBITRATION_UNAVAILABLE:
                assert_string_equal(facts->reason, world.model.unprotected_reason);
                break;
        case REFUSAL_BUFFER_SIZE_NOT_REPRESENTABLE:
                assert_int_equal(facts->requested, r->buffer_size);
                assert_true(buffer_size_is_representable(facts->nearest));
                assert_true(facts->nearest < r->buffer_size || facts->nearest == BUFFER_SIZE_MIN);
                break;
        case REFUSAL_INSTANCE_NOT_READY:
        case REFUSAL_GUEST_UNSUPPORTED:
                assert_ptr_equal(facts->instance, verdict->instance);
                break;
        case REFUSAL_NO_SUCH_INSTANCE:
                assert_null(facts->instance);
                break;
        case REFUSAL_NO_INSTANCE_FOR_CPUS:
                if (r->has_cpus)
                        assert_true(cpuset_equal(&facts->cpus, &r->cpus));
                break;
        case _REFUSAL_MAX:
                fail();
        }
}

static void compare(const PolicyRequest *r, const Decision *d, const Verdict *v, const Grant *self) {
        unsigned kinds = 0;

        for (size_t i = 0; i < d->n_refusals; i++) {
                assert_true(kinds < 1U << d->refusals[i].kind); /* in order, each once */
                kinds |= 1U << d->refusals[i].kind;
                check_facts(r, &d->refusals[i], v, self);
        }

        assert_int_equal(kinds, v->kinds);
        assert_int_equal(d->granted, kinds == 0);
        assert_int_equal(d->has_offer, kinds == 0 || kinds == KIND(BUSY));
        if (!d->has_offer)
                return;

        assert_ptr_equal(d->offer.instance, v->instance);
        assert_true(cpuset_equal(&d->offer.cpus, &v->cpus));
        assert_int_equal(d->offer.mode, r->mode);
}

/* The offer as a request: what a client makes of it. */
static PolicyRequest offer_request(const PolicyRequest *r, const Offer *offer) {
        PolicyRequest again = *r;

        again.instance = offer->instance->name;
        again.has_cpus = true;
        again.cpus = offer->cpus;
        again.buffer_size = offer->buffer_size;
        again.exact = true;
        again.mode = offer->mode;
        return again;
}

static void check_offer_holds(const PolicyRequest *r, const Offer *offer) {
        PolicyRequest again = offer_request(r, offer);
        Verdict v = judge_request(&again);
        Decision d;

        assert_int_equal(v.kinds, 0);
        assert_true(buffer_size_is_representable(offer->buffer_size));
        decide(&world.model, &again, &world.ahead, true, &d);
        assert_true(d.granted);
        assert_ptr_equal(d.offer.instance, offer->instance);
        assert_true(cpuset_equal(&d.offer.cpus, &offer->cpus));
        assert_int_equal(d.offer.buffer_size, offer->buffer_size);
        assert_int_equal(d.offer.charge, offer->charge);
        assert_int_equal(d.offer.mode, offer->mode);
}

/* ---- carrying out ---- */

static CpuSet grant_cpus(const Grant *g) {
        CpuSet set = CPUSET_NULL;

        for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                if (g->cpus[cpu])
                        cpuset_add(&set, cpu);
        return set;
}

static void grant_move(Grant *g, const CpuSet *to) {
        CpuSet from = grant_cpus(g);

        occupancy_remove(&world.model.occupancy, g->mode, &from);
        occupancy_add(&world.model.occupancy, g->mode, to);
        for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                g->cpus[cpu] = cpuset_has(to, cpu);
}

static void grant_end(Grant *g) {
        CpuSet cpus = grant_cpus(g);

        occupancy_remove(&world.model.occupancy, g->mode, &cpus);
        ledger_refund(&g->token);
        g->used = false;
}

static void carry_out(const PolicyRequest *r, const Offer *offer) {
        Grant *g = world.grants;

        while (g->used)
                g++;
        assert_true(g < world.grants + N_GRANTS);

        *g = (Grant){
                .used = true,
                .uid = r->uid,
                .vm = r->vm[0] - 'a',
                .vm_origin = r->vm_origin,
                .instance = offer->instance,
                .mode = offer->mode,
                .charge = offer->charge,
        };
        grant_move(g, &offer->cpus);
        assert_int_equal(
                ledger_charge(&world.model.ledger, r->uid, r->vm, offer->instance, offer->charge, &g->token),
                0);
}

/* The books agree with the list of grants, and no two grants exclude each other. */
static void check_books(void) {
        const Ledger *ledger = &world.model.ledger;
        unsigned n, per_cpu[_LEASE_MODE_MAX];

        assert_int_equal(ledger->total.bytes, charged(false, 0, NULL, &n));
        assert_int_equal(ledger->total.n_leases, n);
        assert_true(ledger->total.bytes <= world.model.limits.max_memory);
        assert_true(n <= world.model.limits.max_leases);

        for (uid_t uid = 1000; uid < 1002; uid++) {
                assert_int_equal(ledger_get_user(ledger, uid).bytes, charged(true, uid, NULL, &n));
                assert_int_equal(ledger_get_user(ledger, uid).n_leases, n);
                for (unsigned vm = 0; vm < N_VMS; vm++) {
                        assert_int_equal(ledger_get_vm(ledger, uid, vm_names[vm]).bytes,
                                         charged(true, uid, vm_names[vm], &n));
                        assert_int_equal(ledger_get_vm(ledger, uid, vm_names[vm]).n_leases, n);
                }
        }

        for (size_t i = 0; i < world.model.instances.n; i++)
                assert_int_equal(world.model.instances.entries[i]->charge,
                                 charge_of(world.model.instances.entries[i]));

        for (unsigned cpu = 0; cpu < N_CPUS; cpu++) {
                memset(per_cpu, 0, sizeof(per_cpu));
                for (const Grant *g = world.grants; g < world.grants + N_GRANTS; g++)
                        if (g->used && g->cpus[cpu]) {
                                per_cpu[g->mode]++;
                                assert_true(is_allowed(vm_names[g->vm], g->vm_origin, cpu));
                        }
                for (LeaseMode mode = 0; mode < _LEASE_MODE_MAX; mode++)
                        assert_int_equal(world.model.occupancy.n[mode][cpu], per_cpu[mode]);
                if (per_cpu[LEASE_MODE_EXCLUSIVE] > 0)
                        assert_int_equal(per_cpu[LEASE_MODE_EXCLUSIVE] + per_cpu[LEASE_MODE_GUEST] +
                                                 per_cpu[LEASE_MODE_SHARED],
                                         1);
        }
}

/* ---- the steps ---- */

static void draw_size(PolicyRequest *r) {
        static const uint64_t awkward[] = {0, 1, 4095, 4096, 4097, 5000, MIB(4) + 4096, MIB(64), INT64_MAX};

        r->exact = chance(40);
        if (chance(15))
                r->buffer_size = awkward[draw(ELEMENTS_OF(awkward))];
        else if (chance(50))
                r->buffer_size = UINT64_C(4096) << draw(12);
        else
                r->buffer_size = 4096 * (1 + draw(1500));
}

static PolicyRequest draw_request(void) {
        static const char *const instances[] = {"arm_spe_0", "arm_spe_1", "arm_spe_2", "arm_spe_3",
                                                "arm_spe_4"};
        const InstanceTable *t = &world.model.instances;
        PolicyRequest r = {
                .uid = 1000 + (uid_t)draw(2),
                .administrator = chance(30),
                .vm = vm_names[draw(N_VMS)],
                .vm_origin = (VmOrigin)draw(_VM_ORIGIN_MAX),
                .vcpus = 1 + (unsigned)draw(8),
                .mode = (LeaseMode)draw(_LEASE_MODE_MAX),
        };

        draw_size(&r);
        if (chance(30))
                r.instance = instances[draw(ELEMENTS_OF(instances))];

        r.has_cpus = chance(55);
        if (r.has_cpus)
                r.cpus = draw_cpus(chance(30) ? 60 : 20);
        if (r.has_cpus && t->n > 0 && chance(75)) {
                CpuSet inside = r.cpus;

                cpuset_and(&inside, &t->entries[draw(t->n)]->cpus);
                if (!cpuset_is_empty(&inside))
                        r.cpus = inside;
        }
        if (r.has_cpus && chance(3))
                cpuset_add(&r.cpus, N_CPUS); /* no instance's */

        r.has_affinity = chance(30);
        if (r.has_affinity)
                r.affinity = draw_cpus(60);
        r.own_sessions = own_sessions(r.vm);
        return r;
}

/* There is one wherever anything could be had; one without protection, only where there is no other. */
static void check_counter_offer(const PolicyRequest *r, const Decision *d) {
        bool unprotected;

        assert_int_equal(d->has_counter_offer, could_have_anything(r, LEASE_MODE_SHARED));
        if (!d->has_counter_offer)
                return;

        check_offer_holds(r, &d->counter_offer);
        unprotected = r->mode != LEASE_MODE_SHARED && d->counter_offer.mode == LEASE_MODE_SHARED;
        if (r->mode != LEASE_MODE_SHARED)
                assert_int_equal(unprotected, !could_have_anything(r, LEASE_MODE_GUEST));
        seen.countered++;
        seen.unprotected += unprotected;
}

static void step_request(void) {
        PolicyRequest r = draw_request();
        Verdict v = judge_request(&r);
        Decision d;

        decide(&world.model, &r, &world.ahead, true, &d);
        compare(&r, &d, &v, NULL);
        if (!d.granted) {
                seen.refused[d.refusals[0].kind]++;
                check_counter_offer(&r, &d);
                return;
        }

        seen.granted++;
        assert_false(d.has_counter_offer);
        assert_int_equal(d.offer.buffer_size, v.size);
        assert_int_equal(d.offer.charge, charge_lease(r.vcpus, v.size, HOST_PAGE));
        assert_int_equal(d.offer.limited_by != NULL, v.size < buffer_size_floor(r.buffer_size));
        check_offer_holds(&r, &d.offer);
        carry_out(&r, &d.offer);
}

static Grant *draw_grant(void) {
        Grant *g = world.grants + draw(N_GRANTS);

        return g->used ? g : NULL;
}

static void step_move(void) {
        PolicyRequest r = draw_request();
        Grant *g = draw_grant();
        Verdict v = {0};
        CpuSet held;
        Decision d;

        if (!g)
                return;

        r.uid = g->uid;
        r.vm = vm_names[g->vm];
        r.vm_origin = g->vm_origin;
        r.mode = g->mode;
        r.instance = NULL;
        r.own_sessions = own_sessions(r.vm);
        held = grant_cpus(g);

        v.instance = g->instance;
        v.kinds = g->instance->state != INSTANCE_STATE_READY ? KIND(INSTANCE_NOT_READY)
                                                             : judge_cpus(&r, g->instance, g, &v.cpus);
        if (g->instance->state == INSTANCE_STATE_READY && is_unprotected(&r, &v.cpus, g))
                v.kinds |= KIND(ARBITRATION_UNAVAILABLE);
        decide_move(&world.model, &r, g->instance, &held, &world.ahead, &d);
        compare(&r, &d, &v, g);
        if (d.granted) {
                grant_move(g, &d.offer.cpus);
                seen.moved++;
        }
}

static void say(void) {
        CpuSet cpus = draw_cpus(25);
        AssignmentOrigin origin = (AssignmentOrigin)draw(_ASSIGNMENT_ORIGIN_MAX);
        Saying saying = {
                .said = chance(75), .owner = (AssignmentOwner)draw(_ASSIGNMENT_OWNER_MAX), .vm = VM_NONE};

        if ((saying.owner == ASSIGNMENT_OWNER_GUEST || saying.owner == ASSIGNMENT_OWNER_ANY) && chance(60))
                saying.vm = (int)draw(N_VMS);

        CPUSET_FOREACH(cpu, &cpus)
                world.sayings[origin][cpu] = saying;
        if (saying.said)
                assert_int_equal(assignment_table_set(&world.model.assignments, &cpus, saying.owner,
                                                      saying.vm == VM_NONE ? NULL : vm_names[saying.vm],
                                                      origin, UINT64_MAX),
                                 0);
        else
                assert_int_equal(assignment_table_clear(&world.model.assignments, &cpus, origin), 0);
}

/* An assignment, and what it makes of the grants. */
static void step_assign(void) {
        say();

        for (Grant *g = world.grants; g < world.grants + N_GRANTS; g++) {
                PolicyRequest r = {.vcpus = 1, .uid = g->uid, .vm_origin = g->vm_origin, .mode = g->mode};
                CpuSet held, kept, expected = CPUSET_NULL;

                if (!g->used)
                        continue;

                r.vm = vm_names[g->vm];
                held = grant_cpus(g);
                CPUSET_FOREACH(cpu, &held)
                        if (is_allowed(r.vm, r.vm_origin, cpu))
                                cpuset_add(&expected, cpu);

                decide_keep(&world.model, &r, &held, &kept);
                assert_true(cpuset_equal(&kept, &expected));
                seen.shrunk += !cpuset_equal(&kept, &held);
                if (cpuset_is_empty(&kept))
                        grant_end(g);
                else
                        grant_move(g, &kept);
        }
}

static void change_instance(Instance *instance) {
        instance->state = chance(75) ? INSTANCE_STATE_READY : (InstanceState)draw(_INSTANCE_STATE_MAX);
        instance->guest = chance(85) ? GUEST_SUPPORT_YES : (GuestSupport)draw(_GUEST_SUPPORT_MAX);
        instance->max_buffer_size = chance(60) ? 0 : 4096 * (1 + draw(1000));
        instance->effective = instance->cpus;
        CPUSET_FOREACH(cpu, &instance->cpus)
                if (chance(10))
                        cpuset_remove(&instance->effective, cpu);
}

static void step_claims(void) {
        world.ahead = CLAIMS_NULL;
        world.n_claims = draw(N_CLAIMS + 1);
        for (size_t i = 0; i < world.n_claims; i++) {
                CpuSet cpus = draw_cpus(20);

                world.claims[i].mode = (LeaseMode)draw(_LEASE_MODE_MAX);
                for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                        world.claims[i].cpus[cpu] = cpuset_has(&cpus, cpu);
                claims_add(&world.ahead, world.claims[i].mode, &cpus);
        }
}

/* A session opens or closes, or the level is another one. */
static void step_sessions(void) {
        HostSession *s = &world.sessions[draw(N_SESSIONS)];

        *s = (HostSession){.used = chance(40),
                           .kind = (SessionKind)draw(_SESSION_KIND_MAX),
                           .target_vm = (int)draw(N_VMS)};
        if (s->kind == SESSION_KIND_TASK)
                for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                        s->cpus[cpu] = chance(25);
        else
                s->cpus[draw(N_CPUS)] = true;
        for (unsigned cpu = 0; cpu < N_CPUS; cpu++)
                world.unholdable[cpu] = chance(3);

        sum_sessions_up();
        world.model.unprotected_reason = chance(15) ? "no hand in this kernel" : NULL;
}

static void step(void) {
        const InstanceTable *t = &world.model.instances;
        unsigned what = (unsigned)draw(100);
        Grant *g;

        if (what < 62)
                step_request();
        else if (what < 74)
                step_move();
        else if (what < 81)
                step_assign();
        else if (what < 84)
                step_claims();
        else if (what < 89)
                step_sessions();
        else if (what < 92 && t->n > 0)
                change_instance(t->entries[draw(t->n)]);
        else {
                g = draw_grant();
                if (g)
                        grant_end(g);
        }
}

static void build_host(unsigned seed) {
        Limits *limits = &world.model.limits;
        size_t n_instances;

        memset(&world, 0, sizeof(world));
        world.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
        world.model.assignments = ASSIGNMENT_TABLE_NULL;
        world.model.assignments.default_owner =
                chance(70) ? ASSIGNMENT_OWNER_ANY : (AssignmentOwner)draw(_ASSIGNMENT_OWNER_MAX);

        world.overrides[0] = (LimitOverride){.vm = (char *)vm_names[0],
                                             .max_buffer_size = chance(50) ? MIB(1) : 0,
                                             .max_memory = chance(50) ? MIB(10) : 0};
        world.overrides[1] = (LimitOverride){.uid = 1001,
                                             .max_buffer_size = chance(50) ? MIB(2) : 0,
                                             .max_memory = chance(50) ? MIB(15) : 0};
        *limits = (Limits){
                .max_buffer_size = 4096 * (1 + draw(2048)),
                .max_memory_per_vm = MIB(4) + draw(MIB(40)),
                .max_memory_per_user = MIB(4) + draw(MIB(60)),
                .max_memory = MIB(4) + draw(MIB(100)),
                .max_leases = 2 + (unsigned)draw(N_GRANTS - 1),
                .max_leases_per_user = 2 + (unsigned)draw(N_GRANTS - 1),
                .overrides = world.overrides,
                .n_overrides = ELEMENTS_OF(world.overrides),
                .host_page_size = HOST_PAGE,
        };

        n_instances = draw(N_INSTANCES + 1);
        for (unsigned i = 0; i < n_instances; i++) {
                char name[INSTANCE_NAME_MAX + 1];
                Instance *instance = NULL;

                snprintf(name, sizeof(name), "arm_spe_%u", i);
                assert_int_equal(instance_new(name, i, &instance), 0);
                assert_int_equal(instance_table_add(&world.model.instances, instance), 0);
        }
        for (unsigned cpu = 0; n_instances > 0 && cpu < N_CPUS; cpu++)
                cpuset_add(&world.model.instances.entries[draw(n_instances)]->cpus, cpu);
        for (unsigned i = 0; i < n_instances; i++)
                change_instance(world.model.instances.entries[i]);
        if (chance(50))
                say();
        if (chance(50))
                step_sessions();
}

static void tear_host_down(void) {
        for (Grant *g = world.grants; g < world.grants + N_GRANTS; g++)
                if (g->used)
                        grant_end(g);

        check_books();
        assert_int_equal(world.model.ledger.total.bytes, 0);
        assert_memory_equal(&world.model.occupancy, &(Occupancy){0}, sizeof(Occupancy));

        ledger_deinit(&world.model.ledger);
        assignment_table_deinit(&world.model.assignments);
        instance_table_deinit(&world.model.instances);
}

static void test_random(_unused_ void **state) {
        for (current_host = 1; current_host <= N_HOSTS; current_host++) {
                build_host(current_host);
                for (unsigned i = 0; i < N_STEPS; i++) {
                        step();
                        check_books();
                }
                tear_host_down();
        }

        /* Chance has come to every kind of answer, or this test has tested little. */
        assert_true(seen.granted > 1000);
        assert_true(seen.countered > 1000);
        assert_true(seen.unprotected > 1000);
        assert_true(seen.by_session > 1000);
        assert_true(seen.moved > 100);
        assert_true(seen.shrunk > 100);
        for (RefusalKind kind = 0; kind < _REFUSAL_MAX; kind++)
                assert_true(seen.refused[kind] > 100);
}

/* Where to look, if it failed. */
static int name_host(_unused_ void **state) {
        if (current_host <= N_HOSTS)
                print_message("at host %u of %u\n", current_host, N_HOSTS);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_random, NULL, name_host),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
