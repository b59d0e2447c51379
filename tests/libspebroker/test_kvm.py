# SPDX-License-Identifier: LGPL-2.1-or-later
"""A virtual machine monitor that gives SPE to its VCPUs by <spebroker/kvm.h>, with the real daemon. Its KVM is the model of
tests/daemon/kvm-model.c, for it as for the daemon: what it answers is no evidence of what a kernel does."""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import struct
import sys

import harness
import kvm as model

if os.environ["SPE_SANITIZE"]:
    print("a sanitized library cannot be loaded into Python")
    sys.exit(77)

if harness.EMULATED:
    print("another machine's library cannot be loaded into Python")
    sys.exit(77)

if os.environ.get("LD_PRELOAD") != model.MODEL:
    os.execve(sys.executable, [sys.executable, "-B", *sys.argv], os.environ | {"LD_PRELOAD": model.MODEL})

import tree  # noqa: E402
from library import LIBRARY, Context, Object, function, request  # noqa: E402

(NUMBERS_UNKNOWN, UNSUPPORTED, NO_ATTRIBUTE, NOT_A_VM, NOT_A_VCPU, OTHER_PROCESS, NO_FEATURE, NO_VGIC, NOT_READY, NO_SPU,
 OTHER_VALUE, OTHER_LEASE, LEASE_OVER, LEASE_WITHOUT_SPU, TOO_MANY_VCPUS, SIZE_NOT_REPRESENTABLE, MEMLOCK, NO_MEMORY,
 GATE, TOO_LATE, NOT_SPE, CPU_REFUSED, NO_ANSWER, FAILED) = range(1, 25)
BOUND_NONE, BOUND_KVM, BOUND_MEMLOCK = range(3)
STEP_MAX, STEP_UPDATE = 11, 12

KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_RUN = 0xae01, 0xae41, 0xae80
KVM_CREATE_DEVICE, KVM_SET_DEVICE_ATTR = 0xc00caee0, 0x4018aee1
KVM_ARM_VCPU_INIT, KVM_ARM_PREFERRED_TARGET = 0x4020aeae, 0x8020aeaf
VGIC_V3, VGIC_GROUP_CTRL, VGIC_CTRL_INIT = 7, 4, 0
CPU_UNSUPPORTED = 1
HOUR = 3600 * 1000 * 1000
KIB, MIB = 1024, 1024 * 1024
BASE = 64 * KIB


class Vm:
    """As <spebroker/kvm.h> says, up to the VCPUs' SPE."""

    def __init__(self, test, broker, context, vcpus=2):
        self.fds = []
        test.addCleanup(self.destroy)
        self.fd = self.keep(fcntl.ioctl(self.keep(os.open(broker.tree.root / "dev/kvm", os.O_RDWR)), KVM_CREATE_VM, 0))
        out = ctypes.c_void_p()
        test.assertEqual(LIBRARY.spebroker_kvm_new(self.fd, ctypes.byref(out)), 0)
        self.kvm = Object("kvm", out.value)
        test.assertEqual(LIBRARY.spebroker_kvm_ask_numbers(self.kvm.pointer, context.pointer), 0)
        self.vcpus = [self.make_vcpu(i) for i in range(vcpus)]
        vgic = bytearray(struct.pack("III", VGIC_V3, 0, 0))
        fcntl.ioctl(self.fd, KVM_CREATE_DEVICE, vgic)
        vgic = self.keep(struct.unpack("III", vgic)[1])
        fcntl.ioctl(vgic, KVM_SET_DEVICE_ATTR, struct.pack("IIQQ", 0, VGIC_GROUP_CTRL, VGIC_CTRL_INIT, 0))

    def keep(self, fd):
        self.fds.append(fd)
        return fd

    def make_vcpu(self, index):
        fd = self.keep(fcntl.ioctl(self.fd, KVM_CREATE_VCPU, index))
        init = bytearray(32)
        fcntl.ioctl(self.fd, KVM_ARM_PREFERRED_TARGET, init)
        features = (ctypes.c_uint32 * 7).from_buffer(init, 4)
        LIBRARY.spebroker_kvm_add_feature(self.kvm.pointer, features)
        del features
        fcntl.ioctl(fd, KVM_ARM_VCPU_INIT, init)
        return fd

    def check(self, context):
        return LIBRARY.spebroker_kvm_check(self.kvm.pointer, context.pointer)

    def enable(self, context, lease, vcpu):
        return LIBRARY.spebroker_kvm_enable(self.kvm.pointer, context.pointer, lease.pointer, vcpu)

    def fail_entry(self, context, cpu):
        out = ctypes.c_void_p()
        r = LIBRARY.spebroker_kvm_handle_fail_entry(self.kvm.pointer, context.pointer, ctypes.c_uint64(CPU_UNSUPPORTED),
                                                    cpu, ctypes.byref(out))
        return r, Object("lease", out.value) if r == 0 else None

    def rlimit(self, context, missing):
        return LIBRARY.spebroker_kvm_handle_rlimit(self.kvm.pointer, context.pointer, ctypes.c_uint64(missing), None)

    def enabled(self):
        found = []
        while (fd := function("kvm_get_enabled")(self.kvm.pointer, ctypes.c_size_t(len(found)))) >= 0:
            found.append(fd)
        return found

    def destroy(self):
        while self.fds:
            os.close(self.fds.pop())


class TestKvm(harness.TestCase):
    def host(self, more="", config=model.NUMBERS, types=(8, 9)):
        def write(root):
            host = tree.Tree(root, "0-7")
            host.instance(0, "0-3", type=8)
            host.instance(1, "4-7", type=9)
            model.write(host, types, more)
            return host

        return self.broker(tree=write, config=config)

    def start(self, *arguments, **kwargs):
        broker = self.host(*arguments, **kwargs)
        context = Context(path=broker.socket_path)
        self.assertEqual(context.result, 0)
        return broker, context

    def acquire(self, context, vcpus=2, **kwargs):
        r, lease = context.acquire(request(vcpus, **({"vm": "web", "cpus": "0-3"} | kwargs)))
        self.assertEqual(r, 0, context.refusal and context.refusal.message)
        return lease

    def in_child(self, act):
        """What a fork of this process finds: True, or False."""
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os._exit(0 if act() else 1)
            os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def test_life(self):
        broker, context = self.start()
        lease = self.acquire(context)
        vm = Vm(self, broker, context)
        self.assertEqual(vm.check(context), 0)
        for vcpu in vm.vcpus:
            self.assertEqual(vm.enable(context, lease, vcpu), 0, vm.kvm.message)
        self.assertEqual((vm.enabled(), vm.kvm.bound, vm.kvm.message), (vm.vcpus, BOUND_KVM, None))
        for vcpu in vm.vcpus:
            fcntl.ioctl(vcpu, KVM_RUN, 0)
        vm.destroy()
        self.assertEqual(context.release(lease.id), 0)
        self.assert_idle(broker)

    def test_numbers_unknown(self):
        broker, context = self.start(config="")
        vm = Vm(self, broker, context, vcpus=0)
        if function("kvm_get_number")(vm.kvm.pointer, 0) >= 0:
            self.skipTest("this machine's kernel header has the numbers")
        self.assertEqual(vm.check(context), NUMBERS_UNKNOWN)
        self.assertIn("known neither from the kernel header", vm.kvm.message)

    def test_moved_meanwhile(self):
        """KVM_EXIT_FAIL_ENTRY: the CPUs that are right now, and none if the lease is over."""
        broker, context = self.start()
        lease = self.acquire(context)
        vm = Vm(self, broker, context)
        self.assertEqual(vm.enable(context, lease, vm.vcpus[0]), 0)
        r, now = vm.fail_entry(context, 7)
        self.assertEqual((r, now and now.cpus), (0, "0-3"))
        broker.call("Assign", cpus="2-3", owner="host", runtime=True)
        r, now = vm.fail_entry(context, 3)
        self.assertEqual((r, now and now.cpus), (0, "0-1"))
        self.assertEqual(vm.fail_entry(context, 1)[0], CPU_REFUSED)
        broker.call("Revoke", leaseId=lease.id, graceUSec=HOUR, reason="maintenance")
        self.assertEqual(vm.fail_entry(context, 3)[0], LEASE_OVER)
        self.assertRegex(vm.kvm.message, "The lease is revoking: .*maintenance")
        vm.destroy()
        self.assertEqual(context.release(lease.id), 0)
        self.assertEqual(vm.fail_entry(context, 3)[0], LEASE_OVER)
        self.assertIn(f"no lease {lease.id} any more", vm.kvm.message)

    def test_lease_ended(self):
        """As it was last told, and where only the broker knows."""
        broker, context = self.start("once-set-max 12\n")
        lease = self.acquire(context)
        vm = Vm(self, broker, context)
        self.limit(BASE)
        self.assertEqual(context.release(lease.id), 0)
        self.assertEqual(vm.enable(context, lease, vm.vcpus[0]), LEASE_OVER)
        self.assertEqual(vm.kvm.step, STEP_UPDATE)
        self.assertIn(lease.id, vm.kvm.message)

        stream = Context(path=broker.socket_path)
        lease = self.acquire(context)
        self.assertEqual(stream.follow(lease.id), 0)
        self.assertEqual(stream.process()[0], 0)
        broker.call("Revoke", leaseId=lease.id, graceUSec=HOUR, reason="maintenance")
        _, revoking = stream.process()
        self.assertEqual(vm.enable(context, revoking, vm.vcpus[0]), LEASE_OVER)
        self.assertRegex(vm.kvm.message, "The lease is revoking: .*maintenance")

    def test_driver_loaded_again(self):
        """Between two VCPUs: one of them has an SPU that is none any more."""
        broker, context = self.start()
        lease = self.acquire(context)
        vm = Vm(self, broker, context)
        self.assertEqual(vm.enable(context, lease, vm.vcpus[0]), 0)
        broker.tree.instance(0, "0-3", type=33)
        broker.call("Rescan")
        # The broker has not seen this VM lock anything, so the lease goes on with what is there now.
        stream = Context(path=broker.socket_path)
        self.assertEqual(stream.follow(lease.id), 0)
        r, now = stream.process()
        self.assertEqual((r, now.state, now.pmu_type), (0, "granted", 33))
        for outcome in (vm.enable(context, now, vm.vcpus[1]), vm.fail_entry(context, 7)[0]):
            self.assertEqual(outcome, OTHER_LEASE)
            self.assertIn("PMU type 33 now, and the VM was given 8", vm.kvm.message)
        self.assertEqual(vm.enabled(), vm.vcpus[:1])

    def test_half(self):
        """The second VCPU fails: which one has SPE is said, the VM is destroyed, and the lease released then."""
        broker, context = self.start("fail-set-max 12\n")
        lease = self.acquire(context)
        vm = Vm(self, broker, context)
        LIBRARY.spebroker_kvm_set_number(vm.kvm.pointer, 5, ctypes.c_int64(-1))
        self.assertEqual(vm.enable(context, lease, vm.vcpus[0]), 0)
        self.assertEqual(vm.kvm.bound, BOUND_MEMLOCK)
        os.close(vm.fds.pop(vm.fds.index(vm.vcpus[1])))
        self.assertEqual(vm.enable(context, lease, vm.vcpus[1]), NOT_A_VCPU)
        self.assertIn(f"1 of the lease's 2 VCPUs has SPE, which KVM does not take back (descriptor {vm.vcpus[0]}).",
                      vm.kvm.message)
        self.assertIn("destroy the VM, and release the lease then", vm.kvm.advice)
        self.assertEqual((vm.kvm.errno, vm.enabled()), (errno.EBADF, vm.vcpus[:1]))
        vm.destroy()
        self.assertEqual(context.release(lease.id), 0)
        self.assert_idle(broker)

    def test_fork(self):
        """A VMM that forks between the lease and the VM: the lease stays its own, and the child is told."""
        broker, context = self.start()
        lease = self.acquire(context)
        vm = Vm(self, broker, context)
        self.assertTrue(self.in_child(lambda: vm.enable(context, lease, vm.vcpus[0]) == OTHER_PROCESS and
                                      "was forked from the one that connected" in vm.kvm.message))

        def with_its_own_connection():
            """The VM is still its parent's."""
            own = Context(path=broker.socket_path)
            return vm.enable(own, lease, vm.vcpus[0]) == OTHER_PROCESS and vm.kvm.errno == errno.EIO

        self.assertTrue(self.in_child(with_its_own_connection))
        self.assertEqual(broker.lease(lease.id)["state"], "granted")
        self.assertEqual(vm.enable(context, lease, vm.vcpus[0]), 0)

    def test_connection_passed_on(self):
        """What a child acquires on its parent's connection is the parent's, and stays when the child is gone."""
        broker, context = self.start()
        pid = os.getpid()

        def acquire():
            own = Context(fd=os.dup(context.fd))
            _, lease = own.acquire(request(2, vm="web", cpus="0-3"))
            return lease.owner_pid == pid and os.getpid() != pid

        self.assertTrue(self.in_child(acquire))
        lease = broker.call("ListLeases")["leases"][0]
        self.assertEqual(lease["owner"]["pid"], pid)
        self.assertEqual(context.release(lease["leaseId"]), 0)
        self.assert_idle(broker)

    # --- Memory that is really locked, and a limit that is really raised ---

    def limit(self, soft):
        """The soft limit for the rest of the test; the hard one is left alone."""
        was = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_MEMLOCK, was)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, was[1]))

    def test_memlock(self):
        """The VMM has locked more than it was thought to: what is missing is asked for, and charged, once."""
        self.limit(BASE)
        broker, context = self.start("rlimit 1\n", config=model.NUMBERS + "[Memlock]\nManage=yes\n")
        lease = self.acquire(context, vcpus=1)
        if lease.memlock_state != "applied":
            self.skipTest(f"RLIMIT_MEMLOCK is not the broker's to raise here: {lease.memlock_state}")
        vm = Vm(self, broker, context)
        locked = harness.lock_memory(MIB)
        soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        self.assertEqual(soft, BASE + lease.charge)
        missing = MIB + lease.buffer_size - soft
        self.assertEqual(vm.enable(context, lease, vm.vcpus[0]), 0, vm.kvm.message)
        self.assertEqual(broker.lease(lease.id)["charge"], lease.charge + missing)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0], soft + missing)

        # KVM_EXIT_RLIMIT: the same, by the number that KVM says.
        self.assertEqual(vm.rlimit(context, 8 * KIB), 0)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0], soft + missing + 8 * KIB)
        self.assertEqual(vm.rlimit(context, 1 << 40), MEMLOCK)
        self.assertIn("gives no more memory to lock", vm.kvm.message)
        del locked

    def test_memlock_unmanaged(self):
        """The broker is asked, charges, and raises nothing: said, and only once."""
        self.limit(BASE)
        broker, context = self.start("rlimit 1\n")
        lease = self.acquire(context, buffer_size=MIB)
        vm = Vm(self, broker, context)
        self.assertEqual(vm.enable(context, lease, vm.vcpus[0]), MEMLOCK)
        self.assertEqual((vm.kvm.step, vm.kvm.errno), (STEP_MAX, errno.ENOMEM))
        missing = lease.buffer_size - BASE
        self.assertIn(f"asked for {missing} bytes more; it says of the limit: unmanaged.", vm.kvm.message)
        self.assertEqual(broker.lease(lease.id)["charge"], lease.charge + missing)
        self.assertEqual(vm.rlimit(context, 4096), NOT_SPE)

        # Raised by somebody else, it goes on.
        self.limit(4 * MIB)
        for vcpu in vm.vcpus:
            self.assertEqual(vm.enable(context, lease, vcpu), 0, vm.kvm.message)


if __name__ == "__main__":
    harness.main()
