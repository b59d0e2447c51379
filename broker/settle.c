/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The passes of settle. Each may make work for a later one, or end a waiter and with it make the queue worth
 * another look; every repetition has one waiter or one passed deadline less, so it comes to an end.
 */

#include "broker/settle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/assign.h"
#include "broker/end.h"
#include "broker/events.h"
#include "broker/grant.h"
#include "broker/manager.h"

/* What there was no memory for is tried again after this. */
#define RETRY_USEC UINT64_C(100000)

#define GUEST_UNKNOWN_REASON "this version of spe-broker does not probe KVM"

/* What the tree says of @spu, as the rules see it. True in *@ret_changed if that is news. */
static int update_instance(Instance *instance, const Spu *spu, const CpuSet *online, bool *ret_changed) {
        InstanceState state = spu->ready ? INSTANCE_STATE_READY : INSTANCE_STATE_PARTIAL;
        const char *problem = spu->ready ? NULL : spu->problem;
        _cleanup_(freep) char *copy = NULL;
        CpuSet effective = spu->cpus;

        cpuset_and(&effective, online);
        if (problem) {
                copy = strdup(problem);
                if (!copy)
                        return -ENOMEM;
        }

        *ret_changed = instance->state != state || instance->pmu_type != spu->pmu_type ||
                       instance->max_buffer_size != spu->max_buffer_size ||
                       !cpuset_equal(&instance->cpus, &spu->cpus) ||
                       !cpuset_equal(&instance->effective, &effective) ||
                       strcmp(instance->problem ?: "", problem ?: "") != 0;

        instance->state = state;
        instance->pmu_type = spu->pmu_type;
        instance->max_buffer_size = spu->max_buffer_size;
        instance->cpus = spu->cpus;
        instance->effective = effective;
        free(instance->problem);
        instance->problem = steal_ptr(copy);
        return 0;
}

static int add_instance(Manager *manager, const Spu *spu, Instance **ret_instance) {
        _cleanup_(instance_freep) Instance *instance = NULL;
        int r;

        r = instance_new(spu->name, spu->index, &instance);
        if (r < 0)
                return r;

        instance->state = INSTANCE_STATE_GONE; /* so that the first update is news */
        instance->guest = GUEST_SUPPORT_UNKNOWN;
        instance->guest_reason = strdup(GUEST_UNKNOWN_REASON);
        if (!instance->guest_reason)
                return -ENOMEM;

        r = instance_table_add(&manager->model.instances, instance);
        if (r < 0)
                return r;

        *ret_instance = steal_ptr(instance);
        return 0;
}

/* Those that the tree does not have any more: gone while leases are on them, then out of the table. */
static void drop_instances(Manager *manager) {
        InstanceTable *table = &manager->model.instances;

        for (size_t i = table->n; i > 0; i--) {
                Instance *instance = table->entries[i - 1];
                bool news = instance->state != INSTANCE_STATE_GONE;

                if (topology_find(manager->topology, instance->name))
                        continue;

                instance->state = INSTANCE_STATE_GONE;
                instance->effective = CPUSET_NULL;
                free(instance->problem); /* of the time when it was partial */
                instance->problem = NULL;
                if (news || instance->n_leases == 0)
                        events_instance(manager, instance);
                if (instance->n_leases == 0)
                        instance_table_remove(table, instance);
        }
}

static int settle_instances(Manager *manager) {
        const Topology *topology = manager->topology;

        for (size_t i = 0; i < topology->n_spus; i++) {
                const Spu *spu = &topology->spus[i];
                Instance *instance = instance_table_find(&manager->model.instances, spu->name);
                bool changed;
                int r;

                if (!instance) {
                        r = add_instance(manager, spu, &instance);
                        if (r < 0)
                                return r;
                }

                r = update_instance(instance, spu, &topology->online, &changed);
                if (r < 0)
                        return r;
                if (changed)
                        events_instance(manager, instance);
        }

        drop_instances(manager);
        return assign_apply_config(manager);
}

/* Assignments leave it no CPU. One that is revoking for another reason keeps that reason, and its deadline.
 */
static void bar_lease(Manager *manager, Lease *lease) {
        if (lease->state != LEASE_STATE_GRANTED)
                return;

        lease->affected_generation = manager->settle_generation;
        lease_revoke(manager, lease, manager->config->revoke_grace_usec,
                     "all its CPUs are assigned to others now", false);
        lease->barred = true;
}

/* Leases that lose CPUs shrink if any are left, else they are revoked with the grace. */
static void settle_assignments(Manager *manager) {
        Lease *lease;

        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                CpuSet kept;

                if (!lease_is_holding(lease))
                        continue;

                decide_keep(&manager->model, &lease->request.policy, &lease->cpus, &kept);
                if (cpuset_is_empty(&kept)) {
                        bar_lease(manager, lease);
                        continue;
                }

                if (!cpuset_equal(&kept, &lease->cpus)) {
                        lease->affected_generation = manager->settle_generation;
                        lease_move(manager, lease, &kept, LEASE_CHANGE_CPUS);
                }
                if (lease->barred)
                        lease_restore(manager, lease);
        }
}

static void settle_deadlines(Manager *manager, uint64_t now) {
        Lease *lease, *next;

        for (lease = LIST_FIRST(&manager->leases.revoking); lease; lease = next) {
                next = LIST_NEXT(lease, revoking_link);
                if (lease->deadline_usec <= now)
                        lease_grace_over(manager, lease);
        }
}

/* Ends a waiter with the first refusal. */
static int refuse_waiter(Manager *manager, Lease *lease, const RefusalFacts *facts) {
        Refusal *refusal;
        int r;

        r = refusal_new(manager, &lease->request, facts, &refusal);
        if (r < 0)
                return r;

        lease_refuse(manager, lease, refusal);
        return 0;
}

/*
 * Waiters in order: each is decided behind the claims of those that still wait before it. One that there is
 * no memory to grant or to refuse keeps its place and its claims: then it returns false.
 */
static bool settle_queue(Manager *manager, uint64_t now) {
        Claims claims = CLAIMS_NULL;
        Lease *lease, *next;
        bool complete = true;

        for (lease = TAILQ_FIRST(&manager->leases.waiting); lease; lease = next) {
                Decision decision;

                next = TAILQ_NEXT(lease, waiting_link);
                decide(&manager->model, &lease->request.policy, &claims, false, &decision);

                if (decision.granted || !decision.has_offer || lease->deadline_usec <= now) {
                        int r = decision.granted ? lease_grant(manager, lease, &decision.offer)
                                                 : refuse_waiter(manager, lease, &decision.refusals[0]);

                        if (r == 0)
                                continue;
                        complete = false;
                        if (!decision.has_offer)
                                continue; /* it has nothing to claim any more */
                }

                lease_set_wanted(lease, &decision.offer);
                claims_add(&claims, decision.offer.mode, &decision.offer.cpus);
        }

        manager->claims = claims;
        return complete;
}

static void set_contended(Manager *manager, Lease *lease, bool contended) {
        if (lease->contended == contended)
                return;

        lease->contended = contended;
        events_lease(manager, lease, contended ? LEASE_CHANGE_CONTENDED : LEASE_CHANGE_UNCONTENDED);
}

/*
 * A revoked lease's guest may go on profiling, which an exclusive lease on its CPUs was promised not to
 * happen. Both are marked.
 */
static void settle_contention(Manager *manager) {
        CpuSet revoked = CPUSET_NULL;
        Lease *lease;

        TAILQ_FOREACH(lease, &manager->leases.all, link)
                if (lease->state == LEASE_STATE_REVOKED)
                        cpuset_or(&revoked, &lease->cpus);

        TAILQ_FOREACH(lease, &manager->leases.all, link) {
                const CpuSet *exclusive = &manager->model.occupancy.held[LEASE_MODE_EXCLUSIVE];

                if (lease->state == LEASE_STATE_REVOKED)
                        set_contended(manager, lease, cpuset_intersects(&lease->cpus, exclusive));
                else if (lease_is_holding(lease))
                        set_contended(manager, lease,
                                      lease->request.policy.mode == LEASE_MODE_EXCLUSIVE &&
                                              cpuset_intersects(&lease->cpus, &revoked));
        }
}

static void arm(sd_event_source *timer, uint64_t usec) {
        if (usec == UINT64_MAX) {
                sd_event_source_set_enabled(timer, SD_EVENT_OFF);
                return;
        }

        sd_event_source_set_time(timer, usec);
        sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* Without memory nothing of it can be done now, and a timer that is due already would keep the loop spinning.
 */
static uint64_t next_deadline(const Manager *manager, bool complete) {
        uint64_t next = UINT64_MAX;
        const Lease *lease;

        if (!complete)
                return manager_now_monotonic(manager) + RETRY_USEC;

        TAILQ_FOREACH(lease, &manager->leases.waiting, waiting_link)
                if (lease->deadline_usec < next)
                        next = lease->deadline_usec;
        LIST_FOREACH(lease, &manager->leases.revoking, revoking_link)
                if (lease->deadline_usec < next)
                        next = lease->deadline_usec;

        return next;
}

void settle(Manager *manager) {
        bool complete = true;

        manager->settle_generation++;

        while (manager->dirty) {
                unsigned dirty = manager->dirty;
                uint64_t now = manager_now_monotonic(manager);

                manager->dirty = 0;
                if (dirty & DIRTY_INSTANCES && settle_instances(manager) < 0) {
                        manager->dirty |= dirty;
                        complete = false;
                        break;
                }
                if (assign_expire(manager))
                        dirty |= DIRTY_ASSIGNMENTS;
                if ((dirty | manager->dirty) & (DIRTY_ASSIGNMENTS | DIRTY_INSTANCES))
                        settle_assignments(manager);
                manager->dirty &= ~(unsigned)DIRTY_ASSIGNMENTS;
                if (dirty & DIRTY_DEADLINES)
                        settle_deadlines(manager, now);
                manager->dirty &= ~(unsigned)DIRTY_QUEUE;
                complete = settle_queue(manager, now);
                if ((dirty | manager->dirty) & DIRTY_CONTENTION)
                        settle_contention(manager);
                manager->dirty &= ~(unsigned)DIRTY_CONTENTION;
        }

        arm(manager->deadline_timer, next_deadline(manager, complete));
        arm(manager->expiry_timer, assignment_table_next_expiry(&manager->model.assignments));
        assign_tell(manager);
        assign_answer_waits(manager);
}
