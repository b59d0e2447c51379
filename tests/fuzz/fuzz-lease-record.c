/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A lease's state file: refused with a reason, or a record that nothing asserted later can fail of, which is
 * written as the same text again and again. Hardly any input has the sum that it needs, so each is also tried
 * with it.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/lease-sample.h"
#include "util/buffer-size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const LeaseRecord *record) {
        const PolicyRequest *policy = &record->request.policy;
        bool ends = record->deadline_usec != UINT64_MAX;

        sample_require(strcmp(record->id, SAMPLE_ID) == 0);
        sample_require(request_vm_name_is_valid(record->request.vm) && policy->vm == record->request.vm);
        sample_require(!record->request.id || request_id_is_valid(record->request.id));
        sample_require(policy->vm_origin >= 0 && policy->vm_origin < _VM_ORIGIN_MAX);
        sample_require(policy->mode >= 0 && policy->mode < _LEASE_MODE_MAX);
        sample_require(policy->vcpus >= 1 && policy->vcpus <= REQUEST_VCPUS_MAX);
        sample_require(policy->has_cpus != cpuset_is_empty(&policy->cpus));
        sample_require(policy->has_affinity != cpuset_is_empty(&policy->affinity));
        sample_require((record->owner.pid > 0) == !record->owner.cgroup);
        sample_require(!record->owner.cgroup ||
                       (request_cgroup_is_valid(record->owner.cgroup) && record->owner.cgroup_id > 0));
        sample_require(record->owner.cgroup || record->owner.unclaimed_deadline_usec == UINT64_MAX);
        sample_require(record->state == LEASE_STATE_GRANTED || record->state == LEASE_STATE_REVOKING ||
                       record->state == LEASE_STATE_REVOKED);
        sample_require(record->state != LEASE_STATE_GRANTED || (!ends && !record->kill));
        sample_require(record->state != LEASE_STATE_REVOKING || ends);
        sample_require(!cpuset_is_empty(&record->usable) && cpuset_is_subset(&record->usable, &record->cpus));
        sample_require(buffer_size_is_representable(record->buffer_size));
        sample_require(record->charge > 0 && record->charge < INT64_MAX);
        sample_require(!record->has_memlock || !record->bad_memlock);
        sample_require(!record->has_memlock || record->memlock.limit.soft <= record->memlock.limit.hard);
}

static void try(const char *text, size_t n) {
        static Sample *sample;
        _cleanup_(freep) char *once = NULL, *twice = NULL;
        LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = NULL;
        int r;

        r = lease_record_parse(text, n, SAMPLE_ID, SAMPLE_BOOT, &record, &reason);
        sample_require(r == 0 || r == LEASE_RECORD_E_BAD || r == LEASE_RECORD_E_OTHER_BOOT);
        sample_require((r == 0) == !reason);
        if (r != 0)
                return;
        check(&record);

        if (!sample)
                sample = sample_new();
        sample_become(sample, &record);
        once = sample_write(sample);
        sample_require(lease_record_parse(once, strlen(once), SAMPLE_ID, SAMPLE_BOOT, &record, &reason) == 0);
        sample_become(sample, &record);
        twice = sample_write(sample);
        /* Before that is the time that is left of it, by a clock. */
        sample_require(strcmp(strstr(once, ",\"request\":"), strstr(twice, ",\"request\":")) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        _cleanup_(freep) char *sealed = NULL;

        try((const char *)data, size);

        if (size > LEASE_RECORD_MAX || json_read((const char *)data, size, &root, NULL) != 0 ||
            !json_object_is_type(root, json_type_object))
                return 0;
        sample_seal(root);
        sealed = sample_text_of(root);
        try(sealed, strlen(sealed));
        return 0;
}
