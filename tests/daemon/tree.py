# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the part of a host's file tree that the broker reads, below a directory for --root."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import shutil

AT_FDCWD, RENAME_EXCHANGE = -100, 2
FORMATS = {
    "branch_filter": "config:32",
    "event_filter": "config1:0-63",
    "jitter": "config:16",
    "load_filter": "config:33",
    "min_latency": "config2:0-11",
    "pa_enable": "config:1",
    "pct_enable": "config:2",
    "store_filter": "config:34",
    "ts_enable": "config:0",
}
CAPS = {"arch_inst": "0", "count_size": "12", "ernd": "1", "min_interval": "1024"}


class Tree:
    """A host. Attributes are written as sysfs shows them, with a newline; bytes are written as they are."""

    def __init__(self, root, cpus="0-7", online=None, memory_kib=16 * 1024 * 1024):
        self.root = pathlib.Path(root)
        self.generation = 0
        self.devices = self.root / "sys/bus/event_source/devices"
        self.devices.mkdir(parents=True, exist_ok=True)
        self.write("sys/devices/system/cpu/possible", cpus)
        self.write("sys/devices/system/cpu/present", cpus)
        self.online(cpus if online is None else online)
        self.write("proc/meminfo", f"MemTotal:       {memory_kib} kB\nMemFree:        {memory_kib // 2} kB")

    def write(self, path, text):
        """Replaces a file (or whatever is there) whole, so that a scan never sees half of it."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        beside = target.with_name(f".{target.name}.new")
        beside.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
        beside.rename(target)
        return target

    def remove(self, path):
        target = self.root / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def online(self, cpus):
        self.write("sys/devices/system/cpu/online", cpus)

    def instance(self, name, cpus, type=8, caps=None, formats=None, max_buff_size=None, link=True):
        """One SPU. As in sysfs, the entry under bus/ is a link to the device; it is set when the device is
        whole, since the broker looks whenever it likes."""
        if isinstance(name, int):
            name = f"arm_spe_{name}"
        self.generation += 1
        directory = f"sys/devices/platform/{name}-device.{self.generation}/{name}" if link else self.path(name)
        values = dict(CAPS if caps is None else caps)
        if max_buff_size is not None:
            values["max_buff_size"] = str(max_buff_size)
        self.remove(directory)
        if type is not None:
            self.write(f"{directory}/type", type)
        if cpus is not None:
            self.write(f"{directory}/cpumask", cpus)
        for key, value in values.items():
            self.write(f"{directory}/caps/{key}", value)
        for key, value in (FORMATS if formats is None else formats).items():
            self.write(f"{directory}/format/{key}", value)
        self.write(f"{directory}/perf_event_mux_interval_ms", "4")
        if link:
            beside = self.root / "new-link"
            beside.symlink_to(os.path.relpath(self.root / directory, self.devices))
            os.replace(beside, self.devices / name)
        return self

    @contextlib.contextmanager
    def at_once(self):
        """What is done to instances in it is seen as one change."""
        shown, self.devices = self.devices, self.devices.with_name("devices.new")
        shutil.copytree(shown, self.devices, symlinks=True)
        yield self
        fresh, self.devices = self.devices, shown
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(AT_FDCWD, bytes(fresh), AT_FDCWD, bytes(shown), RENAME_EXCHANGE):
            raise OSError(ctypes.get_errno(), "renameat2")
        shutil.rmtree(fresh)

    def path(self, name, *attribute):
        """Below root: the path of an instance, or of an attribute of it."""
        if isinstance(name, int):
            name = f"arm_spe_{name}"
        return "/".join(("sys/bus/event_source/devices", name) + attribute)

    def remove_instance(self, name):
        if isinstance(name, int):
            name = f"arm_spe_{name}"
        (self.devices / name).unlink(missing_ok=True)

    def module(self, loaded=True):
        """The driver as a module."""
        self.write("sys/module/arm_spe_pmu/initstate", "live")
        self.write("sys/module/arm_spe_pmu/refcnt", "0")


def big_little(root):
    """Two SPUs: arm_spe_0 on CPUs 0-3, arm_spe_1 on CPUs 4-11."""
    tree = Tree(root, "0-11")
    tree.instance(0, "0-3", type=8)
    tree.instance(1, "4-11", type=9)
    return tree


def one_spu(root, cpus="0-7", **kwargs):
    return Tree(root, cpus).instance(0, cpus, **kwargs)


PERF_TYPE_SOFTWARE = 1
turns = []


def software(root):
    """One SPU on this machine's CPUs, for which its PMU for software events stands: real sessions can be opened on it.
    Waits until no other test has it, as sessions would be in the way of each other's leases; and has it until this
    process ends."""
    if not turns:
        turns.append(open("/sys/bus/event_source/devices/software/type", encoding="ascii"))
        fcntl.flock(turns[0], fcntl.LOCK_EX)
    last = os.cpu_count() - 1
    cpus = f"0-{last}" if last > 0 else "0"
    return Tree(root, cpus).instance(0, cpus, type=PERF_TYPE_SOFTWARE)
