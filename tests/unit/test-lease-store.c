/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>

#include "broker/lease-store.h"
#include "tests/unit/lease-sample.h"
#include "tests/unit/tree.h"

/* What a load found, one word per line. */
typedef struct Seen {
        char found[1024];
        char problems[4096];
} Seen;

static int on_found(LeaseRecord *record, void *userdata) {
        Seen *seen = userdata;

        strcat(strcat(seen->found, record->id), "\n");
        return 0;
}

static void on_problem(const char *sentence, void *userdata) {
        Seen *seen = userdata;

        strcat(strcat(seen->problems, sentence), "\n");
}

static void test_save_load_remove(void **state) {
        _cleanup_(lease_store_freep) LeaseStore *store = NULL, *again = NULL, *last = NULL;
        _cleanup_(sample_freep) Sample *sample = sample_new();
        const Tree *tree = *state;
        Seen seen = {0}, after = {0};

        assert_int_equal(lease_store_new(tree->fd, SAMPLE_BOOT, &store), 0);
        assert_int_equal(lease_store_save(store, &sample->lease), 0);
        assert_int_equal(lease_store_save(store, &sample->lease), 0);

        assert_int_equal(lease_store_new(tree->fd, SAMPLE_BOOT, &again), 0);
        assert_int_equal(lease_store_load(again, on_found, on_problem, &seen), 0);
        assert_string_equal(seen.found, SAMPLE_ID "\n");
        assert_string_equal(seen.problems, "");

        lease_store_remove(again, SAMPLE_ID);
        assert_int_equal(lease_store_flush(again), 0);
        assert_int_equal(lease_store_new(tree->fd, SAMPLE_BOOT, &last), 0);
        assert_int_equal(lease_store_load(last, on_found, on_problem, &after), 0);
        assert_string_equal(after.found, "");
        assert_string_equal(after.problems, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_save_load_remove, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
