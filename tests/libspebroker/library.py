# SPDX-License-Identifier: LGPL-2.1-or-later
"""libspebroker.so through ctypes: one Python object for each of the library's, its accessors as they are named."""

import ctypes
import os
import select
import time

import harness

LIBRARY = ctypes.CDLL(os.environ["SPE_LIBRARY"])
REFUSED, NO_BROKER, DISCONNECTED, OUTCOME_UNKNOWN, TIMEOUT, AGAIN, RECONNECTED, ENDED, NO_LEASE = range(1, 10)
EXCLUSIVE, GUEST, SHARED = range(1, 4)

POINTERS = ("decision_get_offer", "decision_get_counter_offer", "decision_get_refusal", "get_refusal",
            "refusal_get_holder", "checks_get_check", "checks_get_first_failed")
NUMBERS = {"lease_get_pmu_type": ctypes.c_int, "lease_get_vcpus": ctypes.c_uint, "lease_get_interrupt": ctypes.c_int,
           "lease_get_remaining_usec": ctypes.c_int64, "lease_get_since_usec": ctypes.c_int64,
           "lease_get_owner_pid": ctypes.c_int, "lease_get_owner_uid": ctypes.c_int64, "holder_get_pid": ctypes.c_int,
           "holder_get_uid": ctypes.c_int64, "offer_get_pmu_type": ctypes.c_int, "kvm_get_number": ctypes.c_int64,
           "kvm_get_enabled": ctypes.c_int, "kvm_get_bound": ctypes.c_int, "kvm_get_step": ctypes.c_int,
           "kvm_get_errno": ctypes.c_int}
SIZES = ("_size", "_charge", "_bytes")


def function(name):
    f = getattr(LIBRARY, f"spebroker_{name}")
    if name in POINTERS:
        f.restype = ctypes.c_void_p
    elif name in NUMBERS:
        f.restype = NUMBERS[name]
    elif name.endswith(SIZES) and "_get_" in name:
        f.restype = ctypes.c_uint64
    elif "_is_" in name:
        f.restype = ctypes.c_bool
    elif "_get_" in name:
        f.restype = ctypes.c_char_p
    return f


class Object:
    """An opaque pointer and its prefix: lease.cpus is spebroker_lease_get_cpus(lease)."""

    def __init__(self, prefix, pointer, counted=True):
        self.prefix_, self.pointer, self.counted = prefix, ctypes.c_void_p(pointer), counted

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = function(f"{self.prefix_}_{'' if name.startswith('is_') else 'get_'}{name}")(self.pointer)
        return value.decode() if isinstance(value, bytes) else value

    def part(self, kind, name, *index):
        """An object that belongs to this one, or None."""
        pointer = function(f"{self.prefix_}_get_{name}")(self.pointer, *(ctypes.c_size_t(i) for i in index))
        return Object(kind, pointer, counted=False) if pointer else None

    def __del__(self):
        if self.counted:
            getattr(LIBRARY, f"spebroker_{self.prefix_}_unref")(self.pointer)


def request(vcpus=1, **kwargs):
    out = ctypes.c_void_p()
    assert LIBRARY.spebroker_request_new(vcpus, ctypes.byref(out)) == 0
    for name, value in kwargs.items():
        value = value.encode() if isinstance(value, str) else value
        if name == "buffer_size":
            value = ctypes.c_uint64(value)
        r = getattr(LIBRARY, f"spebroker_request_set_{name}")(out, value)
        assert name == "exact" or r == 0, (name, r)
    return Object("request", out.value)


class Context:
    """A context. Calls return (result, object or None)."""

    def __init__(self, path=None, fd=None):
        self.pointer = ctypes.c_void_p()
        self.result = (LIBRARY.spebroker_new_from_fd(fd, ctypes.byref(self.pointer)) if fd is not None else
                       LIBRARY.spebroker_new_from_path(str(path).encode(), ctypes.byref(self.pointer)))

    def __del__(self):
        LIBRARY.spebroker_unref(self.pointer)

    def call(self, name, kind, *arguments):
        out = ctypes.c_void_p()
        r = getattr(LIBRARY, f"spebroker_{name}")(self.pointer, *arguments, ctypes.byref(out))
        return r, Object(kind, out.value) if r == 0 else None

    def query(self, wanted):
        return self.call("query", "decision", wanted.pointer)

    def check_host(self):
        return self.call("check_host", "checks")

    def adopt(self):
        return self.call("adopt", "lease")

    def acquire(self, wanted, wait_usec=0):
        return self.call("acquire", "lease", wanted.pointer, ctypes.c_uint64(wait_usec))

    def update_cpus(self, lease_id, cpus):
        return self.call("update_cpus", "lease", lease_id.encode(), cpus.encode())

    def update_memlock(self, lease_id, missing):
        return self.call("update_memlock", "lease", lease_id.encode(), ctypes.c_uint64(missing))

    def release(self, lease_id):
        return LIBRARY.spebroker_release(self.pointer, lease_id.encode())

    def follow(self, lease_id):
        return LIBRARY.spebroker_follow(self.pointer, lease_id.encode())

    def acquire_and_follow(self, wanted, wait_usec=0):
        return LIBRARY.spebroker_acquire_and_follow(self.pointer, wanted.pointer, ctypes.c_uint64(wait_usec))

    def set_reconnect(self, reconnect):
        return LIBRARY.spebroker_set_reconnect(self.pointer, reconnect)

    @property
    def fd(self):
        return LIBRARY.spebroker_get_fd(self.pointer)

    def set_timeout(self, usec):
        LIBRARY.spebroker_set_timeout(self.pointer, ctypes.c_uint64(usec))

    def process(self, timeout=harness.DEADLINE):
        """Waits as an event loop does."""
        deadline = time.monotonic() + timeout
        while True:
            r, lease = self.call("process", "lease")
            if r != AGAIN:
                return r, lease
            events = select.poll()
            events.register(self.fd, LIBRARY.spebroker_get_events(self.pointer))
            if not events.poll(max(deadline - time.monotonic(), 0) * 1000):
                return r, None

    @property
    def refusal(self):
        pointer = function("get_refusal")(self.pointer)
        return Object("refusal", pointer, counted=False) if pointer else None
