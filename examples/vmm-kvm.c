/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A small virtual machine monitor for arm64: takes a lease, gives SPE to its VCPUs, keeps their threads where
 * the lease says, and ends when it is revoked. vmm.c has the lease's side in full.
 *
 *     example-vmm-kvm [SOCKET [VM [CPUS [TICKS]]]]
 *
 * Its guest stores to a device TICKS times (0: for ever), and then switches itself off. Where it cannot have
 * SPE it says why, and runs without. Exit status: 0 done, 1 failed, 77 there is no KVM.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <spebroker/kvm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VCPUS = 2, GUEST_SIZE = 65536, TICK_USEC = 10000, NO_KVM = 77 };
#define GUEST_BASE  0x40000000UL
#define VGIC_DIST   0x08000000UL
#define VGIC_REDIST 0x080a0000UL

#define CORE_REG(name) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.name))

static const uint32_t guest_program[] = {
        0xd2a12001, /*       movz x1, #0x900, lsl #16  where no memory is  */
        0xb9000020, /* loop: str w0, [x1]              a tick, w0 are left */
        0x71000400, /*       subs w0, w0, #1                               */
        0x54ffffc1, /*       b.ne loop                                     */
        0x52800100, /*       movz w0, #8               PSCI's SYSTEM_OFF   */
        0x72b08000, /*       movk w0, #0x8400, lsl #16                     */
        0xd4000002, /*       hvc #0                                        */
};

struct vm {
        struct spebroker *broker;      /* for calls; a stream has a connection of its own */
        struct spebroker_kvm *kvm;     /* both are for one thread at a time: see the lock */
        struct spebroker_lease *lease; /* NULL: without SPE */
        pthread_mutex_t lock;
        int kvm_fd, vm_fd, vgic_fd, vcpu_fds[VCPUS], ended_fd;
        struct kvm_run *runs[VCPUS]; /* they keep the VM alive, as descriptors do */
        size_t run_size;
        pthread_t threads[VCPUS];
        atomic_int n_threads; /* each takes its number from it */
        uint64_t ticks;
        atomic_bool off; /* the guest is */
};

static int try(int r, const char *what) {
        if (r < 0)
                perror(what);
        return r;
}

#define IOCTL(fd, request, argument) try(ioctl(fd, request, argument), #request)

/* What a function of <spebroker/kvm.h> returned. */
static int try_spe(const struct vm *vm, int r) {
        const char *message = spebroker_kvm_get_message(vm->kvm), *advice = spebroker_kvm_get_advice(vm->kvm);

        if (r != 0)
                printf("no SPE: %s %s\n", message ? message : strerror(-r), advice ? advice : "");
        return r;
}

static int set_vgic(int fd, uint32_t group, uint64_t attr, const uint64_t *value) {
        struct kvm_device_attr attribute = {.group = group, .attr = attr, .addr = (uintptr_t)value};

        return IOCTL(fd, KVM_SET_DEVICE_ATTR, &attribute);
}

static int set_register(int fd, uint64_t id, uint64_t value) {
        struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)&value};

        return IOCTL(fd, KVM_SET_ONE_REG, &reg);
}

static int make_memory(int vm_fd) {
        struct kvm_userspace_memory_region slot = {.guest_phys_addr = GUEST_BASE, .memory_size = GUEST_SIZE};
        void *memory = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
                return try(-1, "mmap");
        slot.userspace_addr = (uintptr_t)memcpy(memory, guest_program, sizeof(guest_program));
        return IOCTL(vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
}

static int make_vcpu(struct vm *vm, unsigned long i) {
        int fd = vm->vcpu_fds[i] = IOCTL(vm->vm_fd, KVM_CREATE_VCPU, i);
        struct kvm_vcpu_init init;
        void *run;

        if (fd < 0 || IOCTL(vm->vm_fd, KVM_ARM_PREFERRED_TARGET, &init) < 0)
                return -1;
        init.features[0] |= 1U << KVM_ARM_VCPU_PSCI_0_2;
        if ((vm->lease && try_spe(vm, spebroker_kvm_add_feature(vm->kvm, init.features)) != 0) ||
            IOCTL(fd, KVM_ARM_VCPU_INIT, &init) < 0 || set_register(fd, CORE_REG(pc), GUEST_BASE) < 0 ||
            set_register(fd, CORE_REG(regs[0]), vm->ticks) < 0)
                return -1;
        run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        vm->runs[i] = run == MAP_FAILED ? NULL : run;
        return run == MAP_FAILED ? try(-1, "mmap") : 0;
}

static int make_vgic(struct vm *vm) {
        static const uint64_t dist = VGIC_DIST, redist = VGIC_REDIST;
        struct kvm_create_device vgic = {.type = KVM_DEV_TYPE_ARM_VGIC_V3};
        int fd = vm->vgic_fd = IOCTL(vm->vm_fd, KVM_CREATE_DEVICE, &vgic) < 0 ? -1 : (int)vgic.fd;

        if (fd < 0 || set_vgic(fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &dist) < 0 ||
            set_vgic(fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, &redist) < 0)
                return -1;
        return set_vgic(fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
}

static int check_spe(struct vm *vm) {
        if (spebroker_kvm_new(vm->vm_fd, &vm->kvm) < 0)
                return -1;
        (void)spebroker_kvm_ask_numbers(vm->kvm, vm->broker); /* else the library's own */
        return try_spe(vm, spebroker_kvm_check(vm->kvm, vm->broker));
}

/* In the order of <spebroker/kvm.h>. */
static int make_vm(struct vm *vm) {
        int bits = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE), r;

        vm->vm_fd = IOCTL(vm->kvm_fd, KVM_CREATE_VM, bits > 0 && bits < 40 ? bits : 0);
        if (vm->vm_fd < 0 || make_memory(vm->vm_fd) < 0)
                return -1;
        r = vm->lease ? check_spe(vm) : 0;
        for (unsigned long i = 0; r == 0 && i < VCPUS; i++)
                r = make_vcpu(vm, i);
        r = r ? r : make_vgic(vm);
        for (int i = 0; vm->lease && r == 0 && i < VCPUS; i++)
                r = try_spe(vm, spebroker_kvm_enable(vm->kvm, vm->broker, vm->lease, vm->vcpu_fds[i]));
        return r;
}

/* When it is gone, no VCPU has SPE any more: then the lease can be released. */
static void destroy_vm(struct vm *vm) {
        for (int i = 0; i < VCPUS; i++) {
                if (vm->runs[i])
                        munmap(vm->runs[i], vm->run_size);
                close(vm->vcpu_fds[i]);
        }
        close(vm->vgic_fd);
        close(vm->vm_fd);
        vm->kvm = spebroker_kvm_unref(vm->kvm);
        if (spebroker_release(vm->broker, spebroker_lease_get_id(vm->lease)) == 0)
                printf("released\n");
        vm->lease = spebroker_lease_unref(vm->lease);
}

static void place(pthread_t thread, const struct spebroker_lease *lease) {
        cpu_set_t cpus;

        if (spebroker_lease_get_cpu_set(lease, sizeof(cpus), &cpus) == 0)
                (void)pthread_setaffinity_np(thread, sizeof(cpus), &cpus);
}

/* KVM_EXIT_FAIL_ENTRY: true if the thread was not where its SPU is, and is now. */
static bool comes_back(struct vm *vm, const struct kvm_run *run) {
        uint64_t reason = run->fail_entry.hardware_entry_failure_reason;
        struct spebroker_lease *lease;
        int r = -1;

        pthread_mutex_lock(&vm->lock);
        if (vm->lease)
                r = spebroker_kvm_handle_fail_entry(vm->kvm, vm->broker, reason, run->fail_entry.cpu, &lease);
        if (vm->lease && try_spe(vm, r) == 0) {
                place(pthread_self(), lease);
                spebroker_lease_unref(lease);
        }
        pthread_mutex_unlock(&vm->lock);
        return r == 0;
}

/* Where KVM has SPE there is one exit more, KVM_EXIT_RLIMIT: see spebroker_kvm_handle_rlimit(). */
static bool run_once(struct vm *vm, int i) {
        if (ioctl(vm->vcpu_fds[i], KVM_RUN, 0) < 0)
                return errno == EINTR || try(-1, "KVM_RUN") == 0;
        switch (vm->runs[i]->exit_reason) {
        case KVM_EXIT_MMIO:
                return usleep(TICK_USEC) == 0 || errno == EINTR;
        case KVM_EXIT_SYSTEM_EVENT:
                return vm->off = true;
        case KVM_EXIT_FAIL_ENTRY:
                return comes_back(vm, vm->runs[i]);
        default:
                fprintf(stderr, "KVM_RUN: exit reason %u\n", vm->runs[i]->exit_reason);
                return false;
        }
}

static void *run_vcpu(void *userdata) {
        struct vm *vm = userdata;
        int i = vm->n_threads++;
        char name[16];

        snprintf(name, sizeof(name), "vcpu%d", i); /* by this the broker, and people, know it */
        pthread_setname_np(pthread_self(), name);
        while (!vm->off && run_once(vm, i))
                ;
        eventfd_write(vm->ended_fd, 1);
        return NULL;
}

/* False if the VM has to end: KVM does not take SPE back from it. */
static bool goes_on(const struct vm *vm, const struct spebroker_lease *lease) {
        const char *state = spebroker_lease_get_state(lease), *reason = spebroker_lease_get_reason(lease);

        if (strcmp(state, "granted") != 0 || spebroker_lease_is_restart_required(lease)) {
                printf("%s: %s\n", state, reason ? reason : "");
                return false;
        }
        printf("VCPU threads on CPUs %s\n", spebroker_lease_get_cpus(lease));
        for (int i = 0; i < VCPUS; i++)
                place(vm->threads[i], lease);
        return true;
}

/* Until the guest is off or the lease is over (true), or until something fails. */
static bool follow(const struct vm *vm, struct spebroker *stream) {
        int r = vm->lease ? spebroker_follow(stream, spebroker_lease_get_id(vm->lease)) : 0;

        while (r >= 0 && r != SPEBROKER_REFUSED && r != SPEBROKER_ENDED) {
                int fd = vm->lease ? spebroker_get_fd(stream) : -1;
                struct pollfd fds[] = {{.fd = vm->ended_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
                struct spebroker_lease *lease;

                r = vm->lease ? spebroker_process(stream, &lease) : SPEBROKER_AGAIN;
                if (r == SPEBROKER_AGAIN && (poll(fds, 2, -1) < 0 || fds[0].revents))
                        return vm->off;
                if (r == 0 && !goes_on(vm, lease))
                        return true;
                if (r == 0)
                        spebroker_lease_unref(lease);
        }
        return false;
}

static void take_lease(struct vm *vm, struct spebroker **ret_stream, int argc, char **argv) {
        const char *path = argc > 1 ? argv[1] : SPEBROKER_SOCKET;
        struct spebroker_request *request = NULL;
        int r = spebroker_new_from_path(path, &vm->broker);

        r = r ? r : spebroker_new_from_path(path, ret_stream);
        r = r ? r : spebroker_set_reconnect(vm->broker, true);
        r = r ? r : spebroker_set_reconnect(*ret_stream, true);
        r = r ? r : spebroker_request_new(VCPUS, &request);
        r = r ? r : spebroker_request_set_vm(request, argc > 2 ? argv[2] : "example");
        r = r ? r : spebroker_request_set_cpus(request, argc > 3 ? argv[3] : NULL);
        r = r ? r : spebroker_adopt(vm->broker, &vm->lease); /* from 'speadm run' */
        r = r != SPEBROKER_NO_LEASE ? r : spebroker_acquire(vm->broker, request, 0, &vm->lease);
        if (r == SPEBROKER_REFUSED)
                printf("no SPE: %s\n", spebroker_refusal_get_message(spebroker_get_refusal(vm->broker)));
        else if (r != 0)
                printf("no SPE: %s\n", r < 0 ? strerror(-r) : "no broker answers");
        spebroker_request_unref(request);
}

/* When it returns, the VM ends with the process, and then the lease, which is the process's. */
int main(int argc, char **argv) {
        struct vm vm = {.lock = PTHREAD_MUTEX_INITIALIZER, .vgic_fd = -1, .vcpu_fds = {-1, -1}};
        struct spebroker *stream;
        int r;

        setvbuf(stdout, NULL, _IOLBF, 0);
        vm.ended_fd = eventfd(0, EFD_CLOEXEC);
        vm.kvm_fd = try(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
        if (vm.kvm_fd < 0)
                return NO_KVM;
        vm.run_size = (size_t)ioctl(vm.kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
        vm.ticks = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;

        take_lease(&vm, &stream, argc, argv);
        r = make_vm(&vm);
        if (r != 0 && vm.lease) {
                destroy_vm(&vm); /* some of its VCPUs may have SPE */
                r = make_vm(&vm);
        }
        if (r == 0)
                printf("the guest runs %s SPE\n", vm.lease ? "with" : "without");
        if (r == 0 && vm.lease)
                place(pthread_self(), vm.lease); /* the VCPUs' threads inherit it */
        for (int i = 0; r == 0 && i < VCPUS; i++)
                r = pthread_create(&vm.threads[i], NULL, run_vcpu, &vm);
        return r == 0 && follow(&vm, stream) ? EXIT_SUCCESS : EXIT_FAILURE;
}
