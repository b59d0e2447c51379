/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/kvm-numbers.h"

static const int64_t unset[_KVM_NUMBER_MAX] = {-1, -1, -1, -1, -1, -1, -1};

/* Whatever the header names, the configuration beats it; what it does not say stays. */
static void test_configured(_unused_ void **state) {
        int64_t configured[_KVM_NUMBER_MAX] = {-1, -1, -1, -1, -1, -1, -1};
        KvmNumbers plain = kvm_numbers(unset), numbers;

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++) {
                configured[i] = 1000 + i;
                numbers = kvm_numbers(configured);
                for (KvmNumber k = 0; k < _KVM_NUMBER_MAX; k++) {
                        if (k <= i) {
                                assert_int_equal(kvm_number(&numbers, k), 1000 + k);
                                assert_int_equal(numbers.of[k].origin, KVM_ORIGIN_CONFIG);
                                assert_true(kvm_number_is_known(&numbers, k));
                        } else {
                                assert_int_equal(kvm_number(&numbers, k), kvm_number(&plain, k));
                                assert_int_equal(numbers.of[k].origin, plain.of[k].origin);
                        }
                }
        }
        configured[KVM_NUMBER_ATTRIBUTE_IRQ] = 0; /* a number like any other */
        numbers = kvm_numbers(configured);
        assert_int_equal(kvm_number(&numbers, KVM_NUMBER_ATTRIBUTE_IRQ), 0);
        assert_int_equal(numbers.of[KVM_NUMBER_ATTRIBUTE_IRQ].origin, KVM_ORIGIN_CONFIG);
}

/* One guess makes guesswork of all, but for the attribute that a KVM may do without. */
static void test_known(_unused_ void **state) {
        KvmNumbers numbers;

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++)
                numbers.of[i].origin = i % 2 ? KVM_ORIGIN_HEADER : KVM_ORIGIN_CONFIG;
        assert_true(kvm_numbers_are_known(&numbers));

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++) {
                KvmOrigin was = numbers.of[i].origin;

                numbers.of[i].origin = KVM_ORIGIN_GUESS;
                assert_false(kvm_number_is_known(&numbers, i));
                assert_int_equal(kvm_numbers_are_known(&numbers), i == KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE);
                numbers.of[i].origin = was;
        }
}

/* A guess must at least be no number that is known to mean something else for a VCPU. */
static void test_guesses(_unused_ void **state) {
        KvmNumbers numbers = kvm_numbers(unset);

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++)
                assert_true(kvm_number(&numbers, i) <= KVM_NUMBER_VALUE_MAX);
        assert_in_range(kvm_number(&numbers, KVM_NUMBER_FEATURE), 9, KVM_FEATURE_VALUE_MAX);
        assert_in_range(kvm_number(&numbers, KVM_NUMBER_GROUP), 3, KVM_NUMBER_VALUE_MAX);
        for (KvmNumber i = KVM_NUMBER_ATTRIBUTE_IRQ; i < _KVM_NUMBER_MAX; i++)
                for (KvmNumber k = KVM_NUMBER_ATTRIBUTE_IRQ; k < i; k++)
                        assert_int_not_equal(kvm_number(&numbers, i), kvm_number(&numbers, k));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_configured),
                cmocka_unit_test(test_known),
                cmocka_unit_test(test_guesses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
