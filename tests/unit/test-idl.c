/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "idl/idl-text.h"
#include "util/cleanup.h"
#include "varlink/idl.h"
#include "varlink/json-read.h"

/* Parses a heap copy of exactly @n bytes, gone before anybody looks. */
static int parse_copy(const char *text, size_t n, Idl **ret_idl, unsigned *ret_line) {
        char *copy = malloc(n > 0 ? n : 1);
        int r;

        assert_non_null(copy);
        memcpy(copy, text, n);
        r = idl_parse(copy, n, ret_idl, ret_line);
        memset(copy, 'Z', n);
        free(copy);
        return r;
}

static Idl *parse_good(const char *text) {
        unsigned line = 0;
        Idl *idl = NULL;

        if (parse_copy(text, strlen(text), &idl, &line) != 0)
                fail_msg("line %u of: %s", line, text);
        assert_string_equal(idl_get_text(idl), text);
        return idl;
}

static void assert_syntax_n(const char *text, size_t n, unsigned expected_line) {
        Idl *untouched = (Idl *)&n, *idl = untouched;
        unsigned line = 0;

        if (parse_copy(text, n, &idl, &line) != IDL_E_SYNTAX || line != expected_line)
                fail_msg("line %u instead of %u in: %s", line, expected_line, text);
        assert_ptr_equal(idl, untouched);
}

static void assert_syntax(const char *text, unsigned expected_line) {
        assert_syntax_n(text, strlen(text), expected_line);
}

static struct json_object *read_value(const char *text) {
        struct json_object *value;

        if (json_read(text, strlen(text), &value, NULL) != 0)
                fail_msg("not JSON: %s", text);
        return value;
}

/* Checks @text against @type; @field is what is expected at fault, NULL where nothing is. */
static void assert_check(const Idl *idl, const IdlType *type, const char *text, int expected,
                         const char *field) {
        struct json_object *object = read_value(text);
        const char *at = NULL;
        int r;

        r = idl_check(idl, type, object, &at);
        if (r != expected || (field ? !at || strcmp(at, field) != 0 : at != NULL))
                fail_msg("%d at %s instead of %d at %s: %s", r, at ?: "-", expected, field ?: "-", text);
        json_object_put(object);
}

static const IdlType *input_of(const Idl *idl, const char *method) {
        const IdlMember *member = idl_find(idl, IDL_MEMBER_METHOD, method);

        assert_non_null(member);
        return member->input;
}

static void test_members(_unused_ void **state) {
        _cleanup_(idl_freep) Idl *idl = NULL;
        const IdlMember *member;

        idl = parse_good("# Comment\n"
                         "interface org.example.a-b.X1 # more\n"
                         "\n"
                         "type Zebra (a: int) # behind\n"
                         "method Get(z: Zebra)->(\n"
                         "\t# in between\n"
                         "  a : ?[]string # and here\n"
                         "  , b: Word\n"
                         ")\n"
                         "type Word (x, y_2)\n"
                         "error Alas ()\n"
                         "method Empty() -> ()");
        assert_string_equal(idl_get_name(idl), "org.example.a-b.X1");
        assert_int_equal(idl_get_n_members(idl), 5);

        member = idl_get_member(idl, 1);
        assert_int_equal(member->kind, IDL_MEMBER_METHOD);
        assert_string_equal(member->name, "Get");
        assert_non_null(member->input);
        assert_non_null(member->output);
        assert_ptr_equal(idl_find(idl, IDL_MEMBER_METHOD, "Get"), member);

        assert_ptr_equal(idl_find(idl, IDL_MEMBER_TYPE, "Zebra"), idl_get_member(idl, 0));
        assert_ptr_equal(idl_find(idl, IDL_MEMBER_TYPE, "Word"), idl_get_member(idl, 2));
        assert_ptr_equal(idl_find(idl, IDL_MEMBER_ERROR, "Alas"), idl_get_member(idl, 3));
        assert_ptr_equal(idl_find(idl, IDL_MEMBER_METHOD, "Empty"), idl_get_member(idl, 4));
        assert_null(idl_get_member(idl, 3)->output);

        assert_null(idl_find(idl, IDL_MEMBER_TYPE, "Get"));
        assert_null(idl_find(idl, IDL_MEMBER_METHOD, "Zebra"));
        assert_null(idl_find(idl, IDL_MEMBER_METHOD, "get"));
        assert_null(idl_find(idl, IDL_MEMBER_METHOD, ""));
        assert_null(idl_find(idl, IDL_MEMBER_METHOD, "GetX"));
}

#define HEAD "interface a.b\n"

static void assert_good(const char *text) {
        Idl *idl = parse_good(text);

        idl_free(idl);
}

static void test_interface_names(_unused_ void **state) {
        static const char *const good[] = {"a.b",   "a.1", "a-b.c", "a--b.c-1", "io.spebroker.Broker",
                                           "X.y.z9"};
        static const char *const bad[] = {"",     "a",    "a.",   ".a",   "1.a",   "a..b",
                                          "-a.b", "a-.b", "a.-b", "a.b-", "a_b.c", "a.b."};
        char text[64];

        for (size_t i = 0; i < ELEMENTS_OF(good); i++) {
                snprintf(text, sizeof(text), "interface %s", good[i]);
                assert_good(text);
        }
        for (size_t i = 0; i < ELEMENTS_OF(bad); i++) {
                snprintf(text, sizeof(text), "interface %s\n", bad[i]);
                assert_syntax(text, strcmp(bad[i], "") == 0 ? 2 : 1);
        }
        assert_syntax("interface a.b c", 1);
        assert_syntax("interfacea.b", 1);
        assert_syntax("", 1);
        assert_syntax("# only a comment", 1);
        assert_syntax("type A ()\n", 1);
}

static void test_types(_unused_ void **state) {
        assert_good(HEAD "type A (a: bool, b: int, c: float, d: string, e: object, f: any)");
        assert_good(HEAD "type A ()");
        assert_good(HEAD
                    "type A (type: string, method: int, error: bool, interface: (string, int), any: any)");
        assert_good(HEAD
                    "type A (a: [][]int, b: []?int, c: [string][]A, d: ?[]?[string]?A, e: [ string ] ())");
        assert_good(HEAD "type A (a: ?[](a: int, e: (x, y)), b: (c: (d: (e: A))))");
        assert_good(HEAD "type A (b: B)\ntype B (a: ?A)");

        assert_syntax(HEAD "type A (a: B)", 2);
        assert_syntax(HEAD "type A (\na: int,\nb: []?Get)\nmethod Get() -> ()", 4);
        assert_syntax(HEAD "type A (a: integer)", 2);
        assert_syntax(HEAD "type A (a: ??int)", 2);
        assert_syntax(HEAD "type A (a: ? ?int)", 2);
        assert_syntax(HEAD "type A (a: [int]int)", 2);
        assert_syntax(HEAD "type A (a: [string int)", 2);
        assert_syntax(HEAD "type A (a: [strings]int)", 2);
        assert_syntax(HEAD "type A (a: [])", 2);
        assert_syntax(HEAD "type A (a: ?)", 2);
        assert_syntax(HEAD "type A (a:)", 2);
        assert_syntax(HEAD "type A (a: int,)", 2);
        assert_syntax(HEAD "type A (,)", 2);
        assert_syntax(HEAD "type A (a, b: int)", 2);
        assert_syntax(HEAD "type A (a: int, b)", 2);
        assert_syntax(HEAD "type A (a: int b: int)", 2);
        assert_syntax(HEAD "type A (a: int", 2);
        assert_syntax(HEAD "type A (\n\na: int\n\n", 6);
        assert_syntax(HEAD "type A", 2);
        assert_syntax(HEAD "type A int", 2);
        assert_syntax(HEAD "type A []int", 2);
}

static void test_member_syntax(_unused_ void **state) {
        assert_good(HEAD "method A() -> ()\nmethod B(a: int) -> (b: int)\nerror C (a: int)");
        assert_good(HEAD "method\nA\n(\n)\n->\n(\n)\n");
        assert_good(HEAD "# text with \xff and \r in it\nerror A ()");

        assert_syntax(HEAD "method A()", 2);
        assert_syntax(HEAD "method A() ->", 2);
        assert_syntax(HEAD "method A() - > ()", 2);
        assert_syntax(HEAD "method A() -> int", 2);
        assert_syntax(HEAD "method A(x, y) -> ()", 2);
        assert_syntax(HEAD "method A() -> (x)", 2);
        assert_syntax(HEAD "error A", 2);
        assert_syntax(HEAD "error A (x)", 2);
        assert_syntax(HEAD "method a() -> ()", 2);
        assert_syntax(HEAD "method A_b() -> ()", 2);
        assert_syntax(HEAD "method 1A() -> ()", 2);
        assert_syntax(HEAD "methodA() -> ()", 2);
        assert_syntax(HEAD "function A() -> ()", 2);
        assert_syntax(HEAD "error A () error B ()", 2);
        assert_syntax(HEAD "error A ()\r\nerror B ()", 2);
        assert_syntax("interface a.b error A ()", 1);
        assert_syntax("interface a.b\n\nerror A ()\n)", 4);

        assert_good(HEAD "error A (a_b: int, a1_2: int, aB: int)");
        assert_syntax(HEAD "error A (a_: int)", 2);
        assert_syntax(HEAD "error A (_a: int)", 2);
        assert_syntax(HEAD "error A (a__b: int)", 2);
        assert_syntax(HEAD "error A (1: int)", 2);
        assert_syntax(HEAD "error A (a-b: int)", 2);
        assert_syntax(HEAD "error A (\xc3\xa4: int)", 2);
}

static void test_duplicates(_unused_ void **state) {
        assert_syntax(HEAD "type A (\na: int,\nb: int,\na: bool)", 5);
        assert_syntax(HEAD "type A (x, y, x)", 2);
        assert_good(HEAD "type A (a: (a: int, b: (a, b)), b: int)");
        assert_syntax(HEAD "type A ()\n\ntype A ()", 4);
        assert_syntax(HEAD "type A ()\nmethod A() -> ()", 3);
        assert_syntax(HEAD "error A ()\ntype B ()\nmethod A() -> ()", 4);
}

static void test_hostile(_unused_ void **state) {
        char text[512];
        size_t n;

        assert_syntax_n(HEAD "error A ()\n\0error B ()", sizeof(HEAD "error A ()\n\0error B ()") - 1, 3);
        assert_syntax_n(HEAD "# \0\nerror A ()", sizeof(HEAD "# \0\nerror A ()") - 1, 2);

        /* 62 arrays, a struct's field, and what the element is: nested as deep as may be; then one more. */
        n = (size_t)snprintf(text, sizeof(text), HEAD "type A (a: ");
        for (unsigned i = 0; i < 63; i++)
                n += (size_t)(stpcpy(text + n, "[]") - (text + n));
        snprintf(text + n, sizeof(text) - n, "int)");
        assert_good(text);
        snprintf(text + n, sizeof(text) - n, "[]int)");
        assert_syntax(text, 2);
        snprintf(text + n, sizeof(text) - n, "(a: int))");
        assert_syntax(text, 2);
}

/* Every prefix of a good text is either one too, or refused; names never run over their memory. */
static void test_prefixes(_unused_ void **state) {
        static const char text[] = "interface a.b\ntype A(b:B,c:?[](d:int,e:(x,y)))\ntype B()\n"
                                   "method M(a:A)->(b:[string]B)\nerror E(a:int)";

        assert_good(text);
        for (size_t n = 0; n < sizeof(text); n++) {
                unsigned line = 0;
                Idl *idl = NULL;
                int r = parse_copy(text, n, &idl, &line);

                assert_true(r == 0 || (r == IDL_E_SYNTAX && line > 0));
                idl_free(idl);
        }
}

static void test_check_simple(_unused_ void **state) {
        _cleanup_(idl_freep) Idl *idl = NULL;
        const IdlType *type;

        idl = parse_good(HEAD "method M(b: ?bool, i: ?int, f: ?float, s: ?string, o: ?object, a: ?any, e: "
                              "?E, x: ?(yes, no)) -> ()\n"
                              "method Required(any: any) -> ()\n"
                              "type E (one, two)");
        type = input_of(idl, "M");

        assert_check(idl, type, "null", 0, NULL);
        assert_check(idl, type, "{}", 0, NULL);
        assert_check(idl, type,
                     "{\"b\":null,\"i\":null,\"f\":null,\"s\":null,\"o\":null,\"a\":null,\"e\":null}", 0,
                     NULL);
        assert_check(idl, type,
                     "{\"b\":true,\"i\":-1,\"f\":1.5,\"s\":\"\",\"o\":{\"z\":1},\"a\":[1],\"e\":\"one\","
                     "\"x\":\"no\"}",
                     0, NULL);
        assert_check(idl, type, "{\"f\":1}", 0, NULL);
        assert_check(idl, type, "{\"a\":true}", 0, NULL);

        assert_check(idl, type, "{\"b\":1}", IDL_E_TYPE, "b");
        assert_check(idl, type, "{\"b\":\"true\"}", IDL_E_TYPE, "b");
        assert_check(idl, type, "{\"i\":2.0}", IDL_E_TYPE, "i");
        assert_check(idl, type, "{\"i\":\"2\"}", IDL_E_TYPE, "i");
        assert_check(idl, type, "{\"i\":true}", IDL_E_TYPE, "i");
        assert_check(idl, type, "{\"i\":[1]}", IDL_E_TYPE, "i");
        assert_check(idl, type, "{\"f\":\"1.5\"}", IDL_E_TYPE, "f");
        assert_check(idl, type, "{\"s\":1}", IDL_E_TYPE, "s");
        assert_check(idl, type, "{\"o\":[]}", IDL_E_TYPE, "o");
        assert_check(idl, type, "{\"o\":\"x\"}", IDL_E_TYPE, "o");
        assert_check(idl, type, "{\"e\":\"three\"}", IDL_E_TYPE, "e");
        assert_check(idl, type, "{\"e\":\"One\"}", IDL_E_TYPE, "e");
        assert_check(idl, type, "{\"e\":\"\"}", IDL_E_TYPE, "e");
        assert_check(idl, type, "{\"e\":1}", IDL_E_TYPE, "e");
        assert_check(idl, type, "{\"x\":\"maybe\"}", IDL_E_TYPE, "x");
        assert_check(idl, type, "{\"z\":1}", IDL_E_UNKNOWN_FIELD, "z");
        assert_check(idl, type, "{\"z\":null}", IDL_E_UNKNOWN_FIELD, "z");
        assert_check(idl, type, "[]", IDL_E_TYPE, "");
        assert_check(idl, type, "5", IDL_E_TYPE, "");

        type = input_of(idl, "Required");
        assert_check(idl, type, "{\"any\":0}", 0, NULL);
        assert_check(idl, type, "{\"any\":{\"x\":[]}}", 0, NULL);
        assert_check(idl, type, "null", IDL_E_MISSING_FIELD, "any");
        assert_check(idl, type, "{}", IDL_E_MISSING_FIELD, "any");
        assert_check(idl, type, "{\"any\":null}", IDL_E_MISSING_FIELD, "any");
}

static void test_check_nested(_unused_ void **state) {
        _cleanup_(idl_freep) Idl *idl = NULL;
        const IdlType *type;

        idl = parse_good(HEAD
                         "type Node (value: int, next: ?Node)\n"
                         "method M(list: []Node, map: [string]int, set: [string](), deep: [][]?int) -> ()");
        type = input_of(idl, "M");
#define REST "\"map\":{},\"set\":{},\"deep\":[]"
        assert_check(idl, type, "{\"list\":[]," REST "}", 0, NULL);
        assert_check(idl, type, "{\"list\":[{\"value\":1,\"next\":{\"value\":2,\"next\":null}}]," REST "}", 0,
                     NULL);
        assert_check(idl, type, "{\"list\":[{\"value\":1,\"next\":{}}]," REST "}", IDL_E_MISSING_FIELD,
                     "value");
        assert_check(idl, type, "{\"list\":[{\"value\":1,\"next\":{\"value\":null}}]," REST "}",
                     IDL_E_MISSING_FIELD, "value");
        assert_check(idl, type, "{\"list\":[{\"value\":1},{\"value\":\"x\"}]," REST "}", IDL_E_TYPE, "value");
        assert_check(idl, type, "{\"list\":[{\"value\":1,\"next\":[]}]," REST "}", IDL_E_TYPE, "next");
        assert_check(idl, type, "{\"list\":[{\"value\":1,\"last\":1}]," REST "}", IDL_E_UNKNOWN_FIELD,
                     "last");
        assert_check(idl, type, "{\"list\":[1]," REST "}", IDL_E_TYPE, "list");
        assert_check(idl, type, "{\"list\":[null]," REST "}", IDL_E_MISSING_FIELD, "list");
        assert_check(idl, type, "{\"list\":{}," REST "}", IDL_E_TYPE, "list");
        assert_check(idl, type, "{\"list\":null," REST "}", IDL_E_MISSING_FIELD, "list");
        assert_check(idl, type, "{" REST "}", IDL_E_MISSING_FIELD, "list");
        assert_check(idl, type, "{}", IDL_E_MISSING_FIELD, "deep");
#undef REST
#define REST "\"list\":[]"
        assert_check(idl, type,
                     "{\"map\":{\"a\":1,\"b\":2},\"set\":{\"x\":{}},\"deep\":[[1,null],[]]," REST "}", 0,
                     NULL);
        assert_check(idl, type, "{\"map\":{\"a\":1,\"b\":\"2\"},\"set\":{},\"deep\":[]," REST "}", IDL_E_TYPE,
                     "map");
        assert_check(idl, type, "{\"map\":{\"a\":null},\"set\":{},\"deep\":[]," REST "}", IDL_E_MISSING_FIELD,
                     "map");
        assert_check(idl, type, "{\"map\":[],\"set\":{},\"deep\":[]," REST "}", IDL_E_TYPE, "map");
        assert_check(idl, type, "{\"map\":{},\"set\":{\"x\":1},\"deep\":[]," REST "}", IDL_E_TYPE, "set");
        assert_check(idl, type, "{\"map\":{},\"set\":{\"x\":{\"y\":1}},\"deep\":[]," REST "}",
                     IDL_E_UNKNOWN_FIELD, "y");
        assert_check(idl, type, "{\"map\":{},\"set\":{},\"deep\":[[1],[\"1\"]]," REST "}", IDL_E_TYPE,
                     "deep");
        assert_check(idl, type, "{\"map\":{},\"set\":{},\"deep\":[[1],null]," REST "}", IDL_E_MISSING_FIELD,
                     "deep");
#undef REST
}

static void test_broker(_unused_ void **state) {
        _cleanup_(idl_freep) Idl *idl = parse_good(idl_io_spebroker_Broker);
        const IdlType *acquire = input_of(idl, "Acquire"), *follow = input_of(idl, "Follow");

        assert_string_equal(idl_get_name(idl), "io.spebroker.Broker");
        assert_non_null(idl_find(idl, IDL_MEMBER_ERROR, "Busy"));
        assert_non_null(idl_find(idl, IDL_MEMBER_TYPE, "Lease"));

        assert_check(idl, acquire, "{\"request\":{\"vcpus\":4}}", 0, NULL);
        assert_check(
                idl, acquire,
                "{\"request\":{\"vm\":\"web\",\"vcpus\":4,\"cpus\":\"0-31\",\"instance\":\"arm_spe_0\","
                "\"bufferSize\":4194304,"
                "\"exact\":true,\"mode\":\"exclusive\",\"pid\":1,\"requestId\":\"x\"},\"waitUSec\":1000000}",
                0, NULL);
        assert_check(idl, acquire, "{\"request\":{\"vcpus\":4,\"color\":1}}", IDL_E_UNKNOWN_FIELD, "color");
        assert_check(idl, acquire, "{\"request\":{\"vcpus\":\"4\"}}", IDL_E_TYPE, "vcpus");
        assert_check(idl, acquire, "{\"request\":{\"vcpus\":4,\"mode\":\"greedy\"}}", IDL_E_TYPE, "mode");
        assert_check(idl, acquire, "{\"request\":{}}", IDL_E_MISSING_FIELD, "vcpus");
        assert_check(idl, acquire, "{\"vcpus\":4}", IDL_E_UNKNOWN_FIELD, "vcpus");
        assert_check(idl, acquire, "{\"request\":[]}", IDL_E_TYPE, "request");
        assert_check(idl, acquire, "null", IDL_E_MISSING_FIELD, "request");
        assert_check(idl, follow, "{\"leaseId\":\"x\"}", 0, NULL);
        assert_check(idl, follow, "{}", IDL_E_MISSING_FIELD, "leaseId");
        assert_check(idl, input_of(idl, "Describe"), "null", 0, NULL);
        assert_check(idl, input_of(idl, "Describe"), "{\"x\":1}", IDL_E_UNKNOWN_FIELD, "x");
}

static void test_admin(_unused_ void **state) {
        _cleanup_(idl_freep) Idl *idl = parse_good(idl_io_spebroker_Admin);
        const IdlType *assign = input_of(idl, "Assign");

        assert_string_equal(idl_get_name(idl), "io.spebroker.Admin");
        assert_check(idl, assign, "{\"cpus\":\"0-3\",\"owner\":\"guest\"}", 0, NULL);
        assert_check(idl, assign, "{\"cpus\":\"0-3\",\"owner\":\"nobody\"}", IDL_E_TYPE, "owner");
        assert_check(idl, assign, "{\"cpus\":\"0-3\"}", IDL_E_MISSING_FIELD, "owner");
}

/*
 * What we serve stays in the subset that every parser reads (sd-varlink 257 and 262, libvarlink): comments on
 * lines of their own and only in front of something, one container level, neither 'any' nor inline types,
 * LF. And every member, field and word has its comment.
 */
static void lint_line(const char *line, size_t n, bool after_comment, unsigned number) {
        const char *text = line + strspn(line, " ");
        size_t n_text = n - (size_t)(text - line);
        bool is_comment = *text == '#', is_closing = n_text > 0 && *text == ')';

        if (memchr(line, '\t', n) || memchr(line, '\r', n) || (n > 0 && line[n - 1] == ' ') || n > 120)
                fail_msg("line %u: tab, CR, white space at its end, or too long", number);
        if (!is_comment && memchr(line, '#', n))
                fail_msg("line %u: a comment behind something", number);
        if (after_comment && (n_text == 0 || is_closing))
                fail_msg("line %u: a comment in front of nothing", number);
        if (!is_comment && !is_closing && n_text > 0 && !after_comment)
                fail_msg("line %u: no comment in front of this", number);
        if (!is_comment && (memmem(line, n, "[][", 3) || memmem(line, n, "[]?", 3) ||
                            memmem(line, n, "string][", 8) || memmem(line, n, ": any", 5)))
                fail_msg("line %u: not portable", number);
}

static void test_portable(_unused_ void **state) {
        const char *const texts[] = {idl_io_spebroker_Broker, idl_io_spebroker_Admin};

        for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
                bool after_comment = false;
                unsigned number = 0;

                for (const char *line = texts[i]; *line; line += strcspn(line, "\n") + 1) {
                        size_t n = strcspn(line, "\n");

                        assert_int_equal(line[n], '\n');
                        lint_line(line, n, after_comment, ++number);
                        after_comment = line[strspn(line, " ")] == '#';
                }
                assert_false(after_comment);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_members),      cmocka_unit_test(test_interface_names),
                cmocka_unit_test(test_types),        cmocka_unit_test(test_member_syntax),
                cmocka_unit_test(test_duplicates),   cmocka_unit_test(test_hostile),
                cmocka_unit_test(test_prefixes),     cmocka_unit_test(test_check_simple),
                cmocka_unit_test(test_check_nested), cmocka_unit_test(test_broker),
                cmocka_unit_test(test_admin),        cmocka_unit_test(test_portable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
