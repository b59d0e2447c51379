# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults for a daemon, by fault-shim.c, which says what a rule is. With a broker of harness or pid1:

    faults = Faults(broker)
    broker.start()
    with faults.injected("renameat:leases/:*:ENOSPC"):
        ...
"""

import collections
import contextlib
import errno
import os
import re
import signal

import harness

SHIM = os.environ.get("SPE_FAULT_SHIM", "")


class Fired(collections.namedtuple("Fired", "rule call subject")):
    """A line of the log: the rule's place among those that were set with it, and what it met."""


class Faults:
    def __init__(self, broker):
        self.broker = broker
        self.directory = broker.root / "faults"
        self.directory.mkdir(exist_ok=True)
        self.rules, self.log = self.directory / "rules", self.directory / "log"
        self.n_rules = 0
        broker.env = broker.env | self.environment()

    def environment(self):
        """For the daemon. A sanitizer wants to be loaded first, which it need not be."""
        preload = {"QEMU_SET_ENV": "LD_PRELOAD=" + SHIM} if harness.EMULATED else {"LD_PRELOAD": SHIM}
        return preload | {
            "SPE_FAULTS": str(self.rules),
            "SPE_FAULTS_LOG": str(self.log),
            "SPE_FAULTS_PROGRAM": "spe-broker",
            "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", ""),
        }

    def set(self, *rules):
        """These rules from now on, instead of any others; the log begins anew."""
        self.clear()
        self.log.write_text("")
        self.n_rules = len(rules)
        new = self.directory / "rules.new"
        new.write_text("".join(rule + "\n" for rule in rules))
        new.rename(self.rules)

    def clear(self):
        """No fault from now on. What fired is still known."""
        self.rules.unlink(missing_ok=True)

    def fired(self):
        """All that has fired since set()."""
        if not self.log.exists():
            return []
        lines = [line.split(" ", 2) for line in self.log.read_text(errors="replace").splitlines()]
        return [Fired(int(rule), call, subject) for rule, call, subject in lines]

    def require(self):
        """A rule that never fired has tested nothing."""
        silent = set(range(self.n_rules)) - {fired.rule for fired in self.fired()}
        if silent:
            raise AssertionError(f"rules {sorted(silent)} never fired")

    @contextlib.contextmanager
    def injected(self, *rules):
        """The rules hold within; each must have fired at the end."""
        self.set(*rules)
        try:
            yield self
        finally:
            self.clear()
        self.require()

    def killed(self):
        """Waits until a rule has killed the daemon; what fired last."""
        code = self.broker.reap(harness.DEADLINE)
        self.clear()
        if code != -signal.SIGKILL:
            raise AssertionError(f"the daemon ended with {code}\n{self.broker.log}")
        return self.fired()[-1]

    def stopped(self):
        """Waits until a rule has stopped the daemon, which proceed() ends."""
        path = f"/proc/{self.broker.process.pid}/stat"

        def is_stopped():
            with open(path) as stat:
                return stat.read().rpartition(")")[2].split()[0] == "T"

        harness.wait_for(is_stopped, "the daemon stops")
        return self.fired()[-1]

    def proceed(self):
        self.clear()
        self.broker.process.send_signal(signal.SIGCONT)


def number(name):
    """Of the errno of this name."""
    return getattr(errno, name)


def descriptors(broker):
    """What the daemon holds open, and how many of each kind: to be compared with what it holds later."""
    found = collections.Counter()
    for entry in os.scandir(f"/proc/{broker.process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of a connection that ends just now
            found[re.sub(r"\d+", "N", os.readlink(entry))] += 1
    return found


def wait_for_descriptors(broker, expected):
    """Waits until it holds those open, and nothing else."""
    try:
        harness.wait_for(lambda: descriptors(broker) == expected, "all else is closed")
    except AssertionError:
        found = descriptors(broker)
        raise AssertionError(f"open: {dict(found - expected)}, not open: {dict(expected - found)}") from None
