/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A change of assignments is made on a copy of the table, the copy is saved, and only then does it take the
 * table's place: what an administrator was told holds after a crash too.
 */

#include "broker/assign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/assignment-store.h"
#include "broker/encode.h"
#include "broker/events.h"
#include "broker/lease.h"
#include "broker/log.h"
#include "broker/manager.h"

static int copy_table(const AssignmentTable *table, AssignmentTable *ret_copy) {
        _cleanup_(assignment_table_deinit) AssignmentTable copy = ASSIGNMENT_TABLE_NULL;

        copy.default_owner = table->default_owner;
        for (size_t i = 0; i < table->n; i++) {
                const Assignment *a = table->entries[i];
                int r;

                r = assignment_table_set(&copy, &a->cpus, a->owner, a->vm, a->origin, a->until_usec);
                if (r < 0)
                        return r;
        }

        *ret_copy = copy;
        copy = ASSIGNMENT_TABLE_NULL;
        return 0;
}

/* The copy becomes the table. */
static void commit_table(Manager *manager, AssignmentTable *copy) {
        CpuSet changed;

        assignment_table_diff(&manager->model.assignments, copy, &changed);
        cpuset_or(&manager->reassigned, &changed);
        assignment_table_deinit(&manager->model.assignments);
        manager->model.assignments = *copy;
        *copy = ASSIGNMENT_TABLE_NULL;
        manager_mark_dirty(manager, DIRTY_ASSIGNMENTS);
}

/* The caller is told that it failed, the journal where and why. */
static int save(Manager *manager, const AssignmentTable *table, AssignmentOrigin origin) {
        int r;

        r = assignment_store_save(manager->root_fd, table, origin, manager->boot_id);
        if (r < 0)
                log_message(LOG_ERR, "/%s: cannot be written: %s; assignments stay as they were",
                            assignment_store_path(origin), strerror(-r));
        return r;
}

int assign_set(Manager *manager, const CpuSet *cpus, AssignmentOwner owner, const char *vm,
               AssignmentOrigin origin, uint64_t until_usec) {
        _cleanup_(assignment_table_deinit) AssignmentTable copy = ASSIGNMENT_TABLE_NULL;
        int r;

        r = copy_table(&manager->model.assignments, &copy);
        if (r < 0)
                return r;
        r = assignment_table_set(&copy, cpus, owner, vm, origin, until_usec);
        if (r < 0)
                return r;
        r = save(manager, &copy, origin);
        if (r < 0)
                return r;

        commit_table(manager, &copy);
        return 0;
}

/* Saves @copy, which is the table without @cpus: all of it, or nothing. */
static int save_cleared(Manager *manager, const AssignmentTable *copy, const CpuSet *cpus) {
        const AssignmentTable *table = &manager->model.assignments;
        bool persistent = cpuset_intersects(&table->spoken_of[ASSIGNMENT_ORIGIN_PERSISTENT], cpus),
             runtime = cpuset_intersects(&table->spoken_of[ASSIGNMENT_ORIGIN_RUNTIME], cpus);
        int r;

        if (!persistent)
                return runtime ? save(manager, copy, ASSIGNMENT_ORIGIN_RUNTIME) : 0;
        if (!runtime)
                return save(manager, copy, ASSIGNMENT_ORIGIN_PERSISTENT);

        r = assignment_store_save_both(manager->root_fd, table, copy, cpus, manager->boot_id);
        if (r < 0)
                log_message(LOG_ERR, "assignments cannot be saved: %s; they stay as they were", strerror(-r));
        return r;
}

int assign_clear(Manager *manager, const CpuSet *cpus) {
        _cleanup_(assignment_table_deinit) AssignmentTable copy = ASSIGNMENT_TABLE_NULL;
        int r;

        r = copy_table(&manager->model.assignments, &copy);
        if (r < 0)
                return r;
        r = assignment_table_clear(&copy, cpus, ASSIGNMENT_ORIGIN_PERSISTENT);
        if (r < 0)
                return r;
        r = assignment_table_clear(&copy, cpus, ASSIGNMENT_ORIGIN_RUNTIME);
        if (r < 0)
                return r;
        r = save_cleared(manager, &copy, cpus);
        if (r < 0)
                return r;

        commit_table(manager, &copy);
        return 0;
}

/* Where an assignment of the configuration holds on this host now. */
static void resolve(const Manager *manager, const ConfigAssignment *config, CpuSet *ret_cpus) {
        const Instance *instance;

        *ret_cpus = config->has_cpus ? config->cpus : CPUSET_NULL;
        if (!config->instance)
                return;

        instance = instance_table_find(&manager->model.instances, config->instance);
        if (!instance)
                *ret_cpus = CPUSET_NULL;
        else if (config->has_cpus)
                cpuset_and(ret_cpus, &instance->cpus);
        else
                *ret_cpus = instance->cpus;
}

int assign_apply_config(Manager *manager) {
        _cleanup_(assignment_table_deinit) AssignmentTable copy = ASSIGNMENT_TABLE_NULL;
        CpuSet all = CPUSET_NULL;
        int r;

        cpuset_add_range(&all, 0, CPUSET_MAX - 1);
        r = copy_table(&manager->model.assignments, &copy);
        if (r < 0)
                return r;
        r = assignment_table_clear(&copy, &all, ASSIGNMENT_ORIGIN_CONFIG);
        if (r < 0)
                return r;

        copy.default_owner = manager->config->default_owner;
        for (size_t i = 0; i < manager->config->n_assignments; i++) {
                const ConfigAssignment *config = &manager->config->assignments[i];
                CpuSet cpus;

                resolve(manager, config, &cpus);
                if (cpuset_is_empty(&cpus))
                        continue;
                r = assignment_table_set(&copy, &cpus, config->owner, config->vm, ASSIGNMENT_ORIGIN_CONFIG,
                                         UINT64_MAX);
                if (r < 0)
                        return r;
        }

        commit_table(manager, &copy);
        return 0;
}

void assign_warn_unmatched(const Manager *manager) {
        for (size_t i = 0; i < manager->config->n_assignments; i++) {
                const ConfigAssignment *config = &manager->config->assignments[i];
                CpuSet cpus, known = CPUSET_NULL;

                resolve(manager, config, &cpus);
                for (size_t j = 0; j < manager->model.instances.n; j++)
                        cpuset_or(&known, &manager->model.instances.entries[j]->cpus);
                if (!cpuset_intersects(&cpus, &known))
                        log_position(LOG_WARNING, config->file, config->line,
                                     "[Assignment %s] matches nothing on this host", config->name);
                else if (config->has_cpus && !cpuset_equal(&cpus, &config->cpus))
                        log_position(
                                LOG_WARNING, config->file, config->line,
                                "[Assignment %s]: not all of Cpus= are CPUs of %s: the others are left out",
                                config->name, config->instance);
        }
}

int assign_load(Manager *manager) {
        static const AssignmentOrigin origins[] = {ASSIGNMENT_ORIGIN_PERSISTENT, ASSIGNMENT_ORIGIN_RUNTIME};

        for (size_t i = 0; i < ELEMENTS_OF(origins); i++) {
                _cleanup_(freep) char *problem = NULL;
                int r;

                r = assignment_store_load(manager->root_fd, origins[i], manager->boot_id,
                                          &manager->model.assignments, &problem);
                if (r < 0)
                        return r;
                if (r > 0)
                        log_message(LOG_WARNING, "%s", problem);
        }

        return 0;
}

bool assign_expire(Manager *manager) {
        AssignmentTable *table = &manager->model.assignments;
        uint64_t now = manager_now_realtime(manager);

        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->until_usec <= now)
                        cpuset_or(&manager->reassigned, &table->entries[i]->cpus);

        return assignment_table_expire(table, now);
}

void assign_tell(Manager *manager) {
        const InstanceTable *instances = &manager->model.instances;

        if (cpuset_is_empty(&manager->reassigned))
                return;

        for (size_t i = 0; i < instances->n; i++)
                if (cpuset_intersects(&instances->entries[i]->cpus, &manager->reassigned))
                        events_instance(manager, instances->entries[i]);

        manager->reassigned = CPUSET_NULL;
}

bool assign_bars(const Manager *manager, const Lease *lease, const CpuSet *cpus) {
        CpuSet common = lease->cpus, allowed;

        if (lease->state != LEASE_STATE_REVOKING && lease->state != LEASE_STATE_REVOKED)
                return false;

        cpuset_and(&common, cpus);
        allowed = common;
        assignment_table_restrict(&manager->model.assignments, lease->request.vm,
                                  lease->request.policy.vm_origin, &allowed);
        return !cpuset_equal(&common, &allowed);
}

void assign_barred_to_sessions(const Manager *manager, const CpuSet *cpus, CpuSet *ret_cpus) {
        CpuSet drained;

        assignment_table_owned_by(&manager->model.assignments, ASSIGNMENT_OWNER_NONE, &drained);
        assignment_table_owned_by(&manager->model.assignments, ASSIGNMENT_OWNER_GUEST, ret_cpus);
        cpuset_or(ret_cpus, &drained);
        cpuset_and(ret_cpus, cpus);
}

static unsigned count_leases(const Manager *manager, const CpuSet *cpus) {
        const Lease *lease;
        unsigned n = 0;

        if (manager->leases.n_revoked == 0 && LIST_EMPTY(&manager->leases.revoking))
                return 0;

        TAILQ_FOREACH(lease, &manager->leases.all, link)
                n += assign_bars(manager, lease, cpus);

        return n;
}

bool assign_is_draining(const Manager *manager, const CpuSet *cpus) {
        const SessionOccupancy *sessions = &manager->sessions.admitted;
        CpuSet barred;

        if (count_leases(manager, cpus) > 0)
                return true;
        if (manager->sessions.n == 0)
                return false;

        assign_barred_to_sessions(manager, cpus, &barred);
        return cpuset_intersects(&sessions->cpu_wide, &barred) ||
               cpuset_intersects(&sessions->task_bound, &barred);
}

unsigned assign_count_barred(const Manager *manager, const CpuSet *cpus) {
        unsigned n = count_leases(manager, cpus);
        const Session *session;
        CpuSet barred;

        assign_barred_to_sessions(manager, cpus, &barred);
        if (cpuset_is_empty(&barred))
                return n;

        TAILQ_FOREACH(session, &manager->sessions.all, link)
                n += cpuset_intersects(&session->reach, &barred) && !session->facts.entering;

        return n;
}

static void on_wait_closed(_unused_ VarlinkCall *call, void *userdata) {
        assign_wait_free(userdata);
}

int assign_wait_new(VarlinkCall *call, const CpuSet *cpus, AssignWait **ret_wait) {
        AssignWait *wait;

        wait = calloc(1, sizeof(*wait));
        if (!wait)
                return -ENOMEM;

        wait->call = call;
        wait->cpus = *cpus;

        *ret_wait = wait;
        return 0;
}

void assign_wait_start(Manager *manager, AssignWait *wait) {
        wait->n_barred = assign_count_barred(manager, &wait->cpus);
        wait->linked = true;
        LIST_INSERT_HEAD(&manager->assign_waits, wait, link);
        varlink_call_watch(wait->call, on_wait_closed, NULL, wait);
}

AssignWait *assign_wait_free(AssignWait *wait) {
        if (!wait)
                return NULL;

        if (wait->linked)
                LIST_REMOVE(wait, link);
        free(wait);
        return NULL;
}

void assign_answer_waits(Manager *manager) {
        AssignWait *wait, *next;

        for (wait = LIST_FIRST(&manager->assign_waits); wait; wait = next) {
                unsigned n = assign_count_barred(manager, &wait->cpus);

                next = LIST_NEXT(wait, link);
                if (n == wait->n_barred)
                        continue;

                wait->n_barred = n;
                encode_assign_reply(wait->call, manager, &wait->cpus, n > 0);
                if (n == 0)
                        assign_wait_free(wait);
        }
}
