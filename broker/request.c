/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Requests. The IDL has vouched for every type, so json-c's getters cannot fail here; what is left are
 * ranges, defaults, and who the owner is. The kernel's word decides on that: a process is opened before it is
 * believed.
 */

#include "broker/request.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "broker/access.h"
#include "broker/manager.h"

void lease_request_deinit(LeaseRequest *request) {
        free(request->vm);
        free(request->instance);
        free(request->id);
        owner_free(request->fresh);
        *request = LEASE_REQUEST_NULL;
}

static bool string_equal(const char *a, const char *b) {
        return a && b ? strcmp(a, b) == 0 : a == b;
}

bool lease_request_equal(const LeaseRequest *a, const LeaseRequest *b) {
        return string_equal(a->vm, b->vm) && string_equal(a->instance, b->instance) &&
               a->policy.vcpus == b->policy.vcpus && a->policy.buffer_size == b->policy.buffer_size &&
               a->policy.exact == b->policy.exact && a->policy.mode == b->policy.mode &&
               a->policy.has_cpus == b->policy.has_cpus &&
               (!a->policy.has_cpus || cpuset_equal(&a->policy.cpus, &b->policy.cpus));
}

const Owner *lease_request_get_owner(const LeaseRequest *request) {
        return request->known ? request->known->owner : request->fresh;
}

bool request_get_string(struct json_object *object, const char *name, const char **ret_value) {
        struct json_object *value;

        if (!json_object_object_get_ex(object, name, &value) || !value)
                return false;

        *ret_value = json_object_get_string(value);
        return true;
}

bool request_get_int(struct json_object *object, const char *name, int64_t *ret_value) {
        struct json_object *value;

        if (!json_object_object_get_ex(object, name, &value) || !value)
                return false;

        *ret_value = json_object_get_int64(value);
        return true;
}

bool request_get_bool(struct json_object *object, const char *name) {
        struct json_object *value;

        return json_object_object_get_ex(object, name, &value) && json_object_get_boolean(value);
}

int request_get_cpus(struct json_object *object, const char *name, bool *ret_there, CpuSet *ret_cpus) {
        const char *text;
        bool there;
        CpuSet cpus;

        there = request_get_string(object, name, &text);
        if (there) {
                if (cpuset_parse(text, strlen(text), &cpus) || cpuset_is_empty(&cpus))
                        return REQUEST_E_INVALID_PARAMETER;
                *ret_cpus = cpus;
        }

        *ret_there = there;
        return 0;
}

/* True if @text has a control character: C0, DEL, or C1 (which UTF-8 writes as C2 80 to C2 9F). */
static bool has_control(const char *text) {
        for (const unsigned char *p = (const unsigned char *)text; *p; p++)
                if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0))
                        return true;

        return false;
}

static bool is_plain_text(const char *text, size_t max) {
        size_t n = strlen(text);

        return n > 0 && n <= max && !has_control(text);
}

bool request_vm_name_is_valid(const char *name) {
        return is_plain_text(name, REQUEST_VM_NAME_MAX);
}

bool request_id_is_valid(const char *id) {
        return is_plain_text(id, REQUEST_ID_LENGTH_MAX);
}

bool request_cgroup_is_valid(const char *path) {
        return cgroup_path_is_valid(path) && !has_control(path);
}

bool request_reason_is_valid(const char *reason) {
        return is_plain_text(reason, REQUEST_REASON_MAX);
}

static int invalid(RequestFault *fault, const char *parameter) {
        fault->parameter = parameter;
        return REQUEST_E_INVALID_PARAMETER;
}

/* Everything that is a number, a word or a CPU set. */
static int parse_scalars(const Manager *manager, struct json_object *object, PolicyRequest *policy,
                         RequestFault *fault) {
        const char *mode;
        int64_t value;

        if (!request_get_int(object, "vcpus", &value) || value < 1 || value > REQUEST_VCPUS_MAX)
                return invalid(fault, "vcpus");
        policy->vcpus = (unsigned)value;

        if (request_get_cpus(object, "cpus", &policy->has_cpus, &policy->cpus))
                return invalid(fault, "cpus");

        policy->buffer_size = manager->config->limits.default_buffer_size;
        if (request_get_int(object, "bufferSize", &value)) {
                if (value < 0)
                        return invalid(fault, "bufferSize");
                policy->buffer_size = (uint64_t)value;
        }

        policy->exact = request_get_bool(object, "exact");
        policy->mode = manager->config->default_mode;
        if (request_get_string(object, "mode", &mode))
                policy->mode = lease_mode_from_string(mode);

        return 0;
}

static int parse_strings(struct json_object *object, LeaseRequest *request, RequestFault *fault) {
        const char *text;

        if (request_get_string(object, "instance", &text)) {
                /* One that there is not is answered, logged and remembered: not of any length, and one line.
                 */
                if (strlen(text) > REQUEST_INSTANCE_NAME_MAX || has_control(text))
                        return invalid(fault, "instance");
                request->instance = strdup(text);
                if (!request->instance)
                        return -ENOMEM;
        }

        if (request_get_string(object, "requestId", &text)) {
                if (!request_id_is_valid(text))
                        return invalid(fault, "requestId");
                request->id = strdup(text);
                if (!request->id)
                        return -ENOMEM;
        }

        return 0;
}

/* What was opened may have leases already. */
static void find_known(Manager *manager, LeaseRequest *request) {
        request->known = lease_owner_find(manager, request->fresh);
        if (request->known)
                request->fresh = owner_free(request->fresh);
}

/* 1 if the broker itself is in @cgroup: whoever killed the lease's owner would kill it, and the host's
 * services with it. */
static int is_around_broker(const Cgroup *cgroup) {
        _cleanup_(freep) char *path = NULL;
        int r;

        r = cgroup_path_of_process(getpid(), &path);
        if (r)
                return r < 0 ? r : 0;
        return cgroup_has_path(cgroup, path);
}

/*
 * Opens the control group that is named. It is its directory's owner's, root's unless it was delegated: who
 * is in it does not count, or whoever shares one with a VMM could have leases for it.
 */
static int open_cgroup(Manager *manager, const VarlinkPeer *peer, const char *path, LeaseRequest *request,
                       RequestFault *fault) {
        int r;

        if (!request_cgroup_is_valid(path))
                return invalid(fault, "cgroup");

        r = owner_new_cgroup(path, &request->fresh);
        if (r > 0)
                return invalid(fault, "cgroup");
        if (r < 0)
                return r;
        if (request->fresh->uid != peer->uid && !access_is_orchestrator(manager->config, peer))
                return REQUEST_E_PERMISSION_DENIED;
        r = is_around_broker(request->fresh->cgroup);
        if (r)
                return r < 0 ? r : invalid(fault, "cgroup");

        find_known(manager, request);
        return 0;
}

/* Opens the caller, or the process or control group it names. */
static int open_owner(Manager *manager, const VarlinkPeer *peer, struct json_object *object,
                      LeaseRequest *request, RequestFault *fault) {
        const char *cgroup = NULL;
        int64_t pid;
        int r;

        if (request_get_string(object, "cgroup", &cgroup))
                return request_get_int(object, "pid", &pid)
                               ? invalid(fault, "cgroup")
                               : open_cgroup(manager, peer, cgroup, request, fault);
        if (request_get_int(object, "pid", &pid)) {
                if (pid < 1 || pid > INT_MAX)
                        return invalid(fault, "pid");
        } else
                pid = peer->pid;

        fault->pid = (pid_t)pid;
        if (pid == peer->pid) {
                request->known = lease_owner_find_peer(&manager->owners, peer);
                if (request->known)
                        return 0;
                r = owner_new_peer(peer->pid, peer->uid, peer->pidfd, peer->accepted_boottime_usec,
                                   &request->fresh);
        } else
                r = owner_new((pid_t)pid, &request->fresh);
        if (r > 0)
                return REQUEST_E_NO_PROCESS;
        if (r < 0)
                return r;

        /* For itself everybody may; its real user can be another than the one that it connected as. */
        if (pid != peer->pid && request->fresh->uid != peer->uid &&
            !access_is_orchestrator(manager->config, peer))
                return REQUEST_E_PERMISSION_DENIED;

        find_known(manager, request);
        return 0;
}

/*
 * The VM's name and how far it can be trusted. A name that its owner could have been given anyway counts as
 * derived, so that a VMM may always say its name and lose nothing.
 */
static int name_vm(struct json_object *object, bool administrator, LeaseRequest *request,
                   RequestFault *fault) {
        const Owner *owner = lease_request_get_owner(request);
        const char *machine = owner->machine ? owner_machine_vm_name(owner->machine) : NULL;
        const char *unit = owner->unit ? owner_unit_vm_name(owner->unit) : NULL;
        const char *name = NULL;
        bool said;

        said = request_get_string(object, "vm", &name);
        if (!said)
                name = machine ?: unit;
        if (!name || !request_vm_name_is_valid(name))
                return invalid(fault, "vm");

        if (said && administrator)
                request->policy.vm_origin = VM_ORIGIN_ADMINISTRATOR;
        else if (string_equal(name, machine))
                request->policy.vm_origin = VM_ORIGIN_MACHINE;
        else if (string_equal(name, unit))
                request->policy.vm_origin = VM_ORIGIN_UNIT;
        else
                request->policy.vm_origin = VM_ORIGIN_CALLER;

        request->vm = strdup(name);
        return request->vm ? 0 : -ENOMEM;
}

int request_parse(Manager *manager, const VarlinkPeer *peer, struct json_object *object,
                  LeaseRequest *ret_request, RequestFault *ret_fault) {
        _cleanup_(lease_request_deinit) LeaseRequest request = LEASE_REQUEST_NULL;
        PolicyRequest *policy = &request.policy;
        const Owner *owner;
        int r;

        r = parse_scalars(manager, object, policy, ret_fault);
        if (r)
                return r;
        r = parse_strings(object, &request, ret_fault);
        if (r)
                return r;
        r = open_owner(manager, peer, object, &request, ret_fault);
        if (r)
                return r;

        policy->administrator = access_is_administrator(manager->config, peer);
        r = name_vm(object, policy->administrator, &request, ret_fault);
        if (r)
                return r;

        owner = lease_request_get_owner(&request);
        policy->uid = owner->uid;
        policy->vm = request.vm;
        policy->instance = request.instance;
        /* Affinity that cannot be read limits nothing, and on another host's tree it means nothing. */
        if (!policy->has_cpus && !manager->foreign)
                policy->has_affinity = owner_get_affinity(owner, &policy->affinity) == 0;

        *ret_request = request;
        request = LEASE_REQUEST_NULL;
        return 0;
}
