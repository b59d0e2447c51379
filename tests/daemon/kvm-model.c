/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A model of KVM with SPE, for tests where no kernel has it: replaces ioctl() (in a test's program, or by
 * LD_PRELOAD) and answers on a regular file named dev/kvm, which says in lines of "KEY NUMBER..." what this
 * KVM is like. It holds what the posted series documents of states, attributes and errnos (KVM SPE v6 12/35,
 * 14/35, 15/35), and api.rst of the rest. It is a model: that a test passes with it is no evidence of what a
 * kernel does.
 *
 *   psci 1             arm64's KVM (else some other architecture's)
 *   version 12         KVM_GET_API_VERSION
 *   ipa 48             KVM_CAP_ARM_VM_IPA_SIZE
 *   capability 300 1   number and value; and below, the other numbers
 *   feature 9, group 3, irq 0, spu 2, max 3, init 1; -1: this KVM does not have it
 *   types 8 9          of the SPUs it knows
 *   vgic 3             the versions that it can: a digit each, 0 for none
 *   memlock N          bytes that a VM's maximum buffer sizes may come to, all VCPUs together
 *   rlimit 1           that are RLIMIT_MEMLOCK's, and what the process has locked counts, too
 *   fail-X E           call X fails with errno E: version, extension, vm, device, vcpu, target, feature,
 *                      has-irq, has-spu, has-max, has-init, set-irq, set-spu, set-max, set-init
 *   once-X E           likewise of a VCPU's attributes, the first time
 *
 * Each VM made leaves one byte in dev/kvm.vms. Objects are memory files, so that nothing is left behind.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/kvm-abi.h"
#include "util/buffer-size.h"

#define DEVICE_SUFFIX "/dev/kvm"
#define OBJECT_NAME   "kvm-model"
#define OBJECT_LINK   "/memfd:" OBJECT_NAME " (deleted)"
#define FIRST_PPI     16
#define LAST_PPI      31
#define DEFAULT_IPA   40
/* Of arm64's <asm/kvm.h>. */
#define VGIC_GROUP_CTRL 4
#define VGIC_CTRL_INIT  0

typedef struct Object {
        enum { OBJECT_VM, OBJECT_VCPU, OBJECT_DEVICE } kind;
        int vm_fd;    /* of a VCPU, and of a vGIC */
        pid_t pid;    /* of the process that made the VM */
        bool has_gic; /* a VM */
        bool gic_is_ready;
        bool has_run;
        bool has_spe; /* a VCPU */
        bool is_initialised;
        unsigned failed; /* bits: the calls that have failed once */
        int irq;         /* a VCPU's, and a VM's: what any VCPU of it has */
        int spu;
        uint64_t max;
        uint64_t charged; /* a VM */
        char text[1024];  /* what dev/kvm said when it was opened */
} Object;

/* Number @i after @key in @text. */
static long setting(const char *text, const char *key, unsigned i, long otherwise) {
        size_t n = strlen(key);

        for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
                char *p = (char *)line + n, *end;

                if (strncmp(line, key, n) != 0 || *p != ' ')
                        continue;
                for (unsigned k = 0; *p == ' '; k++, p = end) {
                        long value = strtol(p, &end, 10);

                        if (end == p)
                                break;
                        if (k == i)
                                return value;
                }
        }
        return otherwise;
}

static int fail(int error) {
        errno = error;
        return -1;
}

/* The errno that the text wants of call @name, or 0. */
static int wanted(const char *text, const char *name) {
        char key[32];

        (void)snprintf(key, sizeof(key), "fail-%s", name);
        return (int)setting(text, key, 0, 0);
}

static int put_object(const Object *object) {
        int fd = memfd_create(OBJECT_NAME, MFD_CLOEXEC);

        return fd >= 0 && write(fd, object, sizeof(*object)) == (ssize_t)sizeof(*object) ? fd : -1;
}

static bool get_object(int fd, Object *object) {
        return pread(fd, object, sizeof(*object), 0) == (ssize_t)sizeof(*object);
}

static int set_object(int fd, const Object *object) {
        return pwrite(fd, object, sizeof(*object), 0) == (ssize_t)sizeof(*object) ? 0 : fail(EIO);
}

static void count_vm(const char *path) {
        char name[4096];
        int fd;

        (void)snprintf(name, sizeof(name), "%.4000s.vms", path);
        fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, "x", 1) != 1)
                abort();
        close(fd);
}

static int create_vm(const char *path, const char *text, unsigned long type) {
        Object vm = {.kind = OBJECT_VM, .pid = getpid(), .spu = -1};
        long ipa = setting(text, "ipa", 0, 48);

        if (wanted(text, "vm"))
                return fail(wanted(text, "vm"));
        if ((type ? (long)type : DEFAULT_IPA) > ipa)
                return fail(EINVAL);
        count_vm(path);
        (void)snprintf(vm.text, sizeof(vm.text), "%s", text);
        return put_object(&vm);
}

/* KVM_CHECK_EXTENSION, of KVM as of a VM. */
static int check_extension(const char *text, long number) {
        if (number == KVM_CAP_ARM_PSCI_0_2)
                return (int)setting(text, "psci", 0, 1);
        if (number == KVM_CAP_ARM_VM_IPA_SIZE)
                return (int)setting(text, "ipa", 0, 48);
        return number == setting(text, "capability", 0, -1) ? (int)setting(text, "capability", 1, 1) : 0;
}

static int device_ioctl(int fd, const char *path, unsigned long request, void *argument) {
        char text[sizeof(((Object *)0)->text)] = "";
        long number = (long)(uintptr_t)argument;

        if (pread(fd, text, sizeof(text) - 1, 0) < 0)
                return -1;
        switch (request) {
        case KVM_GET_API_VERSION:
                return wanted(text, "version") ? fail(wanted(text, "version"))
                                               : (int)setting(text, "version", 0, KVM_API_VERSION);
        case KVM_CHECK_EXTENSION:
                if (wanted(text, "extension"))
                        return fail(wanted(text, "extension"));
                return check_extension(text, number);
        case KVM_CREATE_VM:
                return create_vm(path, text, (uintptr_t)argument);
        default:
                return fail(EINVAL);
        }
}

/* @vgic has a digit for each version. */
static bool has_vgic(long vgic, unsigned version) {
        for (; vgic > 0; vgic /= 10)
                if (vgic % 10 == (long)version)
                        return true;
        return false;
}

static int create_device(int fd, Object *vm, struct kvm_create_device *create) {
        unsigned version = create->type == KVM_DEV_TYPE_ARM_VGIC_V3 ? 3 : 2;
        Object device = {.kind = OBJECT_DEVICE, .vm_fd = fd};
        int made;

        if (wanted(vm->text, "device"))
                return fail(wanted(vm->text, "device"));
        if (!has_vgic(setting(vm->text, "vgic", 0, 3), version))
                return fail(ENODEV);
        made = put_object(&device);
        if (made < 0)
                return -1;
        create->fd = (unsigned)made;
        vm->has_gic = true;
        return set_object(fd, vm);
}

/* A vGIC has attributes of its own, some of them by the numbers of SPE's. */
static int device_attribute(const Object *device, bool set, const struct kvm_device_attr *attribute) {
        Object vm;

        if (!set)
                return 0;
        if (attribute->group != VGIC_GROUP_CTRL || attribute->attr != VGIC_CTRL_INIT)
                return fail(ENXIO);
        if (!get_object(device->vm_fd, &vm))
                return fail(EIO);
        vm.gic_is_ready = true;
        return set_object(device->vm_fd, &vm);
}

static int vm_ioctl(int fd, Object *vm, unsigned long request, void *argument) {
        Object vcpu = {.kind = OBJECT_VCPU, .vm_fd = fd, .spu = -1};

        if (vm->pid != getpid())
                return fail(EIO);
        switch (request) {
        case KVM_CHECK_EXTENSION:
                if (wanted(vm->text, "extension"))
                        return fail(wanted(vm->text, "extension"));
                return check_extension(vm->text, (long)(uintptr_t)argument);
        case KVM_CREATE_DEVICE:
                return create_device(fd, vm, argument);
        case KVM_CREATE_VCPU:
                if (wanted(vm->text, "vcpu"))
                        return fail(wanted(vm->text, "vcpu"));
                memcpy(vcpu.text, vm->text, sizeof(vcpu.text));
                return put_object(&vcpu);
        case KVM_ABI_PREFERRED_TARGET:
                if (wanted(vm->text, "target"))
                        return fail(wanted(vm->text, "target"));
                *(KvmVcpuInit *)argument = (KvmVcpuInit){.target = 5};
                return 0;
        default:
                return fail(EINVAL);
        }
}

static int vcpu_init(int fd, Object *vcpu, const KvmVcpuInit *init) {
        long feature = setting(vcpu->text, "feature", 0, -1);

        if (wanted(vcpu->text, "feature"))
                return fail(wanted(vcpu->text, "feature"));
        if (init->target != 5)
                return fail(EINVAL);
        for (long i = 0; i < 224; i++)
                if (init->features[i / 32] & UINT32_C(1) << (i % 32)) {
                        if (i != feature)
                                return fail(ENOENT); /* 6.12's word */
                        if (setting(vcpu->text, "capability", 1, 1) == 0)
                                return fail(EINVAL);
                        vcpu->has_spe = true;
                }
        return set_object(fd, vcpu);
}

/* --- Attributes: what v6 12/35 to 15/35 and 33/35 say of each in each state; of INIT v5 34/38 --- */

static int set_irq(int fd, Object *vcpu, Object *vm, const int *value) {
        if (vcpu->is_initialised || vcpu->irq)
                return fail(EBUSY);
        if (!value)
                return fail(EFAULT);
        if (!vm->has_gic || *value < FIRST_PPI || *value > LAST_PPI || (vm->irq && vm->irq != *value))
                return fail(EINVAL);
        vcpu->irq = vm->irq = *value;
        return set_object(fd, vcpu);
}

static bool knows_spu(const char *text, int wanted_type) {
        long type;

        for (unsigned i = 0; (type = setting(text, "types", i, -1)) >= 0; i++)
                if (type == wanted_type)
                        return true;
        return false;
}

static int set_spu(int fd, Object *vcpu, Object *vm, const int *value) {
        if (vcpu->is_initialised || vm->has_run)
                return fail(EBUSY);
        if (!value)
                return fail(EFAULT);
        if (vm->spu >= 0 && vm->spu != *value)
                return fail(EINVAL);
        if (!knows_spu(vcpu->text, *value))
                return fail(ENXIO);
        vcpu->spu = vm->spu = *value;
        return set_object(fd, vcpu);
}

/* Bytes that a VM may have in all. */
static uint64_t memlock_of(const char *text) {
        char status[16384] = "";
        struct rlimit limit;
        const char *locked;
        FILE *f;

        if (setting(text, "rlimit", 0, 0) == 0)
                return (uint64_t)setting(text, "memlock", 0, LONG_MAX);

        f = fopen("/proc/self/status", "re");
        if (!f || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || fread(status, 1, sizeof(status) - 1, f) == 0)
                abort();
        fclose(f);
        locked = strstr(status, "VmLck:");
        if (!locked)
                abort();
        return limit.rlim_cur - 1024 * strtoull(locked + strlen("VmLck:"), NULL, 10);
}

static int set_max(int fd, Object *vcpu, Object *vm, const uint64_t *value) {
        if (vm->has_run)
                return fail(EBUSY);
        if (!value)
                return fail(EFAULT);
        if (!buffer_size_is_representable(*value))
                return fail(EDOM);
        if (vm->max && vm->max != *value)
                return fail(EINVAL);
        if (vm->charged + *value > memlock_of(vcpu->text))
                return fail(ENOMEM);
        vm->charged += *value;
        vcpu->max = vm->max = *value;
        return set_object(fd, vcpu);
}

static int set_init(int fd, Object *vcpu, const Object *vm) {
        if (vcpu->is_initialised)
                return fail(EBUSY);
        if (!vcpu->irq || !vm->gic_is_ready)
                return fail(ENXIO);
        vcpu->is_initialised = true;
        return set_object(fd, vcpu);
}

static int set_attribute(int fd, Object *vcpu, unsigned which, void *value) {
        Object vm;
        int r;

        if (!vcpu->has_spe)
                return fail(ENODEV);
        if (!get_object(vcpu->vm_fd, &vm))
                return fail(EIO);
        r = which == 0   ? set_irq(fd, vcpu, &vm, value)
            : which == 1 ? set_spu(fd, vcpu, &vm, value)
            : which == 2 ? set_max(fd, vcpu, &vm, value)
                         : set_init(fd, vcpu, &vm);
        return r == 0 ? set_object(vcpu->vm_fd, &vm) : r;
}

/* The errno that the text wants of this call, the first time or always; or 0. */
static int wanted_of(int fd, Object *vcpu, const char *name, bool set, unsigned which) {
        unsigned bit = 1U << (2 * which + set);
        char call[16], key[32];
        int error;

        (void)snprintf(call, sizeof(call), "%s-%s", set ? "set" : "has", name);
        (void)snprintf(key, sizeof(key), "once-%s", call);
        error = (int)setting(vcpu->text, key, 0, 0);
        if (error && !(vcpu->failed & bit)) {
                vcpu->failed |= bit;
                return set_object(fd, vcpu) == 0 ? error : EIO;
        }
        return wanted(vcpu->text, call);
}

static int vcpu_attribute(int fd, Object *vcpu, bool set, const struct kvm_device_attr *attribute) {
        static const char *const names[] = {"irq", "spu", "max", "init"};
        void *value;

        memcpy(&value, &attribute->addr, sizeof(value)); /* of the caller's, in a u64 */
        if ((long)attribute->group != setting(vcpu->text, "group", 0, -1))
                return fail(ENXIO);
        for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
                int error;

                if ((long)attribute->attr != setting(vcpu->text, names[i], 0, -1))
                        continue;
                error = wanted_of(fd, vcpu, names[i], set, i);
                if (error)
                        return fail(error);
                if (!set)
                        return vcpu->has_spe ? 0 : fail(ENXIO);
                return set_attribute(fd, vcpu, i, value);
        }
        return fail(ENXIO);
}

static int vcpu_run(Object *vcpu) {
        Object vm;

        if (!get_object(vcpu->vm_fd, &vm))
                return fail(EIO);
        if (vcpu->has_spe && !vcpu->is_initialised)
                return fail(EINVAL);
        vm.has_run = true;
        return set_object(vcpu->vm_fd, &vm);
}

static int vcpu_ioctl(int fd, Object *vcpu, unsigned long request, void *argument) {
        Object vm;

        if (!get_object(vcpu->vm_fd, &vm) || vm.pid != getpid())
                return fail(EIO);
        switch (request) {
        case KVM_ABI_VCPU_INIT:
                return vcpu_init(fd, vcpu, argument);
        case KVM_GET_MP_STATE:
                *(struct kvm_mp_state *)argument = (struct kvm_mp_state){.mp_state = KVM_MP_STATE_RUNNABLE};
                return 0;
        case KVM_HAS_DEVICE_ATTR:
        case KVM_SET_DEVICE_ATTR:
                return vcpu_attribute(fd, vcpu, request == KVM_SET_DEVICE_ATTR, argument);
        case KVM_RUN:
                return vcpu_run(vcpu);
        default:
                return fail(EINVAL);
        }
}

static bool ends_with(const char *text, const char *suffix) {
        size_t n = strlen(text), n_suffix = strlen(suffix);

        return n >= n_suffix && strcmp(text + n - n_suffix, suffix) == 0;
}

__attribute__((__visibility__("default"))) int ioctl(int fd, unsigned long request, ...) {
        char link[64], path[4096] = "";
        void *argument;
        struct stat st;
        Object object;
        va_list ap;

        va_start(ap, request);
        argument = va_arg(ap, void *);
        va_end(ap);

        /* A user emulator has another word for it, as it does not know KVM's requests. */
        if (fcntl(fd, F_GETFD) < 0)
                return fail(EBADF);
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof(path) - 1) < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return (int)syscall(SYS_ioctl, fd, request, argument);
        if (ends_with(path, DEVICE_SUFFIX))
                return device_ioctl(fd, path, request, argument);
        if (strcmp(path, OBJECT_LINK) != 0 || !get_object(fd, &object))
                return (int)syscall(SYS_ioctl, fd, request, argument);
        if (object.kind == OBJECT_VM)
                return vm_ioctl(fd, &object, request, argument);
        if (object.kind == OBJECT_VCPU)
                return vcpu_ioctl(fd, &object, request, argument);
        if (request == KVM_HAS_DEVICE_ATTR || request == KVM_SET_DEVICE_ATTR)
                return device_attribute(&object, request == KVM_SET_DEVICE_ATTR, argument);
        return fail(ENOTTY);
}
