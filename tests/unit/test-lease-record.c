/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "tests/unit/lease-sample.h"

static int parse(const char *text, LeaseRecord *record, const char **reason) {
        return lease_record_parse(text, strlen(text), SAMPLE_ID, SAMPLE_BOOT, record, reason);
}

static void test_round_trip(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(freep) char *text = sample_write(sample), *again = NULL;
        const char *reason = NULL;
        LeaseRequest *request = &record.request;
        const Lease *lease = &sample->lease;

        assert_int_equal(parse(text, &record, &reason), 0);
        assert_string_equal(record.id, SAMPLE_ID);
        assert_true(lease_request_equal(request, &lease->request));
        assert_string_equal(request->id, "request-1");
        assert_ptr_equal(request->policy.vm, request->vm);
        assert_ptr_equal(request->policy.instance, request->instance);
        assert_int_equal(request->policy.uid, 1001);
        assert_true(request->policy.administrator);
        assert_int_equal(request->policy.vm_origin, VM_ORIGIN_UNIT);
        assert_null(request->fresh);
        assert_null(request->known);
        assert_int_equal(record.owner.pid, 4711);
        assert_int_equal(record.owner.start_time, 123456);
        assert_int_equal(record.owner.uid, 1000);
        assert_string_equal(record.instance_name, "arm_spe_1");
        assert_int_equal(record.instance_index, 1);

        sample_become(sample, &record);
        again = sample_write(sample);
        assert_string_equal(again, text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
