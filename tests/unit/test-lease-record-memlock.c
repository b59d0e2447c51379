/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The base of the owner's limit in the text of a lease. Whatever is in its place, the lease is read as ever;
 * the base is what was written, or not known.
 */

#include "tests/unit/lease-text.h"

#define BASE(s, h, c) ((MemlockBase){.limit = {.soft = (s), .hard = (h)}, .changed = (c)})

static Sample *sample_with(MemlockBase base) {
        Sample *sample = sample_new();

        sample->owner.memlock = (Memlock){.known = true, .base = base};
        return sample;
}

static void assert_base(const LeaseRecord *record, MemlockBase base) {
        assert_true(record->has_memlock);
        assert_false(record->bad_memlock);
        assert_true(memlock_limit_equal(&record->memlock.limit, &base.limit));
        assert_int_equal(record->memlock.changed, base.changed);
}

/* What is written for @base is read as @read, and written again as the same. */
static void check(MemlockBase base, MemlockBase read) {
        _cleanup_(sample_freep) Sample *sample = sample_with(base);
        _cleanup_(freep) char *text = sample_write(sample), *again = NULL;
        LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = NULL;

        assert_int_equal(parse(text, &record, &reason), 0);
        assert_same(&record, sample);
        assert_base(&record, read);
        assert_null(record.unknown);
        sample_become(sample, &record);
        again = sample_write(sample);
        assert_string_equal(again, text);
}

static void test_bases(_unused_ void **state) {
        check(BASE(65536, 8388608, false), BASE(65536, 8388608, false));
        check(BASE(0, 0, true), BASE(0, 0, true));
        check(BASE(INT64_MAX, INT64_MAX, false), BASE(INT64_MAX, INT64_MAX, false));
        check(BASE(4096, MEMLOCK_UNLIMITED, true), BASE(4096, MEMLOCK_UNLIMITED, true));
        check(BASE(MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED, false),
              BASE(MEMLOCK_UNLIMITED, MEMLOCK_UNLIMITED, false));
        /* No machine has as much. */
        check(BASE(4096, UINT64_C(1) << 63, false), BASE(4096, MEMLOCK_UNLIMITED, false));
}

static void test_format(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_with(BASE(65536, MEMLOCK_UNLIMITED, true));
        _cleanup_(freep) char *text = sample_write(sample), *without = NULL;
        static const char member[] = ",\"memlock\":{\"soft\":65536,\"hard\":null,\"changed\":true,\"sum\":\"";
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        _cleanup_(freep) char *said = NULL, *sealed = NULL;

        assert_non_null(strstr(text, member));
        root = json_of(text);
        said = sample_text_of(at(root, "/memlock"));
        sample_seal(root);
        sealed = sample_text_of(at(root, "/memlock"));
        assert_string_equal(said, sealed);

        sample->owner.memlock = MEMLOCK_NULL;
        without = sample_write(sample);
        assert_null(strstr(without, "\"changed\""));
}

/* @text is a good lease without a base that could be believed. */
static void assert_lost(const char *text, bool bad) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(lease_record_deinit) LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason = NULL;

        if (parse(text, &record, &reason) != 0)
                fail_msg("%s: %s", reason, text);
        assert_same(&record, sample);
        assert_null(record.unknown);
        if (record.has_memlock || record.bad_memlock != bad)
                fail_msg("believed: %s", text);
}

static void test_absent(_unused_ void **state) {
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(freep) char *text = sample_write(sample);

        assert_lost(text, false);
}

static void test_values(_unused_ void **state) {
        static const struct {
                const char *path;
                const char *value; /* NULL: not there */
        } rows[] = {
                {"/memlock", "null"},         {"/memlock", "1"},
                {"/memlock", "[]"},           {"/memlock", "{}"},
                {"/memlock/soft", NULL},      {"/memlock/soft", "-1"},
                {"/memlock/soft", "1.5"},     {"/memlock/soft", "\"65536\""},
                {"/memlock/soft", "8388609"}, {"/memlock/soft", "null"},
                {"/memlock/hard", NULL},      {"/memlock/hard", "65535"},
                {"/memlock/hard", "true"},    {"/memlock/hard", "[1]"},
                {"/memlock/changed", NULL},   {"/memlock/changed", "null"},
                {"/memlock/changed", "0"},    {"/memlock/more", "1"},
        };

        for (size_t i = 0; i < ELEMENTS_OF(rows); i++) {
                _cleanup_(sample_freep) Sample *sample = sample_with(BASE(65536, 8388608, false));
                _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
                _cleanup_(freep) char *text = NULL;

                edit(root, rows[i].path, rows[i].value);
                sample_seal(root);
                text = sample_text_of(root);
                assert_lost(text, true);
        }
}

/* Under another sum, or another lease's. */
static void test_sum(_unused_ void **state) {
        static const char *const sums[] = {NULL, "null", "\"\"", "\"0000000000000000\"", "0"};

        for (size_t i = 0; i < ELEMENTS_OF(sums); i++) {
                _cleanup_(sample_freep) Sample *sample = sample_with(BASE(65536, 8388608, false));
                _cleanup_(json_object_putp) struct json_object *root = sample_json(sample);
                _cleanup_(freep) char *text = NULL;

                edit(root, "/memlock/sum", sums[i]);
                text = sample_text_of(root);
                assert_lost(text, true);
        }
}

/* A byte of it that has become another: the base is the same, or not known; the lease is as ever. */
static void test_every_byte(_unused_ void **state) {
        const MemlockBase base = BASE(65536, 8388608, false);
        _cleanup_(sample_freep) Sample *sample = sample_with(base);
        _cleanup_(freep) char *text = sample_write(sample);
        char *begin = strstr(text, "\"memlock\":{\"soft\"");

        assert_non_null(begin);
        for (char *p = begin; *p != '\n'; p++)
                for (unsigned bit = 0; bit < 8; bit++) {
                        LeaseRecord record = LEASE_RECORD_NULL;
                        const char *reason = NULL;

                        *p = (char)(*p ^ (1 << bit));
                        if (parse_n(text, strlen(text), &record, &reason) == 0 && record.has_memlock)
                                assert_base(&record, base);
                        *p = (char)(*p ^ (1 << bit));
                        lease_record_deinit(&record);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bases),  cmocka_unit_test(test_format),
                cmocka_unit_test(test_absent), cmocka_unit_test(test_values),
                cmocka_unit_test(test_sum),    cmocka_unit_test(test_every_byte),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
