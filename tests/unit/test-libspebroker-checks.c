/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libspebroker makes of CheckHost's answer, whole or broken. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <spebroker/spebroker.h>

#include "libspebroker/checks.h"

#define OK      "{\"name\":\"cpu\",\"status\":\"ok\",\"reason\":\"It has SPE.\",\"advice\":null}"
#define WARNING "{\"name\":\"btf\",\"status\":\"warning\",\"reason\":\"No BTF.\",\"advice\":null}"
#define FAILED  "{\"name\":\"kpti\",\"status\":\"failed\",\"reason\":\"KPTI is on.\",\"advice\":\"kpti=off\"}"
#define NO_KVM  "{\"name\":\"kvm\",\"status\":\"failed\",\"reason\":\"No KVM.\"}"

static int parse(const char *text, struct spebroker_checks **ret_checks) {
        struct json_object *parameters = json_tokener_parse(text);
        int r;

        assert_non_null(parameters);
        r = checks_new(parameters, ret_checks);
        json_object_put(parameters);
        return r;
}

static void test_checks(_unused_ void **state) {
        _cleanup_(spebroker_checks_unrefp) struct spebroker_checks *checks = NULL;
        const struct spebroker_check *check;

        assert_int_equal(parse("{\"checks\":[" OK "," FAILED "," NO_KVM "],\"new\":1}", &checks), 0);
        check = spebroker_checks_get_check(checks, 0);
        assert_string_equal(spebroker_check_get_name(check), "cpu");
        assert_string_equal(spebroker_check_get_status(check), "ok");
        assert_string_equal(spebroker_check_get_reason(check), "It has SPE.");
        assert_null(spebroker_check_get_advice(check));

        check = spebroker_checks_get_check(checks, 1);
        assert_ptr_equal(spebroker_checks_get_first_failed(checks), check);
        assert_string_equal(spebroker_check_get_name(check), "kpti");
        assert_string_equal(spebroker_check_get_advice(check), "kpti=off");

        assert_null(spebroker_check_get_advice(spebroker_checks_get_check(checks, 2)));
        assert_null(spebroker_checks_get_check(checks, 3));
        assert_null(spebroker_checks_get_check(checks, SIZE_MAX));
}

static void test_none_failed(_unused_ void **state) {
        static const char *const texts[] = {"{\"checks\":[]}", "{\"checks\":[" OK "," WARNING "]}"};

        for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
                _cleanup_(spebroker_checks_unrefp) struct spebroker_checks *checks = NULL;

                assert_int_equal(parse(texts[i], &checks), 0);
                assert_null(spebroker_checks_get_first_failed(checks));
        }
}

static void test_references(_unused_ void **state) {
        struct spebroker_checks *checks = NULL;

        assert_int_equal(parse("{\"checks\":[" OK "]}", &checks), 0);
        assert_ptr_equal(spebroker_checks_ref(checks), checks);
        assert_null(spebroker_checks_unref(checks));
        assert_string_equal(spebroker_check_get_name(spebroker_checks_get_check(checks, 0)), "cpu");
        assert_null(spebroker_checks_unref(checks));
        assert_null(spebroker_checks_ref(NULL));
        assert_null(spebroker_checks_unref(NULL));
}

static void test_broken(_unused_ void **state) {
        static const char *const broken[] = {
                "{}",
                "{\"checks\":null}",
                "{\"checks\":{}}",
                "{\"checks\":[7]}",
                ("{\"checks\":[" OK ",{}]}"),
                "{\"checks\":[{\"name\":\"cpu\",\"status\":\"ok\"}]}",
                "{\"checks\":[{\"name\":\"cpu\",\"status\":1,\"reason\":\"\"}]}",
                "{\"checks\":[{\"name\":\"cpu\",\"status\":\"ok\",\"reason\":\"\",\"advice\":[]}]}",
        };

        for (size_t i = 0; i < ELEMENTS_OF(broken); i++) {
                struct spebroker_checks *checks = NULL;

                assert_int_equal(parse(broken[i], &checks), -EPROTO);
                assert_null(checks);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_checks),
                cmocka_unit_test(test_none_failed),
                cmocka_unit_test(test_references),
                cmocka_unit_test(test_broken),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
