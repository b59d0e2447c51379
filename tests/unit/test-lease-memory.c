/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Out of memory at every single allocation as a lease is written, read, saved, loaded and removed: each
 * attempt answers -ENOMEM, and no file is lost or set aside because of it. A sanitizer has its own
 * allocator: there the test is skipped.
 */

#include <errno.h>

#include "broker/lease-store.h"
#include "tests/unit/failing-allocator.h"
#include "tests/unit/lease-sample.h"
#include "tests/unit/tree.h"

/* If json-c 0.16 cannot let the table of an object grow, it loses the member's name. */
#define LOST_BY_LIBRARY 1

/* One attempt with what the fixture has. */
typedef struct Fixture {
        Tree *tree;
        Sample *sample;
        char *text;
        LeaseStore *store;
        unsigned n_found;
        unsigned n_problems;
} Fixture;

static int setup(void **state) {
        Fixture *f = calloc(1, sizeof(*f));

        if (!f || tree_setup((void **)&f->tree) < 0)
                return -1;
        f->sample = sample_new();
        f->sample->lease.unknown = json_object_new_object();
        json_object_object_add(f->sample->lease.unknown, "later", json_object_new_array());
        f->text = sample_write(f->sample);
        *state = f;
        return lease_store_new(f->tree->fd, SAMPLE_BOOT, &f->store);
}

static int teardown(void **state) {
        Fixture *f = *state;

        lease_store_free(f->store);
        sample_free(f->sample);
        free(f->text);
        (void)tree_teardown((void **)&f->tree);
        free(f);
        return 0;
}

static int attempt_write(Fixture *f) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_MAX);

        return lease_record_write(&f->sample->lease, SAMPLE_BOOT, &buffer);
}

static int attempt_parse(Fixture *f) {
        LeaseRecord record = LEASE_RECORD_NULL;
        const char *reason;
        int r;

        r = lease_record_parse(f->text, strlen(f->text), SAMPLE_ID, SAMPLE_BOOT, &record, &reason);
        lease_record_deinit(&record);
        return r;
}

static int attempt_new(Fixture *f) {
        LeaseStore *store = NULL;
        int r;

        r = lease_store_new(f->tree->fd, SAMPLE_BOOT, &store);
        lease_store_free(store);
        return r;
}

static bool is_there(const Fixture *f) {
        return faccessat(f->tree->fd, LEASE_STORE_PATH "/" SAMPLE_ID, F_OK, 0) == 0;
}

static int attempt_save(Fixture *f) {
        int r;

        r = lease_store_save(f->store, &f->sample->lease);
        assert_int_equal(is_there(f), r == 0);
        allowed = -1;
        if (r == 0)
                lease_store_remove(f->store, SAMPLE_ID);
        return r;
}

/* No memory is needed to remember what cannot be removed. */
static int attempt_remove(Fixture *f) {
        long n = allowed;

        allowed = -1;
        assert_int_equal(lease_store_save(f->store, &f->sample->lease), 0);
        assert_int_equal(unlinkat(f->tree->fd, LEASE_STORE_PATH "/" SAMPLE_ID, 0), 0);
        tree_mkdir(f->tree, LEASE_STORE_PATH "/" SAMPLE_ID);
        allowed = n;
        lease_store_remove(f->store, SAMPLE_ID);
        assert_int_equal(lease_store_flush(f->store), -EISDIR);
        allowed = -1;
        tree_unlink(f->tree, LEASE_STORE_PATH "/" SAMPLE_ID);
        return lease_store_flush(f->store);
}

static int on_found(_unused_ LeaseRecord *record, void *userdata) {
        ((Fixture *)userdata)->n_found++;
        return 0;
}

static void on_problem(_unused_ const char *sentence, void *userdata) {
        ((Fixture *)userdata)->n_problems++;
}

static int attempt_load(Fixture *f) {
        _cleanup_(lease_store_freep) LeaseStore *store = NULL;
        int r;

        f->n_found = f->n_problems = 0;
        r = lease_store_new(f->tree->fd, SAMPLE_BOOT, &store);
        if (r == 0)
                r = lease_store_load(store, on_found, on_problem, f);
        assert_int_equal(f->n_found, r == 0);
        assert_int_equal(f->n_problems, 0);
        return r;
}

/* Each allocation fails once; @n_min: so many there are at least. */
static void fail_everywhere(Fixture *f, int (*attempt)(Fixture *), long n_min) {
        long n = 0, n_before;
        int r;

        assert_int_equal(attempt(f), 0);
        do {
                n_before = n_live;
                allowed = n++;
                r = attempt(f);
                allowed = -1;
                assert_true(r == 0 || r == -ENOMEM);
                assert_in_range(n_live, n_before, n_before + LOST_BY_LIBRARY);
        } while (r == -ENOMEM);
        assert_true(n > n_min);
}

static void test_write(void **state) {
        fail_everywhere(*state, attempt_write, 2);
}

static void test_parse(void **state) {
        fail_everywhere(*state, attempt_parse, 100);
}

static void test_new(void **state) {
        fail_everywhere(*state, attempt_new, 1);
}

static void test_save(void **state) {
        fail_everywhere(*state, attempt_save, 4);
}

static void test_remove(void **state) {
        fail_everywhere(*state, attempt_remove, 0);
}

static void test_load(void **state) {
        Fixture *f = *state;

        assert_int_equal(lease_store_save(f->store, &f->sample->lease), 0);
        fail_everywhere(f, attempt_load, 100);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_write, setup, teardown),
                cmocka_unit_test_setup_teardown(test_parse, setup, teardown),
                cmocka_unit_test_setup_teardown(test_new, setup, teardown),
                cmocka_unit_test_setup_teardown(test_save, setup, teardown),
                cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
                cmocka_unit_test_setup_teardown(test_load, setup, teardown),
        };

        if (!ALLOCATOR_CAN_FAIL) {
                puts("the sanitizer has its own allocator");
                return 77;
        }

        return cmocka_run_group_tests(tests, NULL, NULL);
}
