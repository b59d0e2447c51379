/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <errno.h>

#include "broker/assignment-store.h"
#include "tests/unit/assignments.h"
#include "tests/unit/tree.h"
#include "util/random.h"

#define PERSISTENT ASSIGNMENT_STORE_PERSISTENT_PATH
#define RUNTIME    ASSIGNMENT_STORE_RUNTIME_PATH
#define OTHER_BOOT "fedcba9876543210fedcba9876543210"

static void assert_file(const Tree *tree, const char *path, const char *expected) {
        _cleanup_(freep) char *data = NULL;
        size_t n;

        assert_int_equal(fs_read_all(tree->fd, path, 1 << 20, &data, &n), 0);
        assert_string_equal(data, expected);
}

/* Of a file with a sum, which is that of what it says; @expected is the rest. */
static void assert_saved(const Tree *tree, const char *path, const char *expected) {
        struct json_object *root;
        _cleanup_(freep) char *data = NULL;
        char sum[SEAL_SIZE];
        size_t n;

        assert_int_equal(fs_read_all(tree->fd, path, 1 << 20, &data, &n), 0);
        root = json_tokener_parse(data);
        assert_non_null(root);
        sum_of(root, sum);
        assert_string_equal(json_object_get_string(json_object_object_get(root, "sum")), sum);
        json_object_object_del(root, "sum");
        json_object_object_del(root, "id"); /* of runtime ones: another one each time */
        assert_string_equal(text_of(root), expected);
        json_object_put(root);
}

static void load(const Tree *tree, AssignmentOrigin origin, const char *boot, AssignmentTable *table) {
        char *problem = NULL;

        assert_int_equal(assignment_store_load(tree->fd, origin, boot, table, &problem), 0);
        assert_null(problem);
}

static void test_round_trip(void **state) {
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL,
                                                           again = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;

        set(&table, "8-11", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_CONFIG, UINT64_MAX);
        set(&table, "0-3,6", ASSIGNMENT_OWNER_GUEST, "web \"1\"\xc3\xa9", ASSIGNMENT_ORIGIN_PERSISTENT,
            UINT64_MAX);
        set(&table, "4", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        set(&table, "0", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_RUNTIME, 1700000000000000);
        set(&table, "4095", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_RUNTIME, INT64_MAX);

        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT), 0);
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_RUNTIME, BOOT), 0);
        assert_file(tree, PERSISTENT,
                    "{\"version\":1,\"bootId\":\"" BOOT "\",\"assignments\":["
                    "{\"cpus\":\"0-3,6\",\"owner\":\"guest\",\"vm\":\"web \\\"1\\\"\xc3\xa9\","
                    "\"origin\":\"persistent\",\"untilUSec\":null},"
                    "{\"cpus\":\"4\",\"owner\":\"none\",\"vm\":null,\"origin\":\"persistent\","
                    "\"untilUSec\":null}],\"sum\":\"a63930355d5b7d2e\"}\n");

        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &again);
        load(tree, ASSIGNMENT_ORIGIN_RUNTIME, BOOT, &again);
        assert_int_equal(again.n, 4);
        assert_entry(&again, 0, "0-3,6", ASSIGNMENT_OWNER_GUEST, "web \"1\"\xc3\xa9",
                     ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        assert_entry(&again, 1, "4", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        assert_entry(&again, 2, "0", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_RUNTIME, 1700000000000000);
        assert_entry(&again, 3, "4095", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_RUNTIME, INT64_MAX);
}

/* Nothing there, nothing of this boot, and nothing in it are all fine. */
static void test_nothing(void **state) {
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL,
                                                           again = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;

        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &again);
        load(tree, ASSIGNMENT_ORIGIN_RUNTIME, BOOT, &again);
        assert_int_equal(again.n, 0);

        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_RUNTIME, BOOT), 0);
        assert_saved(tree, RUNTIME, FILE_OF("[]"));
        load(tree, ASSIGNMENT_ORIGIN_RUNTIME, BOOT, &again);
        assert_int_equal(again.n, 0);

        set(&table, "0", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_RUNTIME, UINT64_MAX);
        set(&table, "1", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_RUNTIME, OTHER_BOOT), 0);
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_PERSISTENT, OTHER_BOOT),
                         0);
        load(tree, ASSIGNMENT_ORIGIN_RUNTIME, BOOT, &again);
        assert_int_equal(again.n, 0);
        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &again);
        assert_int_equal(again.n, 1);
        load(tree, ASSIGNMENT_ORIGIN_RUNTIME, OTHER_BOOT, &again);
        assert_int_equal(again.n, 2);
}

static void assert_set_aside(const Tree *tree, AssignmentOrigin origin, const char *expected) {
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        _cleanup_(freep) char *problem = NULL;

        set(&table, "9", ASSIGNMENT_OWNER_HOST, NULL, origin, UINT64_MAX);
        assert_int_equal(assignment_store_load(tree->fd, origin, BOOT, &table, &problem),
                         ASSIGNMENT_STORE_E_SET_ASIDE);
        assert_string_equal(problem, expected);
        /* Half a file adds nothing. */
        assert_int_equal(table.n, 1);
}

static void test_set_aside(void **state) {
        static const char torn[] = "{\"version\":1,\"bootId\":\"" BOOT "\",\"assignments\":[" GOOD("\"0\"");
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;
        struct stat st;

        tree_put(tree, PERSISTENT, FILE_OF("[" GOOD("\"0\"") "," GOOD("\"x\"") "]"));
        assert_set_aside(tree, ASSIGNMENT_ORIGIN_PERSISTENT,
                         "/" PERSISTENT
                         ": cpus is not a list of CPUs; its assignments do not count, it is now "
                         "/" PERSISTENT ".bad");
        assert_file(tree, PERSISTENT ".bad", FILE_OF("[" GOOD("\"0\"") "," GOOD("\"x\"") "]"));
        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &table);
        assert_int_equal(table.n, 0);

        /* Again: the newest bad one is kept. */
        tree_put(tree, PERSISTENT, torn);
        assert_set_aside(tree, ASSIGNMENT_ORIGIN_PERSISTENT,
                         "/" PERSISTENT ": not JSON; its assignments do not count, it is now /" PERSISTENT
                         ".bad");
        assert_file(tree, PERSISTENT ".bad", torn);

        tree_fifo(tree, RUNTIME);
        assert_set_aside(tree, ASSIGNMENT_ORIGIN_RUNTIME,
                         "/" RUNTIME ": not a regular file; its assignments do not count, it is now /" RUNTIME
                         ".bad");
        assert_int_equal(fstatat(tree->fd, RUNTIME, &st, AT_SYMLINK_NOFOLLOW), -1);

        /* What cannot be renamed is told, and not fatal. */
        tree_unlink(tree, RUNTIME ".bad");
        tree_mkdir(tree, RUNTIME ".bad");
        tree_put(tree, RUNTIME, "{}");
        assert_set_aside(tree, ASSIGNMENT_ORIGIN_RUNTIME,
                         "/" RUNTIME
                         ": of another version; its assignments do not count, and it cannot be renamed: Is "
                         "a directory");
}

#define LATER(c, more) \
        "{\"cpus\":" c ",\"owner\":\"any\",\"vm\":null,\"origin\":\"persistent\",\"untilUSec\":null" more "}"

/* What another build says beside what we know stays with what it is said of. */
static void test_unknown(void **state) {
        static const char later[] =
                "{\"version\":1,\"new\":[1],\"bootId\":\"" BOOT "\",\"assignments\":["
                "{\"why\":\"audit\",\"cpus\":\"0-3\",\"owner\":\"guest\",\"vm\":\"a\",\"origin\":"
                "\"persistent\","
                "\"untilUSec\":null}," LATER("\"8-9\"", ",\"who\":\"me\"") "],\"\\\"\":null}";
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;

        tree_put(tree, PERSISTENT, later);
        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &table);
        assert_int_equal(table.n, 2);

        /* Another one beside them, and one of them another. */
        set(&table, "6", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        set(&table, "9", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT), 0);
        assert_saved(tree, PERSISTENT,
                     "{\"version\":1,\"bootId\":\"" BOOT "\",\"assignments\":["
                     "{\"cpus\":\"0-3\",\"owner\":\"guest\",\"vm\":\"a\",\"origin\":\"persistent\","
                     "\"untilUSec\":null,\"why\":\"audit\"},"
                     "{\"cpus\":\"6\",\"owner\":\"none\",\"vm\":null,\"origin\":\"persistent\","
                     "\"untilUSec\":null},"
                     "{\"cpus\":\"8\",\"owner\":\"any\",\"vm\":null,\"origin\":\"persistent\","
                     "\"untilUSec\":null},"
                     "{\"cpus\":\"9\",\"owner\":\"host\",\"vm\":null,\"origin\":\"persistent\","
                     "\"untilUSec\":null}],\"new\":[1],\"\\\"\":null}");
}

/* What is said of other CPUs, or another owner, VM or time, was said of another one; of another boot, or in a
 * file that is not good, nothing is. */
static void test_unknown_of_others(void **state) {
        static const char *const texts[] = {
                FILE_OF("[{\"cpus\":\"0-1\",\"owner\":\"any\",\"vm\":null,\"origin\":\"runtime\","
                        "\"untilUSec\":null,\"x\":1}]"),
                FILE_OF("[{\"cpus\":\"0\",\"owner\":\"none\",\"vm\":null,\"origin\":\"runtime\","
                        "\"untilUSec\":null,\"x\":1}]"),
                FILE_OF("[{\"cpus\":\"0\",\"owner\":\"any\",\"vm\":\"a\",\"origin\":\"runtime\","
                        "\"untilUSec\":null,\"x\":1}]"),
                FILE_OF("[{\"cpus\":\"0\",\"owner\":\"any\",\"vm\":null,\"origin\":\"runtime\","
                        "\"untilUSec\":7,\"x\":1}]"),
                "{\"version\":1,\"bootId\":\"" OTHER_BOOT "\",\"assignments\":[],\"x\":1}",
                "{\"version\":2,\"bootId\":\"" BOOT "\",\"assignments\":[],\"x\":1}",
                "x",
        };
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;

        set(&table, "0", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_RUNTIME, UINT64_MAX);
        for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
                tree_put(tree, RUNTIME, texts[i]);
                assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_RUNTIME, BOOT), 0);
                assert_saved(tree, RUNTIME,
                             FILE_OF("[{\"cpus\":\"0\",\"owner\":\"any\",\"vm\":null,\"origin\":\"runtime\","
                                     "\"untilUSec\":null}]"));
        }
}

/* However much another build has said, there is room for what we say. */
static void test_unknown_too_long(void **state) {
        enum { LENGTH = (8 << 20) - 200 };
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;
        char *text = malloc(LENGTH + 200);
        struct stat st;
        int n;

        assert_non_null(text);
        n = sprintf(text, "{\"version\":1,\"bootId\":\"" BOOT "\",\"assignments\":[],\"x\":\"");
        memset(text + n, 'x', LENGTH - (size_t)n);
        memcpy(text + LENGTH, "\"}", sizeof("\"}"));
        tree_put(tree, PERSISTENT, text);
        free(text);

        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &table);
        set(&table, "0", ASSIGNMENT_OWNER_ANY, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT), 0);
        assert_int_equal(fstatat(tree->fd, PERSISTENT, &st, 0), 0);
        assert_in_range(st.st_size, LENGTH, 8 << 20);

        for (unsigned cpu = 2; cpu < 16; cpu += 2) {
                char list[8], vm[8];

                (void)snprintf(list, sizeof(list), "%u", cpu);
                (void)snprintf(vm, sizeof(vm), "v%u", cpu);
                set(&table, list, ASSIGNMENT_OWNER_ANY, vm, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        }
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT), 0);
        assert_int_equal(fstatat(tree->fd, PERSISTENT, &st, 0), 0);
        assert_in_range(st.st_size, 1, 2000);
}

/* An eighth of the largest table there can be takes less than an eighth of the bound on the file. */
static void test_large(void **state) {
        enum { ENTRIES = CPUSET_MAX / 8, SIZE_MAX_EIGHTH = 1 << 20 };
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL,
                                                           again = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;
        struct stat st;
        char vm[256];

        memset(vm, '"', sizeof(vm) - 1);
        vm[255] = '\0';
        for (unsigned i = 0; i < ENTRIES; i++) {
                CpuSet cpus = CPUSET_NULL;

                cpuset_add(&cpus, CPUSET_MAX - ENTRIES + i);
                vm[0] = (char)('0' + i % 10);
                vm[1] = (char)('0' + i / 10 % 10);
                vm[2] = (char)('0' + i / 100);
                assert_int_equal(assignment_table_set(&table, &cpus, ASSIGNMENT_OWNER_GUEST, vm,
                                                      ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX),
                                 0);
        }
        assert_int_equal(table.n, ENTRIES);
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT), 0);
        assert_int_equal(fstatat(tree->fd, PERSISTENT, &st, 0), 0);
        assert_true(st.st_size < SIZE_MAX_EIGHTH);
        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &again);
        assert_int_equal(again.n, ENTRIES);
        assert_entry(&again, ENTRIES - 1, "4095", ASSIGNMENT_OWNER_GUEST, vm, ASSIGNMENT_ORIGIN_PERSISTENT,
                     UINT64_MAX);
}

/* The id of the runtime file. */
static void read_id(const Tree *tree, char id[static RANDOM_ID_SIZE]) {
        _cleanup_(freep) char *data = NULL;
        struct json_object *root;
        size_t n;

        assert_int_equal(fs_read_all(tree->fd, RUNTIME, 1 << 20, &data, &n), 0);
        root = json_tokener_parse(data);
        assert_true(random_id_is_valid(json_object_get_string(json_object_object_get(root, "id"))));
        memcpy(id, json_object_get_string(json_object_object_get(root, "id")), RANDOM_ID_SIZE);
        json_object_put(root);
}

static void save(const Tree *tree, const AssignmentTable *table, AssignmentOrigin origin) {
        assert_int_equal(assignment_store_save(tree->fd, table, origin, BOOT), 0);
}

/* Takes @text from both. */
static int take(const Tree *tree, AssignmentTable *table, const char *text) {
        _cleanup_(assignment_table_deinit) AssignmentTable before = ASSIGNMENT_TABLE_NULL;
        CpuSet cpus = cpus_of(text);

        for (size_t i = 0; i < table->n; i++) {
                const Assignment *a = table->entries[i];

                assert_int_equal(
                        assignment_table_set(&before, &a->cpus, a->owner, a->vm, a->origin, a->until_usec),
                        0);
        }
        assert_int_equal(assignment_table_clear(table, &cpus, ASSIGNMENT_ORIGIN_PERSISTENT), 0);
        assert_int_equal(assignment_table_clear(table, &cpus, ASSIGNMENT_ORIGIN_RUNTIME), 0);
        return assignment_store_save_both(tree->fd, &before, table, &cpus, BOOT);
}

/* What the two files say is what the table says. */
static void assert_on_disk(const Tree *tree, const AssignmentTable *table) {
        _cleanup_(assignment_table_deinit) AssignmentTable again = ASSIGNMENT_TABLE_NULL;
        CpuSet diff;

        load(tree, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT, &again);
        load(tree, ASSIGNMENT_ORIGIN_RUNTIME, BOOT, &again);
        assignment_table_diff(table, &again, &diff);
        assert_int_equal(again.n, table->n);
        assert_true(cpuset_is_empty(&diff));
        for (size_t i = 0; i < table->n; i++)
                assert_true(cpuset_equal(&table->entries[i]->cpus, &again.entries[i]->cpus));
}

static void fill(const Tree *tree, AssignmentTable *table) {
        set(table, "0-5", ASSIGNMENT_OWNER_HOST, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        set(table, "4-9", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_RUNTIME, UINT64_MAX);
        save(tree, table, ASSIGNMENT_ORIGIN_PERSISTENT);
        save(tree, table, ASSIGNMENT_ORIGIN_RUNTIME);
}

/* What is taken from both is gone from both once the first file is there, whatever becomes of the second. */
static void test_both(void **state) {
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        char id[RANDOM_ID_SIZE], id_after[RANDOM_ID_SIZE];
        _cleanup_(freep) char *runtime = NULL;
        const Tree *tree = *state;
        size_t n;

        fill(tree, &table);
        read_id(tree, id);
        assert_int_equal(fs_read_all(tree->fd, RUNTIME, 1 << 20, &runtime, &n), 0);
        assert_int_equal(take(tree, &table, "3-4"), 0);
        assert_on_disk(tree, &table);
        read_id(tree, id_after);
        assert_string_not_equal(id, id_after);

        /* As if it had died between the two; then more is taken, from one and from both. */
        tree_put(tree, RUNTIME, runtime);
        assert_on_disk(tree, &table);
        set(&table, "0", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        save(tree, &table, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_on_disk(tree, &table);
        assert_int_equal(take(tree, &table, "5"), 0);
        tree_put(tree, RUNTIME, runtime);
        assert_on_disk(tree, &table);

        /* What is written after that counts, the same text too. */
        set(&table, "3-5", ASSIGNMENT_OWNER_GUEST, NULL, ASSIGNMENT_ORIGIN_RUNTIME, UINT64_MAX);
        save(tree, &table, ASSIGNMENT_ORIGIN_RUNTIME);
        assert_on_disk(tree, &table);
        set(&table, "1", ASSIGNMENT_OWNER_NONE, NULL, ASSIGNMENT_ORIGIN_PERSISTENT, UINT64_MAX);
        save(tree, &table, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_on_disk(tree, &table);
}

/* A runtime file that nobody can name is written first; what fails leaves both as they were. */
static void test_both_without_id(void **state) {
        static const char *const others[] = {
                FILE_OF("[{\"cpus\":\"4-9\",\"owner\":\"guest\",\"vm\":null,\"origin\":\"runtime\","
                        "\"untilUSec\":null}]"),
                "x",
                NULL,
        };
        const Tree *tree = *state;

        for (size_t i = 0; i < ELEMENTS_OF(others); i++) {
                _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;

                fill(tree, &table);
                if (others[i])
                        tree_put(tree, RUNTIME, others[i]);
                else
                        tree_unlink(tree, RUNTIME);
                assert_int_equal(take(tree, &table, "4"), 0);
                assert_on_disk(tree, &table);
        }
}

static void test_both_fails(void **state) {
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL,
                                                           before = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;

        fill(tree, &table);
        fill(tree, &before);
        tree_unlink(tree, PERSISTENT);
        tree_mkdir(tree, PERSISTENT);
        assert_int_equal(take(tree, &table, "4"), -EISDIR);
        assert_int_equal(unlinkat(tree->fd, PERSISTENT, AT_REMOVEDIR), 0);
        save(tree, &before, ASSIGNMENT_ORIGIN_PERSISTENT);
        assert_on_disk(tree, &before);
}

static void test_save_fails(void **state) {
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        const Tree *tree = *state;

        tree_put(tree, "var", "a file\n");
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_PERSISTENT, BOOT),
                         -ENOTDIR);
        assert_int_equal(assignment_store_save(tree->fd, &table, ASSIGNMENT_ORIGIN_RUNTIME, BOOT), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_round_trip, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_nothing, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_set_aside, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_unknown, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_unknown_of_others, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_unknown_too_long, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_large, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_both, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_both_without_id, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_both_fails, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_save_fails, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
