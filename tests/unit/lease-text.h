/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Texts of the sample lease, changed, and what has to become of them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <json-c/json_pointer.h>

#include "tests/unit/lease-sample.h"

_unused_ static int parse_n(const char *text, size_t n, LeaseRecord *record, const char **reason) {
        return lease_record_parse(text, n, SAMPLE_ID, SAMPLE_BOOT, record, reason);
}

_unused_ static int parse(const char *text, LeaseRecord *record, const char **reason) {
        return parse_n(text, strlen(text), record, reason);
}

_unused_ static struct json_object *json_of(const char *text) {
        struct json_object *value;

        assert_int_equal(json_read(text, strlen(text), &value, NULL), 0);
        return value;
}

_unused_ static struct json_object *at(struct json_object *root, const char *path) {
        struct json_object *value;

        assert_int_equal(json_pointer_get(root, path, &value), 0);
        return value;
}

_unused_ static struct json_object *sample_json(const Sample *sample) {
        _cleanup_(freep) char *text = sample_write(sample);

        return json_of(text);
}

/* Puts the value that @text is where @path leads; NULL: takes away what is there. */
_unused_ static void edit(struct json_object *root, const char *path, const char *text) {
        char section[32];
        const char *name = strrchr(path, '/');

        if (!text) {
                (void)snprintf(section, sizeof(section), "%.*s", (int)(name - path), path);
                json_object_object_del(at(root, section), name + 1);
                return;
        }

        assert_int_equal(json_pointer_set(&root, path, strcmp(text, "null") == 0 ? NULL : json_of(text)), 0);
}

_unused_ static void assert_bad(struct json_object *root, const char *expected) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(freep) char *text = NULL;
        const char *reason = NULL;

        sample_seal(root);
        text = sample_text_of(root);
        if (parse(text, &record, &reason) != LEASE_RECORD_E_BAD)
                fail_msg("believed: %s", text);
        assert_non_null(reason);
        assert_string_equal(reason, expected);
        /* Untouched on failure. */
        assert_null(record.request.vm);
        assert_int_equal(record.owner.pid, 0);
}

/* It is read, and says the same when it is written back. */
_unused_ static void assert_good(struct json_object *root) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(json_object_putp) struct json_object *again = NULL;
        _cleanup_(freep) char *text = NULL;
        const char *reason = NULL;

        sample_seal(root);
        text = sample_text_of(root);
        if (parse(text, &record, &reason) != 0)
                fail_msg("%s: %s", reason, text);
        sample_become(sample, &record);
        again = sample_json(sample);
        for (const char *const *section = (const char *const[]){"request", "owner", "state", "sum", NULL};
             *section; section++) {
                _cleanup_(freep) char *was = sample_text_of(json_object_object_get(root, *section));
                _cleanup_(freep) char *is = sample_text_of(json_object_object_get(again, *section));

                assert_string_equal(is, was);
        }
}

_unused_ static void assert_same_request(const LeaseRequest *a, const LeaseRequest *b) {
        assert_true(lease_request_equal(a, b));
        assert_true(!a->id == !b->id && (!a->id || strcmp(a->id, b->id) == 0));
        assert_ptr_equal(a->policy.vm, a->vm);
        assert_ptr_equal(a->policy.instance, a->instance);
        assert_int_equal(a->policy.uid, b->policy.uid);
        assert_int_equal(a->policy.administrator, b->policy.administrator);
        assert_int_equal(a->policy.vm_origin, b->policy.vm_origin);
        assert_int_equal(a->policy.has_affinity, b->policy.has_affinity);
        assert_true(cpuset_equal(&a->policy.affinity, &b->policy.affinity));
        assert_true(cpuset_is_empty(&a->policy.own_sessions));
        assert_null(a->fresh);
        assert_null(a->known);
}

/* Field by field: what a writer and a reader that both forget one would not show. */
_unused_ static void assert_same(const LeaseRecord *record, const Sample *sample) {
        const Lease *lease = &sample->lease;

        assert_string_equal(record->id, lease->id);
        assert_same_request(&record->request, &lease->request);
        assert_int_equal(record->owner.pid, sample->process.pid);
        assert_int_equal(record->owner.start_time, sample->process.start_time);
        assert_int_equal(record->owner.uid, sample->process.uid);
        assert_int_equal(record->owner.unclaimed_deadline_usec, lease->unclaimed_deadline_usec);
        assert_true(!record->owner.cgroup == !sample->process.cgroup);
        if (record->owner.cgroup && sample->process.cgroup) {
                assert_string_equal(record->owner.cgroup, sample->process.cgroup->path);
                assert_int_equal(record->owner.cgroup_id, sample->process.cgroup->id);
        }
        assert_int_equal(record->state, lease->state);
        assert_true(!record->reason == !lease->reason);
        if (lease->reason)
                assert_string_equal(record->reason, lease->reason);
        assert_string_equal(record->instance_name, lease->instance_name);
        assert_int_equal(record->pmu_type, lease->pmu_type);
        assert_int_equal(record->now_pmu_type, lease->now_pmu_type);
        assert_true(cpuset_equal(&record->cpus, &lease->cpus));
        assert_true(cpuset_equal(&record->usable, &lease->usable));
        assert_int_equal(record->buffer_size, lease->buffer_size);
        assert_true(!record->limited_by == !lease->limited_by);
        if (record->limited_by && lease->limited_by)
                assert_string_equal(record->limited_by, lease->limited_by);
        assert_int_equal(record->charge, lease->charge.bytes);
        assert_int_equal(record->since_usec, lease->since_usec);
        assert_int_equal(record->deadline_usec, lease->deadline_usec);
        assert_int_equal(record->away_deadline_usec, lease->away_deadline_usec);
        assert_int_equal(record->grace_usec, lease->grace_usec);
        assert_int_equal(record->barred, lease->barred);
        assert_int_equal(record->kill, lease->kill);
        assert_int_equal(record->terminated, lease->terminated);
        assert_int_equal(record->away, lease->away);
        assert_int_equal(record->restart_required, lease->restart_required);
}

/* "request.vm is missing, or not what it can be" of "/request/vm". */
_unused_ static void phrase_of(const char *path, char *phrase, size_t size) {
        (void)snprintf(phrase, size, "%s is missing, or not what it can be", path + 1);
        if (strchr(phrase, '/'))
                *strchr(phrase, '/') = '.';
}

/* Whether @root is read with @text at @path. */
_unused_ static void try_value(const Sample *sample, const char *path, const char *text, bool good) {
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
        char phrase[128];

        phrase_of(path, phrase, sizeof(phrase));
        edit(root, path, text);
        if (good)
                assert_good(root);
        else
                assert_bad(root, phrase);
}
