/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * <spebroker/kvm.h> without a broker, against the model of KVM: for each state and attribute that the posted
 * series documents, what is said and done; and what is refused before KVM is asked.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tests/unit/kvm-fixture.h"

static int enable(const Vm *vm, struct spebroker_lease *lease, unsigned vcpu) {
        return spebroker_kvm_enable(vm->kvm, NULL, lease, vm->vcpu_fds[vcpu]);
}

static void test_enable(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);

        assert_int_equal(spebroker_kvm_check(vm.kvm, NULL), 0);
        assert_int_equal(spebroker_kvm_get_bound(vm.kvm), SPEBROKER_KVM_BOUND_NONE);
        assert_int_equal(enable(&vm, lease, 0), 0);
        assert_int_equal(spebroker_kvm_get_bound(vm.kvm), SPEBROKER_KVM_BOUND_KVM);
        assert_int_equal(enable(&vm, lease, 1), 0);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_NONE, 0, NULL, NULL);
        assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 0), vm.vcpu_fds[0]);
        assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 1), vm.vcpu_fds[1]);
        assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 2), -1);
        assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, SIZE_MAX), -1);

        /* The lease is for two. */
        assert_int_equal(enable(&vm, lease, 2), SPEBROKER_KVM_TOO_MANY_VCPUS);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_LEASE, 0, "for 2 VCPUs", "a lease for all VCPUs");
        assert_int_equal(ioctl(vm.vcpu_fds[0], KVM_RUN, 0), 0);
        destroy_vm(&vm);
}

/* The attributes were set, in the order that KVM demands: the model has INIT last, and KVM_RUN after it. */
static void test_order(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);

        assert_int_equal(ioctl(vm.vcpu_fds[0], KVM_RUN, 0), -1);
        assert_int_equal(errno, EINVAL);
        assert_int_equal(enable(&vm, lease, 0), 0);
        assert_int_equal(ioctl(vm.vcpu_fds[0], KVM_RUN, 0), 0);
        destroy_vm(&vm);
}

/* A version of the interface may lack it, or nobody knows its number: RLIMIT_MEMLOCK is what there is. */
static void test_no_maximum(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state,
                        "capability 300 1\nfeature 9\ngroup 3\nirq 0\nspu 2\nmax -1\ninit 1\ntypes 8\n",
                        LACKING_NOTHING);

        assert_int_equal(enable(&vm, lease, 0), 0);
        assert_int_equal(spebroker_kvm_get_bound(vm.kvm), SPEBROKER_KVM_BOUND_MEMLOCK);
        destroy_vm(&vm);

        vm = make_vm(*state, ABLE "fail-set-max 22\nfail-has-max 22\n", LACKING_NOTHING);
        assert_int_equal(spebroker_kvm_set_number(vm.kvm, SPEBROKER_KVM_NUMBER_MAX_BUFFER_SIZE, -1), 0);
        assert_int_equal(enable(&vm, lease, 0), 0);
        assert_int_equal(spebroker_kvm_get_bound(vm.kvm), SPEBROKER_KVM_BOUND_MEMLOCK);
        destroy_vm(&vm);
}

/* --- The table: state and attribute to errno, and what it means --- */

typedef struct Row {
        const char *kvm;
        Lacking lacking;
        int pmu_type;
        int size;
        enum spebroker_kvm_step step;
        int error;
        enum spebroker_kvm_outcome outcome;
        const char *message;
        const char *advice;
} Row;

#define VALUES   SPU, SIZE
#define AT(name) SPEBROKER_KVM_STEP_##name

static const Row rows[] = {
        /* KVM as a whole */
        {"capability 300 0\nfeature 9\ngroup 3\n", LACKING_FEATURE, VALUES, AT(CHECK_EXTENSION), 0,
         SPEBROKER_KVM_UNSUPPORTED, "no SPE to guests: the kernel lacks it", "VHE mode"},
        {ABLE "fail-extension 12\n", LACKING_NOTHING, VALUES, AT(CHECK_EXTENSION), ENOMEM,
         SPEBROKER_KVM_NO_MEMORY, "no memory (KVM_CHECK_EXTENSION of SPE: Cannot allocate", NULL},
        {ABLE, LACKING_NUMBERS, VALUES, AT(NUMBERS), 0, SPEBROKER_KVM_NUMBERS_UNKNOWN,
         "known neither from the kernel header", "section [KVM]"},

        /* has-attr */
        {ABLE, LACKING_FEATURE, VALUES, AT(HAS_IRQ), ENXIO, SPEBROKER_KVM_NO_FEATURE,
         "initialised without SPE", "spebroker_kvm_add_feature()"},
        {ABLE "fail-has-spu 6\n", LACKING_NOTHING, VALUES, AT(HAS_SPU), ENXIO, SPEBROKER_KVM_NO_ATTRIBUTE,
         "lacks the attribute that names the SPU", "section [KVM]"},
        {ABLE "fail-has-init 6\n", LACKING_NOTHING, VALUES, AT(HAS_INIT), ENXIO, SPEBROKER_KVM_NO_ATTRIBUTE,
         "lacks the attribute that enables SPE", "section [KVM]"},
        {ABLE "fail-has-max 22\n", LACKING_NOTHING, VALUES, AT(HAS_MAX_BUFFER_SIZE), EINVAL,
         SPEBROKER_KVM_FAILED, "KVM_HAS_DEVICE_ATTR of the maximum buffer size: Invalid argument.", NULL},

        /* SPE_IRQ: EBUSY initialised, EINVAL number or no vGIC, ENODEV no feature; v4: ENXIO, EBUSY a second
         */
        {ABLE "fail-set-irq 16\n", LACKING_NOTHING, VALUES, AT(IRQ), EBUSY, SPEBROKER_KVM_TOO_LATE,
         "has SPE already, or an interrupt", "before the first one runs"},
        {ABLE, LACKING_VGIC, VALUES, AT(IRQ), EINVAL, SPEBROKER_KVM_NO_VGIC,
         "(KVM_SET_DEVICE_ATTR of SPE's interrupt, 21: Invalid argument)", "vGIC with KVM_CREATE_DEVICE"},
        {ABLE "fail-set-irq 6\n", LACKING_NOTHING, VALUES, AT(IRQ), ENXIO, SPEBROKER_KVM_NO_VGIC,
         "no vGIC in the kernel", "KVM_CREATE_DEVICE"},
        {ABLE "fail-set-irq 19\n", LACKING_NOTHING, VALUES, AT(IRQ), ENODEV, SPEBROKER_KVM_NO_FEATURE,
         "initialised without SPE", "spebroker_kvm_add_feature()"},
        {ABLE "fail-set-irq 14\n", LACKING_NOTHING, VALUES, AT(IRQ), EFAULT, SPEBROKER_KVM_FAILED,
         "cannot read the value", "section [KVM]"},

        /* SPE_SPU: EBUSY VM has run or initialised, EINVAL another set, ENXIO */
        {ABLE "types 8 9\n", LACKING_NOTHING, 10, SIZE, AT(SPU), ENXIO, SPEBROKER_KVM_NO_SPU,
         "no SPU of this PMU type: its driver is not loaded any more, or was loaded again "
         "(KVM_SET_DEVICE_ATTR of the SPU, 10:",
         "restored"},
        {ABLE "fail-set-spu 16\n", LACKING_NOTHING, VALUES, AT(SPU), EBUSY, SPEBROKER_KVM_TOO_LATE,
         "A VCPU of the VM has run, or this one has SPE", "before the first one runs"},
        {ABLE "fail-set-spu 22\n", LACKING_NOTHING, VALUES, AT(SPU), EINVAL, SPEBROKER_KVM_OTHER_VALUE,
         "given another SPU before", "make a new one"},
        {ABLE "fail-set-spu 14\n", LACKING_NOTHING, VALUES, AT(SPU), EFAULT, SPEBROKER_KVM_FAILED,
         "(KVM_SET_DEVICE_ATTR of the SPU, 8: Bad address).", "section [KVM]"},

        /* MAX_BUFFER_SIZE: EBUSY VM has run, EDOM, EINVAL other set, ENOMEM */
        {ABLE "fail-set-max 16\n", LACKING_NOTHING, VALUES, AT(MAX_BUFFER_SIZE), EBUSY,
         SPEBROKER_KVM_TOO_LATE, "A VCPU of the VM has run", "before the first one runs"},
        {ABLE, LACKING_NOTHING, SPU, 8396800, AT(MAX_BUFFER_SIZE), EDOM, SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE,
         "cannot represent this buffer size", "exactly 8388608 bytes, the nearest"},
        {ABLE "fail-set-max 33\n", LACKING_NOTHING, SPU, 8192, AT(MAX_BUFFER_SIZE), EDOM,
         SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE, "maximum buffer size, 8192:", "exactly 4096 bytes"},
        {ABLE "fail-set-max 33\n", LACKING_NOTHING, SPU, 4096, AT(MAX_BUFFER_SIZE), EDOM,
         SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE, "cannot represent", NULL},
        {ABLE "fail-set-max 22\n", LACKING_NOTHING, VALUES, AT(MAX_BUFFER_SIZE), EINVAL,
         SPEBROKER_KVM_OTHER_VALUE, "another maximum buffer size before", "make a new one"},
        {ABLE "memlock 4194303\n", LACKING_NOTHING, VALUES, AT(MAX_BUFFER_SIZE), ENOMEM,
         SPEBROKER_KVM_MEMLOCK, "RLIMIT_MEMLOCK of this process is too low", "memlock bytes"},

        /* SPE_INIT: EBUSY done, ENXIO no IRQ, vGIC not ready, IRQ owned */
        {ABLE, LACKING_VGIC_INIT, VALUES, AT(INIT), ENXIO, SPEBROKER_KVM_NOT_READY,
         "The vGIC is not initialised, or", "KVM_DEV_ARM_VGIC_CTRL_INIT"},
        {ABLE "fail-set-init 16\n", LACKING_NOTHING, VALUES, AT(INIT), EBUSY, SPEBROKER_KVM_TOO_LATE,
         "The VCPU has SPE already", "once on each VCPU"},

        /* The gate, and what nobody has documented */
        {ABLE "fail-set-irq 13\n", LACKING_NOTHING, VALUES, AT(IRQ), EACCES, SPEBROKER_KVM_GATE,
         "gate refuses it", "speadm refusals"},
        {ABLE "fail-set-spu 13\n", LACKING_NOTHING, VALUES, AT(SPU), EACCES, SPEBROKER_KVM_GATE,
         "(KVM_SET_DEVICE_ATTR of the SPU, 8: Permission denied)", "spebroker_request_set_pid()"},
        {ABLE "fail-set-max 13\n", LACKING_NOTHING, VALUES, AT(MAX_BUFFER_SIZE), EACCES, SPEBROKER_KVM_GATE,
         "or for a smaller buffer", "speadm refusals"},
        {ABLE "fail-set-init 13\n", LACKING_NOTHING, VALUES, AT(INIT), EACCES, SPEBROKER_KVM_GATE,
         "gate refuses it", "speadm refusals"},
        {ABLE "fail-set-init 95\n", LACKING_NOTHING, VALUES, AT(INIT), EOPNOTSUPP, SPEBROKER_KVM_FAILED,
         "KVM_SET_DEVICE_ATTR of SPE's INIT: Operation not supported.", NULL},
};

static void test_table(void **state) {
        struct rlimit was, low = {.rlim_cur = 65536};

        assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &was), 0);
        low.rlim_max = was.rlim_max;
        if (low.rlim_max < low.rlim_cur)
                low.rlim_cur = low.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &low), 0);
        for (size_t i = 0; i < ELEMENTS_OF(rows); i++) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease =
                        make_lease(LEASE_A, rows[i].pmu_type, rows[i].size, "granted", false);
                Vm vm = make_vm(*state, rows[i].kvm, rows[i].lacking);
                int r;

                r = enable(&vm, lease, 0);
                if (r != (int)rows[i].outcome)
                        fail_msg("row %zu: %d instead of %d: %s", i, r, (int)rows[i].outcome,
                                 spebroker_kvm_get_message(vm.kvm) ?: "nothing");
                assert_said(vm.kvm, rows[i].step, rows[i].error, rows[i].message, rows[i].advice);
                assert_null(strstr(spebroker_kvm_get_message(vm.kvm), "KVM does not take back"));
                assert_null(spebroker_kvm_get_check(vm.kvm));
                assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 0), -1);
                destroy_vm(&vm);
        }
        assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &was), 0);
}

static void test_nearest_size(void **state) {
        static const struct {
                int64_t size, nearest;
        } sizes[] = {{8396800, 8388608}, {5000, 4096}, {4095, 0}};

        for (size_t i = 0; i < ELEMENTS_OF(sizes); i++) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease =
                        make_lease(LEASE_A, SPU, sizes[i].size, "granted", false);
                Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);

                assert_int_equal(enable(&vm, lease, 0), SPEBROKER_KVM_SIZE_NOT_REPRESENTABLE);
                assert_int_equal(spebroker_kvm_get_nearest_buffer_size(vm.kvm), sizes[i].nearest);

                /* What was set is no obstacle for a lease of that size. */
                if (sizes[i].nearest) {
                        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *other =
                                make_lease(LEASE_B, SPU, sizes[i].nearest, "granted", false);

                        assert_int_equal(enable(&vm, other, 0), 0);
                        assert_int_equal(spebroker_kvm_get_nearest_buffer_size(vm.kvm), 0);
                }
                destroy_vm(&vm);
        }
}

/* ENOMEM where no limit is in the way: nobody can be asked for more. */
static void test_no_memory(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease =
                make_lease(LEASE_A, SPU, 4096, "granted", false);
        Vm vm = make_vm(*state, ABLE "fail-set-max 12\n", LACKING_NOTHING);

        assert_int_equal(enable(&vm, lease, 0), SPEBROKER_KVM_NO_MEMORY);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE, ENOMEM, "RLIMIT_MEMLOCK is not in the way",
                    NULL);
        destroy_vm(&vm);
}

/* Calling again goes on where it failed: what KVM takes once is not given twice. */
static void test_again(void **state) {
        static const char *const once[] = {
                ABLE "once-set-irq 5\n",
                ABLE "once-set-spu 4\n",
                ABLE "once-set-max 4\n",
                ABLE "once-set-init 4\n",
        };

        for (size_t i = 0; i < ELEMENTS_OF(once); i++) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
                Vm vm = make_vm(*state, once[i], LACKING_NOTHING);

                assert_true(enable(&vm, lease, 0) > 0);
                assert_int_equal(spebroker_kvm_get_step(vm.kvm), SPEBROKER_KVM_STEP_IRQ + (i < 3 ? i : 4));
                assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 0), -1);
                assert_int_equal(enable(&vm, lease, 0), 0);
                assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 0), vm.vcpu_fds[0]);
                destroy_vm(&vm);
        }
}

/* The second VCPU fails: which has SPE is said, and that it stays so. */
static void test_half(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE "memlock 4194304\n", LACKING_NOTHING);
        struct rlimit was, low = {.rlim_cur = 65536};
        char text[64];

        assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &was), 0);
        low.rlim_max = was.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &low), 0);
        assert_int_equal(enable(&vm, lease, 0), 0);
        assert_int_equal(enable(&vm, lease, 1), SPEBROKER_KVM_MEMLOCK);
        (void)snprintf(text, sizeof(text), "take back (descriptor %d).", vm.vcpu_fds[0]);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_MAX_BUFFER_SIZE, ENOMEM,
                    "1 of the lease's 2 VCPUs has SPE, which KVM does not take back", "destroy the VM");
        assert_has(spebroker_kvm_get_message(vm.kvm), text);
        assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 0), vm.vcpu_fds[0]);
        assert_int_equal(spebroker_kvm_get_enabled(vm.kvm, 1), -1);
        assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &was), 0);

        /* One VCPU twice. */
        assert_int_equal(enable(&vm, lease, 0), SPEBROKER_KVM_TOO_LATE);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_IRQ, EBUSY, "has SPE already", "once on each VCPU");

        /* A third after the first has run. */
        assert_int_equal(ioctl(vm.vcpu_fds[0], KVM_RUN, 0), 0);
        assert_int_equal(enable(&vm, lease, 2), SPEBROKER_KVM_TOO_LATE);
        assert_said(vm.kvm, SPEBROKER_KVM_STEP_SPU, EBUSY, "A VCPU of the VM has run", "before the first");
        destroy_vm(&vm);
}

/* All VCPUs of a VM get the same, and the first one's lease says what. KVM is not asked. */
static void test_other_lease(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        const struct {
                const char *id;
                int pmu_type;
                int64_t size;
                const char *message;
        } others[] = {
                {LEASE_B, SPU, SIZE, "from lease " LEASE_A ", and this is " LEASE_B},
                {LEASE_A, 9, SIZE, "PMU type 9 now, and the VM was given 8"},
                {LEASE_A, SPU, 8192, "buffers of 8192 bytes, and the VM was given 4194304"},
        };
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);

        assert_int_equal(enable(&vm, lease, 0), 0);
        for (size_t i = 0; i < ELEMENTS_OF(others); i++) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *other =
                        make_lease(others[i].id, others[i].pmu_type, others[i].size, "granted", false);

                assert_int_equal(enable(&vm, other, 1), SPEBROKER_KVM_OTHER_LEASE);
                assert_said(vm.kvm, SPEBROKER_KVM_STEP_LEASE, 0, others[i].message, "destroy the VM");
                assert_has(spebroker_kvm_get_message(vm.kvm), "1 of the lease's 2 VCPUs has SPE");
        }
        assert_int_equal(enable(&vm, lease, 1), 0);
        destroy_vm(&vm);
}

static void test_lease_over(void **state) {
        const struct {
                const char *state;
                int restart;
                int pmu_type;
                int outcome;
                const char *message, *advice;
        } leases[] = {
                {"queued", 0, -1, SPEBROKER_KVM_LEASE_OVER, "is queued: so it is", "Wait until"},
                {"revoking", 0, SPU, SPEBROKER_KVM_LEASE_OVER, "is revoking: so it is", "a new lease"},
                {"revoked", 0, SPU, SPEBROKER_KVM_LEASE_OVER, "is revoked", "a new lease"},
                {"ended", 0, SPU, SPEBROKER_KVM_LEASE_OVER, "is ended", "a new lease"},
                {"granted", 1, SPU, SPEBROKER_KVM_LEASE_OVER, "started again", "a new lease"},
                {"granted", 0, -1, SPEBROKER_KVM_LEASE_WITHOUT_SPU, "no SPU now: so it is", "restored"},
        };
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);

        for (size_t i = 0; i < ELEMENTS_OF(leases); i++) {
                _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *other =
                        make_lease(LEASE_A, leases[i].pmu_type, SIZE, leases[i].state, leases[i].restart);

                assert_int_equal(enable(&vm, other, 0), leases[i].outcome);
                assert_said(vm.kvm, SPEBROKER_KVM_STEP_LEASE, 0, leases[i].message, leases[i].advice);
        }
        assert_int_equal(enable(&vm, lease, 0), 0);
        destroy_vm(&vm);
}

/* Descriptors that are none, and ones that would take the numbers for their own. */
static void test_no_vcpu(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);
        const struct {
                int fd;
                int error;
                const char *message;
        } none[] = {{-1, EBADF, "is not open"},
                    {1000000, EBADF, "is not open"},
                    {vm.vgic_fd, ENOTTY, "is no VCPU's"},
                    {vm.vm_fd, EINVAL, "is the VM's, or KVM's"},
                    {vm.device_fd, EINVAL, "is the VM's, or KVM's"}};

        for (size_t i = 0; i < ELEMENTS_OF(none); i++) {
                assert_int_equal(spebroker_kvm_enable(vm.kvm, NULL, lease, none[i].fd),
                                 SPEBROKER_KVM_NOT_A_VCPU);
                assert_said(vm.kvm, SPEBROKER_KVM_STEP_VCPU, none[i].error, none[i].message,
                            "KVM_CREATE_VCPU");
        }
        assert_int_equal(spebroker_kvm_enable(vm.kvm, NULL, NULL, vm.vcpu_fds[0]), -EINVAL);
        assert_int_equal(enable(&vm, lease, 0), 0);
        destroy_vm(&vm);
}

static void test_no_vm(void **state) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = good_lease();
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);
        const struct {
                int fd;
                int error;
                const char *message;
        } none[] = {{1000000, EBADF, "is not open"},
                    {vm.vgic_fd, ENOTTY, "is no VM's"},
                    {vm.vcpu_fds[0], EINVAL, "is a VCPU's, or another"}};

        for (size_t i = 0; i < ELEMENTS_OF(none); i++) {
                _cleanup_(spebroker_kvm_unrefp) struct spebroker_kvm *kvm = NULL;

                assert_int_equal(spebroker_kvm_new(none[i].fd, &kvm), 0);
                give_numbers(kvm);
                assert_int_equal(spebroker_kvm_check(kvm, NULL), SPEBROKER_KVM_NOT_A_VM);
                assert_said(kvm, SPEBROKER_KVM_STEP_CHECK_EXTENSION, none[i].error, none[i].message,
                            "KVM_CREATE_VM");
                assert_int_equal(spebroker_kvm_enable(kvm, NULL, lease, vm.vcpu_fds[0]),
                                 SPEBROKER_KVM_NOT_A_VM);
        }
        destroy_vm(&vm);
}

static void test_arguments(void **state) {
        static const struct {
                enum spebroker_kvm_number number;
                int value;
                bool good;
        } values[] = {
                {SPEBROKER_KVM_NUMBER_CAPABILITY, 65535, true},
                {SPEBROKER_KVM_NUMBER_CAPABILITY, 65536, false},
                {SPEBROKER_KVM_NUMBER_FEATURE, 223, true},
                {SPEBROKER_KVM_NUMBER_FEATURE, 224, false},
                {SPEBROKER_KVM_NUMBER_GROUP, 0, true},
                {SPEBROKER_KVM_NUMBER_GROUP, -1, true},
                {SPEBROKER_KVM_NUMBER_GROUP, -2, false},
                {(enum spebroker_kvm_number)7, 1, false},
        };
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);
        struct spebroker_kvm *none = NULL;

        assert_int_equal(spebroker_kvm_new(-1, &none), -EBADF);
        assert_null(none);
        assert_null(spebroker_kvm_ref(NULL));
        assert_null(spebroker_kvm_unref(NULL));
        assert_ptr_equal(spebroker_kvm_ref(vm.kvm), vm.kvm);
        assert_null(spebroker_kvm_unref(vm.kvm));

        for (size_t i = 0; i < ELEMENTS_OF(values); i++) {
                int r = spebroker_kvm_set_number(vm.kvm, values[i].number, values[i].value);

                assert_int_equal(r, values[i].good ? 0 : -EINVAL);
                if (values[i].good)
                        assert_int_equal(spebroker_kvm_get_number(vm.kvm, values[i].number), values[i].value);
        }
        assert_int_equal(spebroker_kvm_get_number(vm.kvm, (enum spebroker_kvm_number)7), -1);
        destroy_vm(&vm);
}

/* The bit of a feature lies in one of seven words. */
static void test_feature(void **state) {
        static const uint32_t bits[] = {0, 31, 32, 70, 223};
        Vm vm = make_vm(*state, ABLE, LACKING_NOTHING);

        for (size_t i = 0; i < ELEMENTS_OF(bits); i++) {
                uint32_t features[7] = {0}, expected[7] = {0};

                expected[bits[i] / 32] = UINT32_C(1) << (bits[i] % 32);
                assert_int_equal(spebroker_kvm_set_number(vm.kvm, SPEBROKER_KVM_NUMBER_FEATURE, bits[i]), 0);
                assert_int_equal(spebroker_kvm_add_feature(vm.kvm, features), 0);
                assert_memory_equal(features, expected, sizeof(expected));
        }
        assert_int_equal(spebroker_kvm_set_number(vm.kvm, SPEBROKER_KVM_NUMBER_FEATURE, -1), 0);
        assert_int_equal(spebroker_kvm_add_feature(vm.kvm, (uint32_t[7]){0}), SPEBROKER_KVM_NUMBERS_UNKNOWN);
        destroy_vm(&vm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_enable),       TEST(test_order),      TEST(test_no_maximum), TEST(test_table),
                TEST(test_nearest_size), TEST(test_no_memory),  TEST(test_again),      TEST(test_half),
                TEST(test_other_lease),  TEST(test_lease_over), TEST(test_no_vcpu),    TEST(test_no_vm),
                TEST(test_arguments),    TEST(test_feature),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
