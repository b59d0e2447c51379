/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Texts of saved assignments: what is believed of them, and that nothing is of one that is damaged. */

#include "broker/assignment-record.h"
#include "tests/unit/assignments.h"

static int parse(const char *text, size_t n, AssignmentOrigin origin, AssignmentRecord **ret_record,
                 const char **ret_reason) {
        return assignment_record_parse(text, n, origin, BOOT, ret_record, ret_reason);
}

/* @expected: NULL for whatever the JSON reader calls it. */
static void assert_bad(const char *text, const char *expected) {
        AssignmentRecord *record = NULL;
        const char *reason = NULL;

        if (parse(text, strlen(text), ASSIGNMENT_ORIGIN_PERSISTENT, &record, &reason) !=
            ASSIGNMENT_RECORD_E_BAD)
                fail_msg("believed: %s", text);
        assert_null(record);
        assert_non_null(reason);
        if (expected)
                assert_string_equal(reason, expected);
}

static void test_bad(_unused_ void **state) {
        static const struct {
                const char *text;
                const char *reason; /* NULL: whatever the JSON reader calls it */
        } cases[] = {
                {"", NULL},
                {"{", NULL},
                {FILE_OF("[]") "x", NULL},
                {FILE_OF("[],\"version\":1"), NULL},
                {FILE_OF("[" GOOD("\"0\"") ""), NULL},
                {"null", "not an object"},
                {"[]", "not an object"},
                {"{}", "of another version"},
                {"{\"version\":1}", "bootId is not a boot's id"},
                {FILE_OF("{}"), "assignments is not a list"},
                {FILE_OF("null"), "assignments is not a list"},
                {"{\"version\":1,\"bootId\":null,\"assignments\":[]}", "bootId is not a boot's id"},
                {"{\"version\":1.0,\"bootId\":\"\",\"assignments\":[]}", "of another version"},
                {"{\"version\":2,\"bootId\":\"\",\"assignments\":[]}", "of another version"},
                {FILE_OF("[null]"), "an assignment is not an object"},
                {FILE_OF("[{}]"), "cpus is not a list of CPUs"},
                {FILE_OF("[{\"cpus\":\"0\"}]"), "owner is not an owner"},
                {FILE_OF("[{\"cpus\":\"0\",\"owner\":\"any\"}]"), "vm is not a VM's name"},
                {FILE_OF("[{\"cpus\":\"0\",\"owner\":\"any\",\"vm\":null}]"), "origin is another file's"},
                {FILE_OF("[{\"cpus\":\"0\",\"owner\":\"any\",\"vm\":null,\"origin\":\"persistent\"}]"),
                 "untilUSec is not a time"},
                {FILE_OF("[{\"cpus\":\"0\",\"owner\":\"any\",\"vm\":null,\"origin\":\"persistent\",\"x\":1}"
                         "]"),
                 "untilUSec is not a time"},
                {FILE_OF("[" GOOD("\"\"") "]"), "cpus is not a list of CPUs"},
                {FILE_OF("[" GOOD("0") "]"), "cpus is not a list of CPUs"},
                {FILE_OF("[" GOOD("\"4096\"") "]"), "cpus is not a list of CPUs"},
                {FILE_OF("[" GOOD("\"0-3\"") "," GOOD("\"3\"") "]"), "a CPU is assigned twice"},
                {FILE_OF("[" ENTRY("\"0\"", "\"me\"", "null", "\"persistent\"", "null") "]"),
                 "owner is not an owner"},
                {FILE_OF("[" ENTRY("\"0\"", "1", "null", "\"persistent\"", "null") "]"),
                 "owner is not an owner"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "\"\"", "\"persistent\"", "null") "]"),
                 "vm is not a VM's name"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "\"a\\nb\"", "\"persistent\"", "null") "]"),
                 "vm is not a VM's name"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "1", "\"persistent\"", "null") "]"),
                 "vm is not a VM's name"},
                {FILE_OF("[" ENTRY("\"0\"", "\"host\"", "\"a\"", "\"persistent\"", "null") "]"),
                 "a VM is named for an owner that is not guest or any"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "null", "\"runtime\"", "null") "]"),
                 "origin is another file's"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "null", "\"config\"", "null") "]"),
                 "origin is another file's"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "null", "\"x\"", "null") "]"),
                 "origin is another file's"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "null", "\"persistent\"", "-1") "]"),
                 "untilUSec is not a time"},
                {FILE_OF("[" ENTRY("\"0\"", "\"any\"", "null", "\"persistent\"", "1.5") "]"),
                 "untilUSec is not a time"},
        };
        static const char good[] = FILE_OF("[" GOOD("\"0-3\"") "," GOOD("\"4\"") "]");
        _cleanup_(assignment_record_freep) AssignmentRecord *record = NULL;
        const char *reason;

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++)
                assert_bad(cases[i].text, cases[i].reason);

        /* Without a sum: what an older version wrote. */
        assert_int_equal(parse(good, strlen(good), ASSIGNMENT_ORIGIN_PERSISTENT, &record, &reason), 0);
        /* One until the same time for the same VM: equal ones are one. */
        assert_int_equal(record->table.n, 1);
        assert_entry(&record->table, 0, "0-4", ASSIGNMENT_OWNER_ANY, "a", ASSIGNMENT_ORIGIN_PERSISTENT, 5);
}

#define ID_A "00000000000000000000000000000001"
#define ID_B "a0000000000000000000000000000002"

static AssignmentHead head_of(AssignmentOrigin origin) {
        return origin == ASSIGNMENT_ORIGIN_RUNTIME
                       ? (AssignmentHead){.id = ID_A}
                       : (AssignmentHead){.unassigned_id = ID_B, .unassigned = cpus_of("4,6-7")};
}

static char *written(const AssignmentTable *table, AssignmentOrigin origin, size_t *ret_n) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(ASSIGNMENT_RECORD_MAX);
        AssignmentHead head = head_of(origin);
        char *text;

        assert_int_equal(assignment_record_write(&head, table, origin, BOOT, NULL, &buffer), 0);
        *ret_n = buffer_pending(&buffer);
        text = strndup(buffer.data + buffer.start, *ret_n);
        assert_non_null(text);
        return text;
}

/* As written(), of the two origins' samples. */
static char *sample(AssignmentOrigin origin, AssignmentTable *table, size_t *ret_n) {
        set(table, "0-3,12", ASSIGNMENT_OWNER_GUEST, "web \"1\"", origin, UINT64_MAX);
        set(table, "4", ASSIGNMENT_OWNER_NONE, NULL, origin, 1700000000000000);
        return written(table, origin, ret_n);
}

/* Every prefix is set aside, none of them half believed; nothing but the newline can be missing. */
static void test_torn(_unused_ void **state) {
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        _cleanup_(freep) char *good = NULL;
        size_t n;

        good = sample(ASSIGNMENT_ORIGIN_PERSISTENT, &table, &n);
        for (size_t k = 0; k <= n; k++) {
                _cleanup_(assignment_record_freep) AssignmentRecord *record = NULL;
                const char *reason = NULL;

                assert_int_equal(parse(good, k, ASSIGNMENT_ORIGIN_PERSISTENT, &record, &reason),
                                 k < n - 1 ? ASSIGNMENT_RECORD_E_BAD : 0);
        }
}

static bool same(const AssignmentTable *a, const AssignmentTable *b) {
        CpuSet diff;

        assignment_table_diff(a, b, &diff);
        if (a->n != b->n || !cpuset_is_empty(&diff))
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (a->entries[i]->origin != b->entries[i]->origin ||
                    a->entries[i]->until_usec != b->entries[i]->until_usec)
                        return false;
        return true;
}

static void assert_refused_or_same(const char *text, size_t n, AssignmentOrigin origin,
                                   const AssignmentTable *table) {
        _cleanup_(assignment_record_freep) AssignmentRecord *record = NULL;
        AssignmentHead head = head_of(origin);
        const char *reason = NULL;
        int r;

        r = parse(text, n, origin, &record, &reason);
        if (r == 0 ? !same(&record->table, table) || !same_head(&record->head, &head)
                   : r != ASSIGNMENT_RECORD_E_BAD || !reason)
                fail_msg("believed: %.*s", (int)n, text);
}

/* Damaged texts: refused with a reason, or meaning what they meant. */
static void damage(AssignmentOrigin origin) {
        static const unsigned char values[] = {0, ' ', '"', ',', '0', '9', '}', '\\', 0x7f, 0xc3, 0xff};
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        _cleanup_(freep) char *good = NULL, *text = NULL;
        size_t n;

        good = sample(origin, &table, &n);
        assert_refused_or_same(good, n, origin, &table);
        text = malloc(n + 1);
        assert_non_null(text);
        for (size_t i = 0; i < n; i++) {
                memcpy(text, good, n);
                for (unsigned bit = 0; bit < 8; bit++) {
                        text[i] = (char)(good[i] ^ 1 << bit);
                        assert_refused_or_same(text, n, origin, &table);
                }
                for (size_t j = 0; j < ELEMENTS_OF(values); j++) {
                        text[i] = (char)values[j];
                        assert_refused_or_same(text, n, origin, &table);
                }

                /* Gone, there twice, and something before it. */
                memmove(text + i, good + i + 1, n - i - 1);
                assert_refused_or_same(text, n - 1, origin, &table);
                memcpy(text, good, i + 1);
                memcpy(text + i + 1, good + i, n - i);
                assert_refused_or_same(text, n + 1, origin, &table);
                text[i] = ' ';
                assert_refused_or_same(text, n + 1, origin, &table);
        }
}

static void test_every_byte(_unused_ void **state) {
        damage(ASSIGNMENT_ORIGIN_PERSISTENT);
        damage(ASSIGNMENT_ORIGIN_RUNTIME);
}

#define RUNTIME_OF(list) \
        "{\"version\":1,\"bootId\":\"" BOOT "\",\"id\":\"" ID_A "\",\"assignments\":" list "}"
#define HEAD_OF(more)       "{\"version\":1,\"bootId\":\"" BOOT "\",\"assignments\":[]," more "}"
#define UNASSIGNED_OF(more) HEAD_OF("\"unassigned\":{" more "}")

/* What one text says of the other. */
static void test_head(_unused_ void **state) {
        static const char *const good[] = {
                UNASSIGNED_OF("\"id\":\"" ID_B "\",\"cpus\":\"4,6-7\""),
                UNASSIGNED_OF("\"cpus\":\"6,7,4\",\"id\":\"" ID_B "\""),
        };
        static const struct {
                const char *text, *reason;
        } cases[] = {
                {HEAD_OF("\"id\":\"" ID_A "\""), "id is another file's"},
                {HEAD_OF("\"unassigned\":null"), "unassigned is not an object"},
                {HEAD_OF("\"unassigned\":[]"), "unassigned is not an object"},
                {UNASSIGNED_OF(""), "unassigned.id is not an id"},
                {UNASSIGNED_OF("\"id\":null,\"cpus\":\"0\""), "unassigned.id is not an id"},
                {UNASSIGNED_OF("\"id\":\"\",\"cpus\":\"0\""), "unassigned.id is not an id"},
                {UNASSIGNED_OF("\"id\":\"" ID_A "0\",\"cpus\":\"0\""), "unassigned.id is not an id"},
                {UNASSIGNED_OF("\"id\":\"A0000000000000000000000000000000\",\"cpus\":\"0\""),
                 "unassigned.id is not an id"},
                {UNASSIGNED_OF("\"id\":\"" ID_A "\""), "unassigned.cpus is not a list of CPUs"},
                {UNASSIGNED_OF("\"id\":\"" ID_A "\",\"cpus\":\"\""), "unassigned.cpus is not a list of CPUs"},
                {UNASSIGNED_OF("\"id\":\"" ID_A "\",\"cpus\":\"4096\""),
                 "unassigned.cpus is not a list of CPUs"},
                {UNASSIGNED_OF("\"id\":\"" ID_A "\",\"cpus\":\"0\",\"x\":1"),
                 "unassigned has members that are unknown"},
        };
        AssignmentHead expected = head_of(ASSIGNMENT_ORIGIN_PERSISTENT);
        AssignmentRecord *record;
        const char *reason;

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++)
                assert_bad(cases[i].text, cases[i].reason);
        for (size_t i = 0; i < ELEMENTS_OF(good); i++) {
                assert_int_equal(
                        parse(good[i], strlen(good[i]), ASSIGNMENT_ORIGIN_PERSISTENT, &record, &reason), 0);
                assert_true(same_head(&record->head, &expected));
                assignment_record_free(record);

                assert_int_equal(parse(good[i], strlen(good[i]), ASSIGNMENT_ORIGIN_RUNTIME, &record, &reason),
                                 ASSIGNMENT_RECORD_E_BAD);
                assert_string_equal(reason, "unassigned is another file's");
        }

        /* Another boot's says nothing, but must be good. */
        assert_int_equal(parse(RUNTIME_OF("[]"), strlen(RUNTIME_OF("[]")), ASSIGNMENT_ORIGIN_RUNTIME, &record,
                               &reason),
                         0);
        assert_string_equal(record->head.id, ID_A);
        assignment_record_free(record);
        assert_int_equal(assignment_record_parse(RUNTIME_OF("[]"), strlen(RUNTIME_OF("[]")),
                                                 ASSIGNMENT_ORIGIN_RUNTIME, ID_A, &record, &reason),
                         0);
        assert_string_equal(record->head.id, "");
        assignment_record_free(record);
}

/* Another CPU, another boot, no sum where there is to be one; and what another build adds is no part of it.
 */
static void test_sum(_unused_ void **state) {
        static const struct {
                const char *from, *to, *reason; /* NULL: fine */
        } cases[] = {
                {"0-3,12", "0-3,13", "damaged: its sum is another"},
                {BOOT, "0123456789abcdef0123456789abcdee", "damaged: its sum is another"},
                {"\"sum\":\"", "\"sum\":\"0", "damaged: its sum is another"},
                {"\"sum\":\"", "\"sum\":null,\"was\":\"", "sum is not a sum"},
                {"\"sum\":\"", "\"later\":1,\"sum\":\"", NULL},
                {"\"owner\":\"none\"", "\"later\":{},\"owner\":\"none\"", NULL},
                {"\"sum\":\"", "\"was\":\"", NULL},
        };
        _cleanup_(assignment_table_deinit) AssignmentTable table = ASSIGNMENT_TABLE_NULL;
        _cleanup_(freep) char *good = NULL;
        size_t n;

        good = sample(ASSIGNMENT_ORIGIN_PERSISTENT, &table, &n);
        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                const char *at = strstr(good, cases[i].from);
                char text[1024];

                assert_non_null(at);
                (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, cases[i].to,
                               at + strlen(cases[i].from));
                if (cases[i].reason)
                        assert_bad(text, cases[i].reason);
                else
                        assert_refused_or_same(text, strlen(text), ASSIGNMENT_ORIGIN_PERSISTENT, &table);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bad),        cmocka_unit_test(test_head), cmocka_unit_test(test_torn),
                cmocka_unit_test(test_every_byte), cmocka_unit_test(test_sum),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
