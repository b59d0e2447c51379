/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table as the header fills it, with the configuration laid over it.
 */

#include "util/kvm-numbers.h"

#include "util/kvm-uapi.h"

#define ROW(name)                                        \
        [KVM_NUMBER_##name] = {.value = KVM_UAPI_##name, \
                               .origin = KVM_UAPI_##name##_NAMED ? KVM_ORIGIN_HEADER : KVM_ORIGIN_GUESS}

static const KvmNumbers built_in = {
        .of =
                {
                        ROW(CAPABILITY),
                        ROW(FEATURE),
                        ROW(GROUP),
                        ROW(ATTRIBUTE_IRQ),
                        ROW(ATTRIBUTE_SPU),
                        ROW(ATTRIBUTE_MAX_BUFFER_SIZE),
                        ROW(ATTRIBUTE_INIT),
                },
};

static const char *const number_names[_KVM_NUMBER_MAX] = {
        [KVM_NUMBER_CAPABILITY] = "Capability",
        [KVM_NUMBER_FEATURE] = "Feature",
        [KVM_NUMBER_GROUP] = "Group",
        [KVM_NUMBER_ATTRIBUTE_IRQ] = "AttributeIrq",
        [KVM_NUMBER_ATTRIBUTE_SPU] = "AttributeSpu",
        [KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE] = "AttributeMaxBufferSize",
        [KVM_NUMBER_ATTRIBUTE_INIT] = "AttributeInit",
};

const char *kvm_number_to_string(KvmNumber number) {
        return number_names[number];
}

const char *kvm_origin_to_string(KvmOrigin origin) {
        static const char *const names[] = {
                [KVM_ORIGIN_GUESS] = "guess",
                [KVM_ORIGIN_HEADER] = "header",
                [KVM_ORIGIN_CONFIG] = "config",
        };

        return names[origin];
}

KvmNumbers kvm_numbers(const int64_t configured[static _KVM_NUMBER_MAX]) {
        KvmNumbers numbers = built_in;

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++)
                if (configured[i] != KVM_NUMBER_UNSET) {
                        numbers.of[i].value = (uint32_t)configured[i];
                        numbers.of[i].origin = KVM_ORIGIN_CONFIG;
                }
        return numbers;
}

bool kvm_numbers_are_known(const KvmNumbers *numbers) {
        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++)
                if (i != KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE && !kvm_number_is_known(numbers, i))
                        return false;
        return true;
}
