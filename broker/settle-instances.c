/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The first pass of settle: the instances of the model become those of the topology. An instance stays in the
 * table while leases are charged to it, whatever the tree says.
 */

#include "broker/settle-instances.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/assign.h"
#include "broker/events.h"
#include "broker/manager.h"

/* A copy of @text, which may be NULL, if it is not what @was says. */
static int copy_news(const char *was, const char *text, bool *ret_news, char **ret_copy) {
        bool news = !was != !text || (text && strcmp(was, text) != 0);
        char *copy = NULL;

        if (news && text) {
                copy = strdup(text);
                if (!copy)
                        return -ENOMEM;
        }

        *ret_news = news;
        *ret_copy = copy;
        return 0;
}

static void replace(char **text, char **with) {
        free(*text);
        *text = steal_ptr(*with);
}

/* What the tree, and KVM, say of @spu, as the rules see it. True in *@ret_changed if that is news. */
static int update_instance(Instance *instance, const Spu *spu, const CpuSet *online, bool *ret_changed) {
        InstanceState state = spu->ready ? INSTANCE_STATE_READY : INSTANCE_STATE_PARTIAL;
        _cleanup_(freep) char *problem = NULL, *reason = NULL;
        GuestSupport guest = guest_support(&spu->guest);
        bool other_problem, other_reason;
        /* Half-registered, it may not say yet. As if it were gone, it then has those that its leases, and the
         * configuration's assignments to it, are about. */
        bool silent = !spu->ready && cpuset_is_empty(&spu->cpus) && instance->n_leases > 0;
        CpuSet cpus = silent ? instance->cpus : spu->cpus, effective = cpus;
        int r;

        cpuset_and(&effective, online);
        r = copy_news(instance->problem, spu->ready ? NULL : spu->problem, &other_problem, &problem);
        if (r < 0)
                return r;
        r = copy_news(instance->guest_reason, spu->guest.reason, &other_reason, &reason);
        if (r < 0)
                return r;

        *ret_changed = instance->state != state || instance->pmu_type != spu->pmu_type ||
                       instance->max_buffer_size != spu->max_buffer_size || instance->guest != guest ||
                       !cpuset_equal(&instance->cpus, &cpus) ||
                       !cpuset_equal(&instance->effective, &effective) || other_problem || other_reason;

        instance->state = state;
        instance->guest = guest;
        instance->pmu_type = spu->pmu_type;
        instance->max_buffer_size = spu->max_buffer_size;
        instance->cpus = cpus;
        instance->effective = effective;
        if (other_problem)
                replace(&instance->problem, &problem);
        if (other_reason)
                replace(&instance->guest_reason, &reason);
        return 0;
}

static int add_instance(Manager *manager, const Spu *spu, Instance **ret_instance) {
        _cleanup_(instance_freep) Instance *instance = NULL;
        int r;

        r = instance_new(spu->name, spu->index, &instance);
        if (r < 0)
                return r;

        instance->state = INSTANCE_STATE_GONE; /* so that the first update is news */

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
                if (instance->n_leases == 0) {
                        sessions_forget_instance(manager, instance);
                        instance_table_remove(table, instance);
                }
        }
}

int settle_instances(Manager *manager) {
        Topology *topology = manager->topology;

        for (size_t i = 0; i < topology->n_spus; i++) {
                Spu *spu = &topology->spus[i];
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
                if (changed || spu->news)
                        events_instance(manager, instance);
                spu->news = false;
        }

        drop_instances(manager);
        return assign_apply_config(manager);
}
