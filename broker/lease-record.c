/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Leases as text. What a restart believes is written, and read, in one order, and stands under a sum: a file
 * in which a single byte has changed would else be as good as any other and say that other CPUs are held, or
 * that another process holds them.
 */

#include "broker/lease-record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/encode.h"
#include "broker/lease-record-text.h"
#include "broker/manager.h"
#include "broker/record-sum.h"

void lease_record_deinit(LeaseRecord *record) {
        lease_request_deinit(&record->request);
        free(record->owner.cgroup);
        free(record->reason);
        json_object_put(record->unknown);
        *record = LEASE_RECORD_NULL;
}

static void write_optional_cpus(JsonWriter *w, const char *key, bool there, const CpuSet *cpus) {
        if (there)
                json_write_cpuset(w, key, cpus);
        else
                json_write_null(w, key);
}

/* A time that JSON's integers cannot say is far beyond everything that waits for it. */
static void write_time(JsonWriter *w, const char *key, uint64_t usec) {
        encode_int_or_null(w, key, usec != UINT64_MAX, usec < INT64_MAX ? usec : INT64_MAX);
}

static void write_request(JsonWriter *w, const LeaseRequest *request) {
        const PolicyRequest *policy = &request->policy;

        json_write_object_begin(w, RECORD_REQUEST);
        json_write_string(w, "requestId", request->id);
        json_write_int(w, "uid", policy->uid);
        json_write_bool(w, "administrator", policy->administrator);
        json_write_string(w, "vm", request->vm);
        json_write_string(w, "vmOrigin", vm_origin_to_string(policy->vm_origin));
        json_write_int(w, "vcpus", policy->vcpus);
        write_optional_cpus(w, "cpus", policy->has_cpus, &policy->cpus);
        json_write_string(w, "instance", request->instance);
        write_optional_cpus(w, "affinity", policy->has_affinity, &policy->affinity);
        json_write_int(w, "bufferSize", (int64_t)policy->buffer_size);
        json_write_bool(w, "exact", policy->exact);
        json_write_string(w, "mode", lease_mode_to_string(policy->mode));
        json_write_object_end(w);
}

static void write_owner(JsonWriter *w, const Lease *lease) {
        const Owner *owner = lease->owner->owner;

        json_write_object_begin(w, RECORD_OWNER);
        if (owner->cgroup) {
                json_write_string(w, "cgroup", owner->cgroup->path);
                json_write_int(w, "cgroupId", (int64_t)owner->cgroup->id);
                write_time(w, "unclaimedUSec", lease->unclaimed_deadline_usec);
        } else {
                json_write_int(w, "pid", owner->pid);
                json_write_int(w, "startTime", (int64_t)owner->start_time);
        }
        json_write_int(w, "uid", owner->uid);
        json_write_object_end(w);
}

static void write_state(JsonWriter *w, const Lease *lease) {
        json_write_object_begin(w, RECORD_STATE);
        json_write_string(w, "state", lease_state_to_string(lease->state));
        json_write_string(w, "reason", lease->reason);
        json_write_string(w, "instance", lease->instance_name);
        json_write_int(w, "pmuType", lease->pmu_type);
        json_write_int(w, "nowPmuType", lease->now_pmu_type);
        json_write_cpuset(w, "cpus", &lease->cpus);
        json_write_cpuset(w, "usable", &lease->usable);
        json_write_int(w, "bufferSize", (int64_t)lease->buffer_size);
        json_write_string(w, "limitedBy", lease->limited_by);
        json_write_int(w, "charge", (int64_t)lease->charge.bytes);
        write_time(w, "sinceUSec", lease->since_usec);
        write_time(w, "deadlineUSec", lease->deadline_usec);
        write_time(w, "awayDeadlineUSec", lease->away_deadline_usec);
        write_time(w, "graceUSec", lease->grace_usec);
        json_write_bool(w, "barred", lease->barred);
        json_write_bool(w, "kill", lease->kill);
        json_write_bool(w, "terminated", lease->terminated);
        json_write_bool(w, "away", lease->away);
        json_write_bool(w, "restartRequired", lease->restart_required);
        json_write_object_end(w);
}

static void write_facts(JsonWriter *w, const Lease *lease) {
        write_request(w, &lease->request);
        write_owner(w, lease);
        write_state(w, lease);
}

/* What the sum is of begins with what the file is, so that one of another boot cannot pass for one of this.
 */
void lease_record_begin_sum(JsonWriter *w, Buffer *buffer, const char *boot_id, const char *id) {
        json_writer_init(w, buffer);
        json_write_object_begin(w, NULL);
        json_write_string(w, RECORD_BOOT_ID, boot_id);
        json_write_string(w, RECORD_ID, id);
}

static int sum_lease(const Lease *lease, const char *boot_id, char ret_sum[static RECORD_SUM_LENGTH + 1]) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_MAX);
        JsonWriter w;

        lease_record_begin_sum(&w, &buffer, boot_id, lease->id);
        write_facts(&w, lease);
        return record_sum_finish(&w, ret_sum);
}

int lease_record_write(const Lease *lease, const char *boot_id, Buffer *buffer) {
        char sum[RECORD_SUM_LENGTH + 1];
        JsonWriter w;
        int r;

        r = sum_lease(lease, boot_id, sum);
        if (r < 0)
                return r;

        json_writer_init(&w, buffer);
        json_write_object_begin(&w, NULL);
        json_write_int(&w, RECORD_VERSION,
                       lease->owner->owner->cgroup ? LEASE_RECORD_VERSION_CGROUP : LEASE_RECORD_VERSION);
        json_write_string(&w, RECORD_BOOT_ID, boot_id);
        encode_lease(&w, RECORD_LEASE, lease);
        write_facts(&w, lease);
        json_write_string(&w, RECORD_SUM, sum);
        r = lease_record_write_memlock(&w, lease, boot_id);
        if (r < 0)
                return r;
        if (lease->unknown)
                json_write_members(&w, lease->unknown);
        json_write_object_end(&w);
        r = json_writer_finish(&w);
        return r < 0 ? r : buffer_append(buffer, "\n", 1);
}
