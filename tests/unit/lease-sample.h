/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A lease that stands for itself, with every field that its state file says set to something of its own, and
 * the way back from a record. No broker is behind it: just the clock that the encoder asks. What goes wrong
 * here aborts: the fuzzer is no test.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/lease-record.h"
#include "broker/manager.h"
#include "tests/unit/seal.h"
#include "util/cleanup.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

#define SAMPLE_ID         "00112233445566778899aabbccddeeff"
#define SAMPLE_BOOT       "0123456789abcdef0123456789abcdef"
#define SAMPLE_OTHER_BOOT "fedcba9876543210fedcba9876543210"

typedef struct Sample {
        Manager manager;
        Owner process; /* or what stands in its place */
        Cgroup *cgroup;
        LeaseOwner owner;
        Instance instance;
        Lease lease;
} Sample;

static inline void sample_require(bool condition) {
        if (!condition)
                abort();
}

static inline CpuSet sample_cpus(const char *text) {
        CpuSet cpus;

        sample_require(cpuset_parse(text, strlen(text), &cpus) == 0);
        return cpus;
}

/* A new one, granted. */
static inline Sample *sample_new(void) {
        Sample *sample = calloc(1, sizeof(*sample));
        Lease *lease;

        sample_require(sample && sd_event_new(&sample->manager.event) == 0);
        sample->process =
                (Owner){.pid = 4711, .pidfd = -1, .start_time = 123456, .uid = 1000, .command = "vmm"};
        sample->owner = (LeaseOwner){.manager = &sample->manager, .owner = &sample->process};
        strcpy(sample->instance.name, "arm_spe_1");

        lease = &sample->lease;
        *lease = (Lease){
                .id = SAMPLE_ID,
                .owner = &sample->owner,
                .request =
                        {
                                .vm = strdup("web \"1\""),
                                .instance = strdup("arm_spe_0"),
                                .id = strdup("request-1"),
                                .policy =
                                        {
                                                .uid = 1001,
                                                .administrator = true,
                                                .vm_origin = VM_ORIGIN_UNIT,
                                                .vcpus = 4,
                                                .has_cpus = true,
                                                .cpus = sample_cpus("4-9,11"),
                                                .buffer_size = 5000000,
                                                .mode = LEASE_MODE_EXCLUSIVE,
                                        },
                        },
                .state = LEASE_STATE_GRANTED,
                .reason = strdup("of its CPUs, 6 is off line"),
                .instance_name = "arm_spe_1",
                .instance = &sample->instance,
                .pmu_type = 9,
                .now_pmu_type = 10,
                .cpus = sample_cpus("4-6"),
                .usable = sample_cpus("4-5"),
                .buffer_size = 4194304,
                .limited_by = LIMIT_MAX_MEMORY_PER_VM,
                .charge = {.bytes = 16842752},
                .since_usec = 1700000000000000,
                .deadline_usec = UINT64_MAX,
                .away_deadline_usec = UINT64_MAX,
                .unclaimed_deadline_usec = UINT64_MAX,
                .grace_usec = 10000000,
        };
        lease->request.policy.vm = lease->request.vm;
        lease->request.policy.instance = lease->request.instance;
        return sample;
}

/* Has it belong to a control group. */
static inline void sample_set_cgroup(Sample *sample, const char *path, uint64_t id, uint64_t deadline_usec) {
        free(sample->cgroup);
        sample->cgroup = calloc(1, sizeof(*sample->cgroup) + strlen(path) + 1);
        sample_require(sample->cgroup);
        memcpy(sample->cgroup->path, path, strlen(path) + 1);
        sample->cgroup->id = id;
        sample->process.pid = 0;
        sample->process.start_time = 0;
        sample->process.cgroup = sample->cgroup;
        sample->lease.unclaimed_deadline_usec = deadline_usec;
}

static inline Sample *sample_free(Sample *sample) {
        lease_request_deinit(&sample->lease.request);
        free(sample->lease.reason);
        json_object_put(sample->lease.unknown);
        free(sample->cgroup);
        sd_event_unref(sample->manager.event);
        free(sample);
        return NULL;
}
DEFINE_CLEANUP(Sample *, sample_free)

/* Has it be what @record says, which it takes over. */
static inline void sample_become(Sample *sample, LeaseRecord *record) {
        Lease *lease = &sample->lease;

        lease_request_deinit(&lease->request);
        free(lease->reason);
        json_object_put(lease->unknown);

        sample->process.cgroup = NULL;
        sample->process.pid = record->owner.pid;
        sample->process.start_time = record->owner.start_time;
        sample->process.uid = record->owner.uid;
        *lease = (Lease){
                .owner = &sample->owner,
                .request = record->request,
                .state = record->state,
                .reason = record->reason,
                .instance = &sample->instance,
                .pmu_type = record->pmu_type,
                .now_pmu_type = record->now_pmu_type,
                .cpus = record->cpus,
                .usable = record->usable,
                .buffer_size = record->buffer_size,
                .limited_by = record->limited_by,
                .charge = {.bytes = record->charge},
                .since_usec = record->since_usec,
                .deadline_usec = record->deadline_usec,
                .away_deadline_usec = record->away_deadline_usec,
                .unclaimed_deadline_usec = record->owner.unclaimed_deadline_usec,
                .grace_usec = record->grace_usec,
                .barred = record->barred,
                .kill = record->kill,
                .terminated = record->terminated,
                .away = record->away,
                .restart_required = record->restart_required,
                .unknown = record->unknown,
        };
        sample->owner.memlock = (Memlock){.known = record->has_memlock, .base = record->memlock};
        strcpy(lease->id, record->id);
        strcpy(lease->instance_name, record->instance_name);
        if (record->owner.cgroup)
                sample_set_cgroup(sample, record->owner.cgroup, record->owner.cgroup_id,
                                  record->owner.unclaimed_deadline_usec);
        free(record->owner.cgroup);
        *record = LEASE_RECORD_NULL;
}

/* Its text; the caller frees it. */
static inline char *sample_write(const Sample *sample) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_MAX);
        char *text;

        sample_require(lease_record_write(&sample->lease, SAMPLE_BOOT, &buffer) == 0);
        text = strndup(buffer.data + buffer.start, buffer_pending(&buffer));
        sample_require(text);
        return text;
}

/* The text of @value; the caller frees it. */
static inline char *sample_text_of(struct json_object *value) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(1 << 20);
        JsonWriter w;
        char *text;

        json_writer_init(&w, &buffer);
        json_write_json(&w, NULL, value);
        sample_require(json_writer_finish(&w) == 0);
        text = strndup(buffer.data + buffer.start, buffer_pending(&buffer));
        sample_require(text);
        return text;
}

/* The sum of what the base of the owner's limit says, if there is one. */
static inline void sample_seal_memlock(struct json_object *root) {
        _cleanup_(json_object_putp) struct json_object *summed = json_object_new_object();
        struct json_object *memlock = json_object_object_get(root, "memlock");
        struct json_object *lease = json_object_object_get(root, "lease");
        _cleanup_(freep) char *text = NULL;
        char digits[SEAL_SIZE];

        if (!json_object_is_type(memlock, json_type_object))
                return;

        json_object_object_del(memlock, "sum");
        json_object_object_add(summed, "bootId", json_object_get(json_object_object_get(root, "bootId")));
        json_object_object_add(summed, "leaseId", json_object_get(json_object_object_get(lease, "leaseId")));
        json_object_object_add(summed, "memlock", json_object_get(memlock));
        text = sample_text_of(summed);
        seal(text, digits);
        json_object_object_add(memlock, "sum", json_object_new_string(digits));
}

/* Gives an object the sum of what it says, as broker/lease-record.h has it. */
static inline void sample_seal(struct json_object *root) {
        _cleanup_(json_object_putp) struct json_object *summed = json_object_new_object();
        static const char *const sections[] = {"request", "owner", "state"};
        struct json_object *lease = json_object_object_get(root, "lease");
        _cleanup_(freep) char *text = NULL;
        char digits[SEAL_SIZE];

        json_object_object_add(summed, "bootId", json_object_get(json_object_object_get(root, "bootId")));
        json_object_object_add(summed, "leaseId", json_object_get(json_object_object_get(lease, "leaseId")));
        for (size_t i = 0; i < ELEMENTS_OF(sections); i++)
                json_object_object_add(summed, sections[i],
                                       json_object_get(json_object_object_get(root, sections[i])));

        text = sample_text_of(summed);
        seal(text, digits);
        json_object_object_add(root, "sum", json_object_new_string(digits));
        sample_seal_memlock(root);
}
