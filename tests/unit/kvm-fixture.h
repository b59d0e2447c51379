/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A VM of the model of KVM in tests/daemon/kvm-model.c, made as a VMM makes one, and leases for it. That a
 * test passes with it says that libspebroker does what the posted series documents; it is no evidence of what
 * a kernel does. Include it after cmocka.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/kvm.h>
#include <spebroker/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host/kvm-abi.h"
#include "libspebroker/kvm.h"
#include "libspebroker/lease.h"
#include "tests/unit/tree.h"

/* A kernel that can, and its SPUs. */
#define ABLE    "capability 300 1\nfeature 9\ngroup 3\nirq 0\nspu 2\nmax 3\ninit 1\ntypes 8 9\n"
#define SPU     8
#define SIZE    INT64_C(4194304)
#define LEASE_A "0123456789abcdef0123456789abcdef"
#define LEASE_B "fedcba9876543210fedcba9876543210"

#define VCPUS_MAX 4U

/* Of arm64's <asm/kvm.h>. */
#define VGIC_GROUP_CTRL 4
#define VGIC_CTRL_INIT  0

typedef struct Vm {
        int device_fd;
        int vm_fd;
        int vgic_fd;
        int vcpu_fds[VCPUS_MAX];
        struct spebroker_kvm *kvm;
} Vm;

typedef enum Lacking {
        LACKING_NOTHING,
        LACKING_FEATURE,
        LACKING_VGIC,
        LACKING_VGIC_INIT,
        LACKING_NUMBERS,
} Lacking;

static const int64_t model_numbers[] = {300, 9, 3, 0, 2, 3, 1};

_unused_ static void give_numbers(struct spebroker_kvm *kvm) {
        for (size_t i = 0; i < ELEMENTS_OF(model_numbers); i++)
                assert_int_equal(
                        spebroker_kvm_set_number(kvm, (enum spebroker_kvm_number)i, model_numbers[i]), 0);
}

_unused_ static void init_vcpu(const Vm *vm, int fd, bool with_spe) {
        KvmVcpuInit init;

        assert_int_equal(ioctl(vm->vm_fd, KVM_ABI_PREFERRED_TARGET, &init), 0);
        if (with_spe)
                assert_int_equal(spebroker_kvm_add_feature(vm->kvm, init.features), 0);
        assert_int_equal(ioctl(fd, KVM_ABI_VCPU_INIT, &init), 0);
}

_unused_ static void init_vgic(const Vm *vm) {
        struct kvm_device_attr attr = {.group = VGIC_GROUP_CTRL, .attr = VGIC_CTRL_INIT};

        assert_int_equal(ioctl(vm->vgic_fd, KVM_SET_DEVICE_ATTR, &attr), 0);
}

/* In the order of <spebroker/kvm.h>, but for what is @lacking. */
_unused_ static Vm make_vm(const Tree *tree, const char *text, Lacking lacking) {
        struct kvm_create_device vgic = {.type = KVM_DEV_TYPE_ARM_VGIC_V3};
        Vm vm = {.vgic_fd = -1};

        tree_put(tree, "dev/kvm", text);
        vm.device_fd = openat(tree->fd, "dev/kvm", O_RDWR | O_CLOEXEC);
        assert_true(vm.device_fd >= 0);
        vm.vm_fd = ioctl(vm.device_fd, KVM_CREATE_VM, 0UL);
        assert_true(vm.vm_fd >= 0);

        assert_int_equal(spebroker_kvm_new(vm.vm_fd, &vm.kvm), 0);
        give_numbers(vm.kvm);
        for (unsigned i = 0; i < VCPUS_MAX; i++) {
                vm.vcpu_fds[i] = ioctl(vm.vm_fd, KVM_CREATE_VCPU, (unsigned long)i);
                assert_true(vm.vcpu_fds[i] >= 0);
                init_vcpu(&vm, vm.vcpu_fds[i], lacking != LACKING_FEATURE);
        }
        if (lacking != LACKING_VGIC) {
                assert_int_equal(ioctl(vm.vm_fd, KVM_CREATE_DEVICE, &vgic), 0);
                vm.vgic_fd = (int)vgic.fd;
                if (lacking != LACKING_VGIC_INIT)
                        init_vgic(&vm);
        }
        if (lacking == LACKING_NUMBERS)
                assert_int_equal(spebroker_kvm_set_number(vm.kvm, SPEBROKER_KVM_NUMBER_SPU, -1), 0);
        return vm;
}

_unused_ static void destroy_vm(Vm *vm) {
        spebroker_kvm_unref(vm->kvm);
        for (unsigned i = 0; i < VCPUS_MAX; i++)
                close(vm->vcpu_fds[i]);
        closep(&vm->vgic_fd);
        close(vm->vm_fd);
        close(vm->device_fd);
}

/* A granted one, unless @state says otherwise. */
_unused_ static struct spebroker_lease *make_lease(const char *id, int pmu_type, int64_t size,
                                                   const char *state, bool restart) {
        struct spebroker_lease *lease;
        struct json_object *object;
        char text[1024], type[16];

        (void)snprintf(type, sizeof(type), "%d", pmu_type);
        (void)snprintf(text, sizeof(text),
                       "{\"leaseId\":\"%s\",\"vm\":\"a\",\"vmOrigin\":\"caller\",\"instance\":\"arm_spe_0\","
                       "\"pmuType\":%s,\"cpus\":\"0-3\",\"vcpus\":2,\"bufferSize\":%lld,"
                       "\"requestedBufferSize\":8388608,\"limitedBy\":null,\"charge\":9437184,"
                       "\"memlock\":{\"bytes\":9437184,\"state\":\"applied\"},\"interrupt\":21,"
                       "\"mode\":\"guest\",\"state\":\"%s\",\"reason\":\"so it is\",\"contended\":false,"
                       "\"restartRequired\":%s,\"owner\":{\"pid\":1,\"uid\":0},\"sinceUSec\":1,"
                       "\"remainingUSec\":null}",
                       id, pmu_type < 0 ? "null" : type, (long long)size, state, restart ? "true" : "false");
        object = json_tokener_parse(text);
        assert_non_null(object);
        assert_int_equal(lease_new_listed(object, &lease), 0);
        json_object_put(object);
        return lease;
}

_unused_ static struct spebroker_lease *good_lease(void) {
        return make_lease(LEASE_A, SPU, SIZE, "granted", false);
}

_unused_ static void assert_has(const char *text, const char *part) {
        if (!part) {
                if (text)
                        fail_msg("'%s' is said, and nothing should be", text);
                return;
        }
        if (!text || !strstr(text, part))
                fail_msg("'%s' has no '%s'", text ?: "nothing", part);
}

/* What was said of the last failure. */
_unused_ static void assert_said(const struct spebroker_kvm *kvm, enum spebroker_kvm_step step, int error,
                                 const char *message, const char *advice) {
        assert_int_equal(spebroker_kvm_get_step(kvm), step);
        assert_int_equal(spebroker_kvm_get_errno(kvm), error);
        assert_has(spebroker_kvm_get_message(kvm), message);
        assert_has(spebroker_kvm_get_advice(kvm), advice);
}
