/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Administration: root and AdminGroup. Errors carry this interface's own name, as varlink has it.
 */

#include "broker/access.h"
#include "broker/assign.h"
#include "broker/encode.h"
#include "broker/end.h"
#include "broker/manager.h"
#include "broker/methods.h"
#include "broker/settle.h"

static bool is_administrator(const Manager *manager, const VarlinkCall *call) {
        return access_is_administrator(manager->config, varlink_call_get_peer(call));
}

static void no_such_instance(Manager *manager, VarlinkCall *call, const char *name) {
        JsonWriter *w = varlink_call_error(call, ADMIN_ERROR_PREFIX "NoSuchInstance");

        json_write_string(w, "instance", name);
        json_write_array_begin(w, "instances");
        for (size_t i = 0; i < manager->model.instances.n; i++)
                json_write_string(w, NULL, manager->model.instances.entries[i]->name);
        json_write_array_end(w);
        varlink_call_send(call);
}

/* The CPUs that an instance has. */
static CpuSet instance_cpus(const Manager *manager) {
        CpuSet cpus = CPUSET_NULL;

        for (size_t i = 0; i < manager->model.instances.n; i++)
                cpuset_or(&cpus, &manager->model.instances.entries[i]->cpus);

        return cpus;
}

/* The CPUs that an assignment speaks of: those of an instance that is not there any more, too. */
static CpuSet assigned_cpus(const Manager *manager) {
        CpuSet cpus = CPUSET_NULL;

        for (size_t i = 0; i < manager->model.assignments.n; i++)
                cpuset_or(&cpus, &manager->model.assignments.entries[i]->cpus);

        return cpus;
}

/*
 * The CPUs that cpus and instance mean: one of them, or both, and then cpus must be the instance's. Without
 * an instance they must all be in @known. False: it has been answered.
 */
static bool read_cpus(Manager *manager, VarlinkCall *call, struct json_object *parameters, CpuSet known,
                      CpuSet *ret_cpus) {
        CpuSet cpus = CPUSET_NULL;
        const char *name;
        bool there;

        if (request_get_cpus(parameters, "cpus", &there, &cpus)) {
                varlink_call_invalid_parameter(call, "cpus");
                return false;
        }

        if (request_get_string(parameters, "instance", &name)) {
                const Instance *instance = instance_table_find(&manager->model.instances, name);

                if (!instance) {
                        no_such_instance(manager, call, name);
                        return false;
                }
                known = instance->cpus;
                if (!there)
                        cpus = known;
        }

        if (cpuset_is_empty(&cpus) || !cpuset_is_subset(&cpus, &known)) {
                varlink_call_invalid_parameter(call, "cpus");
                return false;
        }

        *ret_cpus = cpus;
        return true;
}

/* How long: the origin, and when it ends. False: forUSec is out of range. */
static bool read_duration(const Manager *manager, struct json_object *parameters,
                          AssignmentOrigin *ret_origin, uint64_t *ret_until_usec) {
        uint64_t now = manager_now_realtime(manager);
        int64_t for_usec;

        *ret_origin = request_get_bool(parameters, "runtime") ? ASSIGNMENT_ORIGIN_RUNTIME
                                                              : ASSIGNMENT_ORIGIN_PERSISTENT;
        *ret_until_usec = UINT64_MAX;
        if (!request_get_int(parameters, "forUSec", &for_usec))
                return true;
        if (for_usec < 1 || (uint64_t)for_usec > (uint64_t)INT64_MAX - now)
                return false;

        *ret_origin = ASSIGNMENT_ORIGIN_RUNTIME;
        *ret_until_usec = now + (uint64_t)for_usec;
        return true;
}

int method_assign(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        _cleanup_(assign_wait_freep) AssignWait *wait = NULL;
        Manager *manager = userdata;
        const char *vm = NULL, *word = NULL;
        AssignmentOrigin origin;
        AssignmentOwner owner;
        uint64_t until_usec;
        CpuSet cpus;
        bool waits;
        int r;

        if (!is_administrator(manager, call))
                return varlink_call_permission_denied(call);

        request_get_string(parameters, "owner", &word);
        owner = assignment_owner_from_string(word);
        if (request_get_string(parameters, "vm", &vm) &&
            (!request_vm_name_is_valid(vm) ||
             (owner != ASSIGNMENT_OWNER_GUEST && owner != ASSIGNMENT_OWNER_ANY)))
                return varlink_call_invalid_parameter(call, "vm");
        if (!read_duration(manager, parameters, &origin, &until_usec))
                return varlink_call_invalid_parameter(call, "forUSec");
        if (!read_cpus(manager, call, parameters, instance_cpus(manager), &cpus))
                return 0;

        if (varlink_call_wants_more(call)) {
                r = assign_wait_new(call, &cpus, &wait);
                if (r < 0)
                        return r;
        }
        r = assign_set(manager, &cpus, owner, vm, origin, until_usec);
        if (r < 0)
                return r;

        settle(manager); /* it holds at once, and the answer says what it did */
        waits = wait && assign_count_barred(manager, &cpus) > 0;
        if (waits)
                assign_wait_start(manager, steal_ptr(wait));
        encode_assign_first_reply(call, manager, &cpus, waits);
        return 0;
}

int method_unassign(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        CpuSet known = instance_cpus(manager), assigned = assigned_cpus(manager), cpus;
        int r;

        if (!is_administrator(manager, call))
                return varlink_call_permission_denied(call);
        cpuset_or(&known, &assigned);
        if (!read_cpus(manager, call, parameters, known, &cpus))
                return 0;

        r = assign_clear(manager, &cpus);
        if (r < 0)
                return r;

        settle(manager);
        return varlink_call_reply_empty(call);
}

/* What its owner is told if the administrator says nothing: no reason that it had is lost, unless it was not
 * somebody's word, and is none any more. */
static const char *default_reason(const Lease *lease) {
        bool has_one = lease->state == LEASE_STATE_REVOKED ||
                       (lease->state == LEASE_STATE_REVOKING && !lease->barred);

        return has_one && lease->reason ? NULL : "an administrator took it back";
}

int method_revoke(VarlinkCall *call, struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        const char *id = "", *reason = NULL;
        int64_t grace_usec = (int64_t)manager->config->revoke_grace_usec;
        Lease *lease;

        if (!is_administrator(manager, call))
                return varlink_call_permission_denied(call);
        if (request_get_int(parameters, "graceUSec", &grace_usec) && grace_usec < 0)
                return varlink_call_invalid_parameter(call, "graceUSec");

        if (request_get_string(parameters, "reason", &reason) && !request_reason_is_valid(reason))
                return varlink_call_invalid_parameter(call, "reason");
        request_get_string(parameters, "leaseId", &id);
        lease = lease_find(&manager->leases, id);
        if (!lease) {
                json_write_string(varlink_call_error(call, ADMIN_ERROR_PREFIX "NoSuchLease"), "leaseId", id);
                varlink_call_send(call);
                return 0;
        }

        if (!reason)
                reason = default_reason(lease);
        if (lease->state == LEASE_STATE_QUEUED)
                lease_end_wait(manager, lease, reason);
        else
                lease_revoke(manager, lease, (uint64_t)grace_usec, reason,
                             request_get_bool(parameters, "kill"), varlink_call_get_peer(call));
        (void)leases_save(manager); /* before it is told; if that fails, it is revoked all the same */
        return varlink_call_reply_empty(call);
}

int method_reload(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        _cleanup_(config_fault_deinit) ConfigFault fault = CONFIG_FAULT_NULL;
        Manager *manager = userdata;
        JsonWriter *w;
        int r;

        if (!is_administrator(manager, call))
                return varlink_call_permission_denied(call);

        r = manager_reload(manager, &fault);
        if (r < 0)
                return r;
        if (r == 0) {
                settle(manager); /* as with Rescan: what it says holds by the time of the answer */
                return varlink_call_reply_empty(call);
        }

        w = varlink_call_error(call, ADMIN_ERROR_PREFIX "InvalidConfiguration");
        json_write_string(w, "file", fault.file);
        json_write_int(w, "line", fault.line);
        json_write_string(w, "message", fault.message);
        varlink_call_send(call);
        return 0;
}

int method_rescan(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Manager *manager = userdata;
        int r;

        if (!is_administrator(manager, call))
                return varlink_call_permission_denied(call);

        guest_forget(manager); /* who asks for it wants all of it looked at again */
        r = manager_rescan(manager);
        if (r < 0)
                return r;

        settle(manager); /* whoever lists next sees what was found */
        manager_log_problems(manager);
        return varlink_call_reply_empty(call);
}
