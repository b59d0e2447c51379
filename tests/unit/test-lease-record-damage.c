/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Texts of leases that are another's: of another build, boot or lease, or damaged. */

#include "tests/unit/lease-text.h"

#define DAMAGED "damaged: its sum is another"

static void assert_text_bad(const char *text, const char *expected) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = NULL;

        assert_int_equal(parse(text, &record, &reason), LEASE_RECORD_E_BAD);
        assert_string_equal(reason, expected);
}

static void test_head(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();

        for (const char *const *text = (const char *const[]){"null", "[]", "1", "\"\"", NULL}; *text; text++)
                assert_text_bad(*text, "not an object");
        for (const char *const *text =
                     (const char *const[]){"{}", "{\"version\":0}", "{\"version\":3}", "{\"version\":1.0}",
                                           "{\"version\":\"1\"}", NULL};
             *text; text++)
                assert_text_bad(*text, "of another version");
        assert_text_bad("", "not JSON");
        assert_text_bad("{\"version\":1,\"version\":1}", json_read_strerror(JSON_READ_E_DUPLICATE));

        try_value(sample, "/sum", "1", true); /* the test's own takes its place */
        try_value(sample, "/lease/vm", NULL, true);
        try_value(sample, "/lease/vm", "[]", true);
        try_value(sample, "/lease/color", "\"blue\"", true);
}

/* A sum that nobody has made anew. */
static void test_sum(_unused_ void **state) {
        static const struct {
                const char *path, *text, *reason;
        } cases[] = {
                {"/state/charge", "16842753", DAMAGED},
                {"/owner/pid", "4712", DAMAGED},
                {"/request/exact", "true", DAMAGED},
                {"/bootId", "\"" SAMPLE_OTHER_BOOT "\"", DAMAGED},
                {"/sum", "\"8092ccda7fd0735b\"", DAMAGED},
                {"/sum", "\"\"", DAMAGED},
                {"/sum", "null", "sum is missing, or not what it can be"},
                {"/sum", NULL, "sum is missing, or not what it can be"},
                {"/bootId", NULL, "bootId is missing, or not what it can be"},
                {"/bootId", "1", "bootId is missing, or not what it can be"},
                {"/lease", NULL, "lease is missing, or not what it can be"},
                {"/lease", "[]", "lease is missing, or not what it can be"},
                {"/lease/leaseId", NULL, "lease.leaseId is missing, or not what it can be"},
                {"/lease/leaseId", "\"00112233445566778899aabbccddeefe\"",
                 "of another lease than its name says"},
        };
        _cleanup_(sample_freep) Sample *sample = sample_new();

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
                _cleanup_(freep) char *text = NULL;

                edit(root, cases[i].path, cases[i].text);
                text = sample_text_of(root);
                assert_text_bad(text, cases[i].reason);
        }
}

static void test_name(_unused_ void **state) {
        static const char *const names[] = {"",
                                            "x",
                                            (SAMPLE_ID "0"),
                                            ("0" SAMPLE_ID),
                                            "00112233445566778899AABBCCDDEEFF",
                                            "../112233445566778899aabbccddeef"};
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(freep) char *text = sample_write(sample);
        const char *reason = NULL;

        for (size_t i = 0; i < ELEMENTS_OF(names); i++) {
                assert_int_equal(
                        lease_record_parse(text, strlen(text), names[i], SAMPLE_BOOT, &record, &reason),
                        LEASE_RECORD_E_BAD);
                assert_string_equal(reason, "not called as a lease is");
        }
        assert_int_equal(lease_record_parse(text, strlen(text), "ffeeddccbbaa99887766554433221100",
                                            SAMPLE_BOOT, &record, &reason),
                         LEASE_RECORD_E_BAD);
        assert_string_equal(reason, "of another lease than its name says");
}

static void test_other_boot(_unused_ void **state) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        _cleanup_(freep) char *text = sample_write(sample);
        const char *reason = NULL;

        assert_int_equal(
                lease_record_parse(text, strlen(text), SAMPLE_ID, SAMPLE_OTHER_BOOT, &record, &reason),
                LEASE_RECORD_E_OTHER_BOOT);
        assert_string_equal(reason, "of another boot");
        assert_null(record.request.vm);

        /* One that is not good is not good, whatever boot it speaks of. */
        root = json_of(text);
        edit(root, "/bootId", "\"" SAMPLE_OTHER_BOOT "\"");
        edit(root, "/state/charge", "0");
        assert_bad(root, "state.charge is missing, or not what it can be");
}

/* What another build adds at the top comes back from this one, and does not change the sum. */
static void test_unknown(_unused_ void **state) {
        static const char later[] =
                "{\"color\":\"blue\",\"list\":[1,2.5,null,{\"deep\":[[]]}],\"none\":null}";
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample), *again = NULL;
        _cleanup_(freep) char *text = NULL, *kept = NULL, *was = NULL, *is = NULL;
        LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason;

        edit(root, "/later", later);
        edit(root, "/nothing", "null");
        edit(root, "/\"quoted\\", "1");
        text = sample_text_of(root);
        assert_int_equal(parse(text, &record, &reason), 0);
        kept = sample_text_of(record.unknown);
        assert_string_equal(kept, "{\"later\":{\"color\":\"blue\",\"list\":[1,2.5,null,{\"deep\":[[]]}],"
                                  "\"none\":null},\"nothing\":null,\"\\\"quoted\\\\\":1}");

        sample_become(sample, &record);
        again = sample_json(sample);
        was = sample_text_of(root);
        is = sample_text_of(again);
        assert_string_equal(is, was);
}

/* Their bound leaves room for the longest lease, whatever else becomes of it. */
static void test_unknown_bound(_unused_ void **state) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
        _cleanup_(freep) char *text = NULL, *more = NULL;
        static char bytes[LEASE_RECORD_UNKNOWN_MAX + 1];
        const char *reason;

        memset(bytes, 'x', sizeof(bytes) - 1);
        /* {"later":"xxx"} */
        json_object_object_add(root, "later",
                               json_object_new_string_len(bytes, LEASE_RECORD_UNKNOWN_MAX -
                                                                         (int)strlen("{\"later\":\"\"}")));
        text = sample_text_of(root);
        assert_int_equal(parse(text, &record, &reason), 0);

        json_object_object_add(root, "other", NULL);
        more = sample_text_of(root);
        assert_text_bad(more, "more unknown members than can be kept");
}

static void test_reason_bound(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
        static char bytes[LEASE_RECORD_REASON_MAX + 2];

        memset(bytes, 'x', sizeof(bytes) - 2);
        json_object_object_add(at(root, "/state"), "reason", json_object_new_string(bytes));
        assert_good(root);
        bytes[sizeof(bytes) - 2] = 'x';
        json_object_object_add(at(root, "/state"), "reason", json_object_new_string(bytes));
        assert_bad(root, "state.reason is missing, or not what it can be");
}

/* Damaged texts: refused with a reason, or meaning what they meant. */
static void assert_refused_or_same(const Sample *sample, const char *text, size_t n) {
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = NULL;
        int r;

        r = parse_n(text, n, &record, &reason);
        if (r == LEASE_RECORD_E_BAD) {
                assert_non_null(reason);
                return;
        }
        assert_int_equal(r, 0);
        assert_same(&record, sample);
}

static void test_every_byte(_unused_ void **state) {
        static const unsigned char values[] = {0, ' ', '"', ',', '0', '9', '}', '\\', 0x7f, 0xc3, 0xff};
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(freep) char *good = sample_write(sample), *text = NULL;
        size_t n = strlen(good);
        unsigned n_same = 0;

        text = malloc(n + 1);
        assert_non_null(text);
        for (size_t i = 0; i < n; i++) {
                memcpy(text, good, n);
                for (unsigned bit = 0; bit < 8; bit++) {
                        text[i] = (char)(good[i] ^ 1 << bit);
                        assert_refused_or_same(sample, text, n);
                }
                for (size_t j = 0; j < ELEMENTS_OF(values); j++) {
                        text[i] = (char)values[j];
                        assert_refused_or_same(sample, text, n);
                }

                /* Gone, there twice, and something before it. */
                memmove(text + i, good + i + 1, n - i - 1);
                assert_refused_or_same(sample, text, n - 1);
                memcpy(text, good, i + 1);
                memcpy(text + i + 1, good + i, n - i);
                assert_refused_or_same(sample, text, n + 1);
                text[i] = ' ';
                assert_refused_or_same(sample, text, n + 1);
        }

        /* Nothing but the last byte, the newline, can be missing. */
        for (size_t k = 0; k < n; k++) {
                LeaseRecord record = LEASE_RECORD_NULL;
                const char *reason;

                n_same += parse_n(good, k, &record, &reason) == 0;
                lease_record_deinit(&record);
        }
        assert_int_equal(n_same, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_head),         cmocka_unit_test(test_sum),
                cmocka_unit_test(test_name),         cmocka_unit_test(test_other_boot),
                cmocka_unit_test(test_unknown),      cmocka_unit_test(test_unknown_bound),
                cmocka_unit_test(test_reason_bound), cmocka_unit_test(test_every_byte),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
