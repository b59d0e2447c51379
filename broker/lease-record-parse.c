/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Leases from text. What is read is believed only if it is what we would have written, so that nothing which
 * is asserted later can fail because of it. The first thing that is wrong with it is the reason that is told.
 */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "broker/lease-record-text.h"
#include "broker/lease-record.h"
#include "broker/member.h"
#include "broker/record-sum.h"
#include "host/topology.h"
#include "policy/charge.h"
#include "util/buffer-size.h"
#include "util/random.h"
#include "varlink/json-read.h"

static const char *const known_members[] = {
        RECORD_VERSION, RECORD_BOOT_ID, RECORD_LEASE, RECORD_REQUEST,
        RECORD_OWNER,   RECORD_STATE,   RECORD_SUM,   RECORD_MEMLOCK,
};

/* The phrases of read_x(): what is wrong with a member, whatever it is. */
#define BAD(member) member " is missing, or not what it can be"

/* Copies what a record owns. */
static int copy_string(const char *text, char **ret_copy) {
        char *copy = text ? strdup(text) : NULL;

        if (text && !copy)
                return -ENOMEM;

        *ret_copy = copy;
        return 0;
}

static int copy_strings(const char *vm, const char *instance, const char *id, LeaseRequest *request) {
        int r;

        r = copy_string(vm, &request->vm);
        if (r == 0)
                r = copy_string(instance, &request->instance);
        if (r == 0)
                r = copy_string(id, &request->id);
        request->policy.vm = request->vm;
        request->policy.instance = request->instance;
        return r;
}

static int read_request(MemberReader *outer, LeaseRequest *request) {
        const char *id, *vm, *origin, *instance, *mode;
        PolicyRequest *policy = &request->policy;
        MemberReader reader;

        member_reader_enter(outer, RECORD_REQUEST, BAD("request"), &reader);
        id = member_get_optional_string(&reader, "requestId", BAD("request.requestId"));
        member_require(&reader, !id || request_id_is_valid(id), BAD("request.requestId"));
        policy->uid = (uid_t)member_get_int(&reader, "uid", 0, UINT32_MAX - 1, BAD("request.uid"));
        policy->administrator = member_get_bool(&reader, "administrator", BAD("request.administrator"));
        vm = member_get_string(&reader, "vm", BAD("request.vm"));
        member_require(&reader, vm && request_vm_name_is_valid(vm), BAD("request.vm"));
        origin = member_get_string(&reader, "vmOrigin", BAD("request.vmOrigin"));
        policy->vm_origin = origin ? vm_origin_from_string(origin) : _VM_ORIGIN_INVALID;
        member_require(&reader, policy->vm_origin >= 0, BAD("request.vmOrigin"));
        policy->vcpus =
                (unsigned)member_get_int(&reader, "vcpus", 1, REQUEST_VCPUS_MAX, BAD("request.vcpus"));
        policy->has_cpus = member_get_optional_cpus(&reader, "cpus", BAD("request.cpus"), &policy->cpus);
        instance = member_get_optional_string(&reader, "instance", BAD("request.instance"));
        member_require(&reader, !instance || strlen(instance) <= REQUEST_INSTANCE_NAME_MAX,
                       BAD("request.instance"));
        policy->has_affinity =
                member_get_optional_cpus(&reader, "affinity", BAD("request.affinity"), &policy->affinity);
        policy->buffer_size =
                (uint64_t)member_get_int(&reader, "bufferSize", 0, INT64_MAX, BAD("request.bufferSize"));
        policy->exact = member_get_bool(&reader, "exact", BAD("request.exact"));
        mode = member_get_string(&reader, "mode", BAD("request.mode"));
        policy->mode = mode ? lease_mode_from_string(mode) : _LEASE_MODE_INVALID;
        member_require(&reader, policy->mode >= 0, BAD("request.mode"));

        outer->fault = member_reader_finish(&reader, "request has members that are unknown");
        return outer->fault ? 0 : copy_strings(vm, instance, id, request);
}

static void read_process(MemberReader *reader, LeaseRecordOwner *owner) {
        owner->pid = (pid_t)member_get_int(reader, "pid", 1, INT_MAX, BAD("owner.pid"));
        owner->start_time =
                (uint64_t)member_get_int(reader, "startTime", 0, INT64_MAX, BAD("owner.startTime"));
        owner->unclaimed_deadline_usec = UINT64_MAX;
}

static const char *read_cgroup(MemberReader *reader, LeaseRecordOwner *owner) {
        const char *path = member_get_string(reader, "cgroup", BAD("owner.cgroup"));

        member_require(reader, path && request_cgroup_is_valid(path), BAD("owner.cgroup"));
        owner->cgroup_id = (uint64_t)member_get_int(reader, "cgroupId", 1, INT64_MAX, BAD("owner.cgroupId"));
        owner->unclaimed_deadline_usec = member_get_time(reader, "unclaimedUSec", BAD("owner.unclaimedUSec"));
        return path;
}

static int read_owner(MemberReader *outer, bool of_cgroup, LeaseRecordOwner *owner) {
        const char *cgroup = NULL;
        MemberReader reader;

        member_reader_enter(outer, RECORD_OWNER, BAD("owner"), &reader);
        if (of_cgroup)
                cgroup = read_cgroup(&reader, owner);
        else
                read_process(&reader, owner);
        owner->uid = (uid_t)member_get_int(&reader, "uid", 0, UINT32_MAX - 1, BAD("owner.uid"));

        outer->fault = member_reader_finish(&reader, "owner has members that are unknown");
        return outer->fault ? 0 : copy_string(cgroup, &owner->cgroup);
}

/* What it is granted: where, and how much. */
static void read_grant(MemberReader *reader, LeaseRecord *record) {
        const char *instance, *limit;

        instance = member_get_string(reader, "instance", BAD("state.instance"));
        if (instance && strlen(instance) <= INSTANCE_NAME_MAX &&
            topology_parse_name(instance, &record->instance_index))
                memcpy(record->instance_name, instance, strlen(instance) + 1);
        else
                member_require(reader, false, BAD("state.instance"));

        record->pmu_type = (uint32_t)member_get_int(reader, "pmuType", 0, UINT32_MAX, BAD("state.pmuType"));
        record->now_pmu_type =
                (uint32_t)member_get_int(reader, "nowPmuType", 0, UINT32_MAX, BAD("state.nowPmuType"));
        member_get_cpus(reader, "cpus", BAD("state.cpus"), &record->cpus);
        member_get_cpus(reader, "usable", BAD("state.usable"), &record->usable);
        member_require(reader, cpuset_is_subset(&record->usable, &record->cpus), BAD("state.usable"));
        record->buffer_size =
                (uint64_t)member_get_int(reader, "bufferSize", 1, INT64_MAX, BAD("state.bufferSize"));
        member_require(reader, buffer_size_is_representable(record->buffer_size), BAD("state.bufferSize"));
        limit = member_get_optional_string(reader, "limitedBy", BAD("state.limitedBy"));
        record->limited_by = limit ? limit_from_string(limit) : NULL;
        member_require(reader, !limit || record->limited_by, BAD("state.limitedBy"));
        record->charge =
                (uint64_t)member_get_int(reader, "charge", 1, CHARGE_SATURATED - 1, BAD("state.charge"));
}

static void read_times(MemberReader *reader, LeaseRecord *record) {
        record->since_usec =
                (uint64_t)member_get_int(reader, "sinceUSec", 0, INT64_MAX, BAD("state.sinceUSec"));
        record->deadline_usec = member_get_time(reader, "deadlineUSec", BAD("state.deadlineUSec"));
        record->away_deadline_usec =
                member_get_time(reader, "awayDeadlineUSec", BAD("state.awayDeadlineUSec"));
        record->grace_usec =
                (uint64_t)member_get_int(reader, "graceUSec", 0, INT64_MAX, BAD("state.graceUSec"));
}

static void read_flags(MemberReader *reader, LeaseRecord *record) {
        record->barred = member_get_bool(reader, "barred", BAD("state.barred"));
        record->kill = member_get_bool(reader, "kill", BAD("state.kill"));
        record->terminated = member_get_bool(reader, "terminated", BAD("state.terminated"));
        record->away = member_get_bool(reader, "away", BAD("state.away"));
        record->restart_required = member_get_bool(reader, "restartRequired", BAD("state.restartRequired"));
}

/* What cannot be true at once of a lease in its state. */
static bool is_consistent(const LeaseRecord *record) {
        bool ends = record->deadline_usec != UINT64_MAX;

        if (record->away_deadline_usec != UINT64_MAX &&
            (!record->away || record->state == LEASE_STATE_REVOKED))
                return false;
        if (record->terminated && !record->kill)
                return false;

        switch (record->state) {
        case LEASE_STATE_GRANTED:
                return !ends && !record->barred && !record->kill;
        case LEASE_STATE_REVOKING:
                return ends && !record->terminated;
        case LEASE_STATE_REVOKED:
                return !record->barred && (!ends || record->kill);
        default:
                return false;
        }
}

static int read_state(MemberReader *outer, LeaseRecord *record) {
        const char *state, *reason;
        MemberReader reader;

        member_reader_enter(outer, RECORD_STATE, BAD("state"), &reader);
        state = member_get_string(&reader, "state", BAD("state.state"));
        record->state = state ? lease_state_from_string(state) : _LEASE_STATE_INVALID;
        member_require(&reader, record->state >= 0, BAD("state.state"));
        reason = member_get_optional_string(&reader, "reason", BAD("state.reason"));
        member_require(&reader, !reason || strlen(reason) <= LEASE_RECORD_REASON_MAX, BAD("state.reason"));
        read_grant(&reader, record);
        read_times(&reader, record);
        read_flags(&reader, record);
        member_require(&reader, is_consistent(record), "state contradicts itself");

        outer->fault = member_reader_finish(&reader, "state has members that are unknown");
        return outer->fault ? 0 : copy_string(reason, &record->reason);
}

/* Only what says the same as when it was written is looked at any further. */
static int check_sum(MemberReader *reader, const char *boot_id, const char *id) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_MAX);
        static const char *const summed[] = {RECORD_REQUEST, RECORD_OWNER, RECORD_STATE};
        const char *said = member_get_string(reader, RECORD_SUM, BAD("sum"));
        char sum[RECORD_SUM_LENGTH + 1];
        JsonWriter w;
        int r;

        if (reader->fault)
                return 0;

        lease_record_begin_sum(&w, &buffer, boot_id, id);
        for (size_t i = 0; i < ELEMENTS_OF(summed); i++)
                json_write_json(&w, summed[i], json_object_object_get(reader->object, summed[i]));
        r = record_sum_finish(&w, sum);
        if (r == -ENOMEM)
                return r;
        member_require(reader, r == 0 && strcmp(said, sum) == 0, "damaged: its sum is another");
        return 0;
}

/* Leaves in @root what this build does not know. */
static int keep_unknown(struct json_object *root, const char **ret_reason) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_UNKNOWN_MAX);
        JsonWriter w;
        int r;

        for (size_t i = 0; i < ELEMENTS_OF(known_members); i++)
                json_object_object_del(root, known_members[i]);

        json_writer_init(&w, &buffer);
        json_write_json(&w, NULL, root);
        r = json_writer_finish(&w);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                *ret_reason = "more unknown members than can be kept";
                return LEASE_RECORD_E_BAD;
        }
        return 0;
}

/* What the file is: one of ours, of a version that is known, of this lease. */
static void read_head(MemberReader *reader, const char *id, const char **ret_boot_id, bool *ret_of_cgroup) {
        MemberReader lease;
        const char *said;

        member_reader_init(reader, reader->object, "not an object");
        *ret_of_cgroup =
                member_get_int(reader, RECORD_VERSION, LEASE_RECORD_VERSION, LEASE_RECORD_VERSION_CGROUP,
                               "of another version") == LEASE_RECORD_VERSION_CGROUP;
        *ret_boot_id = member_get_string(reader, RECORD_BOOT_ID, BAD("bootId"));
        member_reader_enter(reader, RECORD_LEASE, BAD("lease"), &lease);
        said = member_get_string(&lease, RECORD_ID, BAD("lease.leaseId"));
        member_require(&lease, said && strcmp(said, id) == 0, "of another lease than its name says");
        member_require(reader, !lease.fault, lease.fault);
}

static int read_record(struct json_object *root, const char *id, const char *boot_id, LeaseRecord *record,
                       const char **ret_reason) {
        MemberReader reader = {.object = root};
        const char *said_boot_id;
        bool of_cgroup;
        int r;

        read_head(&reader, id, &said_boot_id, &of_cgroup);
        if (!reader.fault) {
                r = check_sum(&reader, said_boot_id, id);
                if (r < 0)
                        return r;
        }
        if (!reader.fault) {
                r = read_request(&reader, &record->request);
                if (r < 0)
                        return r;
        }
        if (!reader.fault) {
                r = read_owner(&reader, of_cgroup, &record->owner);
                if (r < 0)
                        return r;
        }
        if (!reader.fault) {
                r = read_state(&reader, record);
                if (r < 0)
                        return r;
        }
        if (reader.fault) {
                *ret_reason = reader.fault;
                return LEASE_RECORD_E_BAD;
        }

        if (strcmp(said_boot_id, boot_id) != 0) {
                *ret_reason = "of another boot";
                return LEASE_RECORD_E_OTHER_BOOT;
        }
        memcpy(record->id, id, sizeof(record->id));
        return 0;
}

int lease_record_parse(const char *data, size_t n, const char *id, const char *boot_id,
                       LeaseRecord *ret_record, const char **ret_reason) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        int r;

        if (!random_id_is_valid(id) || n > LEASE_RECORD_MAX) {
                *ret_reason = n > LEASE_RECORD_MAX ? "too large" : "not called as a lease is";
                return LEASE_RECORD_E_BAD;
        }
        r = json_read(data, n, &root, NULL);
        if (r > 0) {
                *ret_reason = json_read_strerror(r);
                return LEASE_RECORD_E_BAD;
        }
        if (r < 0)
                return r;

        r = read_record(root, id, boot_id, &record, ret_reason);
        if (r)
                return r;
        r = lease_record_read_memlock(root, boot_id, id, &record);
        if (r < 0)
                return r;
        r = keep_unknown(root, ret_reason);
        if (r)
                return r;
        if (json_object_object_length(root) > 0)
                record.unknown = steal_ptr(root);

        *ret_record = record;
        record = LEASE_RECORD_NULL;
        return 0;
}
