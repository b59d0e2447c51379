/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One VM: its numbers and its accessors. A number that could only be guessed is not known here: what it means
 * to the kernel that is running may be anything.
 */

#include "libspebroker/kvm.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "libspebroker/call.h"
#include "libspebroker/fields.h"

/* The public enum is the table's. */
static_assert((int)SPEBROKER_KVM_NUMBER_CAPABILITY == (int)KVM_NUMBER_CAPABILITY, "");
static_assert((int)SPEBROKER_KVM_NUMBER_FEATURE == (int)KVM_NUMBER_FEATURE, "");
static_assert((int)SPEBROKER_KVM_NUMBER_GROUP == (int)KVM_NUMBER_GROUP, "");
static_assert((int)SPEBROKER_KVM_NUMBER_IRQ == (int)KVM_NUMBER_ATTRIBUTE_IRQ, "");
static_assert((int)SPEBROKER_KVM_NUMBER_SPU == (int)KVM_NUMBER_ATTRIBUTE_SPU, "");
static_assert((int)SPEBROKER_KVM_NUMBER_MAX_BUFFER_SIZE == (int)KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE, "");
static_assert((int)SPEBROKER_KVM_NUMBER_INIT == (int)KVM_NUMBER_ATTRIBUTE_INIT, "");

int spebroker_kvm_new(int vm_fd, struct spebroker_kvm **ret_kvm) {
        int64_t unset[_KVM_NUMBER_MAX];
        struct spebroker_kvm *kvm;

        if (vm_fd < 0)
                return -EBADF;

        kvm = calloc(1, sizeof(*kvm));
        if (!kvm)
                return -ENOMEM;

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++)
                unset[i] = KVM_NUMBER_UNSET;
        kvm->n_ref = 1;
        kvm->vm_fd = vm_fd;
        kvm->numbers = kvm_numbers(unset);
        kvm->asked = kvm->given = (KvmValues){-1, -1, -1};

        *ret_kvm = kvm;
        return 0;
}

struct spebroker_kvm *spebroker_kvm_ref(struct spebroker_kvm *kvm) {
        if (kvm)
                kvm->n_ref++;
        return kvm;
}

struct spebroker_kvm *spebroker_kvm_unref(struct spebroker_kvm *kvm) {
        if (!kvm || --kvm->n_ref > 0)
                return NULL;

        kvm_forget(kvm);
        spebroker_lease_unref(kvm->lease);
        free(kvm->vcpus);
        free(kvm);
        return NULL;
}

int64_t spebroker_kvm_get_number(const struct spebroker_kvm *kvm, enum spebroker_kvm_number number) {
        if ((unsigned)number >= _KVM_NUMBER_MAX || !kvm_number_is_known(&kvm->numbers, (KvmNumber)number))
                return -1;
        return kvm_number(&kvm->numbers, (KvmNumber)number);
}

int spebroker_kvm_set_number(struct spebroker_kvm *kvm, enum spebroker_kvm_number number, int64_t value) {
        uint32_t max = number == SPEBROKER_KVM_NUMBER_FEATURE ? KVM_FEATURE_VALUE_MAX : KVM_NUMBER_VALUE_MAX;

        if ((unsigned)number >= _KVM_NUMBER_MAX || value < -1 || value > max)
                return -EINVAL;

        kvm->numbers.of[number].value = value < 0 ? 0 : (uint32_t)value;
        kvm->numbers.of[number].origin = value < 0 ? KVM_ORIGIN_GUESS : KVM_ORIGIN_CONFIG;
        return 0;
}

typedef struct NumberMembers {
        struct json_object *host;
        struct json_object *numbers;
        const char *name;
        int64_t value;
} NumberMembers;

static const Field parameter_fields[] = {
        FIELD("host", FIELD_OBJECT, NumberMembers, host),
};

static const Field host_fields[] = {
        FIELD_OR_NULL("kvmNumbers", FIELD_ARRAY, NumberMembers, numbers),
};

static const Field number_fields[] = {
        FIELD("name", FIELD_STRING, NumberMembers, name),
        FIELD_RANGE("value", NumberMembers, value, 0, INT64_MAX),
};

/* One of the broker's; a name that is not known here is passed over. */
static int read_number(struct spebroker_kvm *kvm, struct json_object *object) {
        NumberMembers members;
        int r;

        r = fields_read(object, number_fields, ELEMENTS_OF(number_fields), &members);
        if (r < 0)
                return r;

        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++)
                if (strcmp(members.name, kvm_number_to_string(i)) == 0)
                        return spebroker_kvm_set_number(kvm, (enum spebroker_kvm_number)i, members.value) < 0
                                       ? -EPROTO
                                       : 0;
        return 0;
}

int spebroker_kvm_ask_numbers(struct spebroker_kvm *kvm, struct spebroker *context) {
        const Call call = {.method = "io.spebroker.Broker.Describe", .only_asks = true};
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        KvmNumbers before = kvm->numbers;
        NumberMembers members;
        int r;

        r = context_call(context, &call, &reply, NULL);
        if (r != 0)
                return r;

        r = fields_read(reply.parameters, parameter_fields, ELEMENTS_OF(parameter_fields), &members);
        if (r == 0)
                r = fields_read(members.host, host_fields, ELEMENTS_OF(host_fields), &members);
        if (r < 0 || !members.numbers)
                return r;

        for (size_t i = 0, n = json_object_array_length(members.numbers); i < n && r == 0; i++)
                r = read_number(kvm, json_object_array_get_idx(members.numbers, i));
        if (r < 0)
                kvm->numbers = before;
        return r;
}

int spebroker_kvm_get_enabled(const struct spebroker_kvm *kvm, size_t index) {
        for (size_t i = 0; i < kvm->n_vcpus; i++)
                if (kvm->vcpus[i].done == SPEBROKER_KVM_STEP_INIT && index-- == 0)
                        return kvm->vcpus[i].fd;
        return -1;
}

enum spebroker_kvm_bound spebroker_kvm_get_bound(const struct spebroker_kvm *kvm) {
        return kvm->n_enabled > 0 ? kvm->bound : SPEBROKER_KVM_BOUND_NONE;
}

enum spebroker_kvm_step spebroker_kvm_get_step(const struct spebroker_kvm *kvm) {
        return kvm->step;
}

int spebroker_kvm_get_errno(const struct spebroker_kvm *kvm) {
        return kvm->error;
}

const char *spebroker_kvm_get_message(const struct spebroker_kvm *kvm) {
        return kvm->message;
}

const char *spebroker_kvm_get_advice(const struct spebroker_kvm *kvm) {
        return kvm->advice;
}

const char *spebroker_kvm_get_check(const struct spebroker_kvm *kvm) {
        return kvm->check;
}

uint64_t spebroker_kvm_get_nearest_buffer_size(const struct spebroker_kvm *kvm) {
        return kvm->nearest_size;
}
