# SPDX-License-Identifier: LGPL-2.1-or-later
"""The booted system that a test runs in: its units, its journal, its users. As root, in a VM that is thrown away."""

import json
import os
import pathlib
import pwd
import subprocess
import time

SERVICE, SOCKET = "spe-broker.service", "spe-broker.socket"
RUNTIME, STATE, CONFIGURATION = map(pathlib.Path, ("/run/spe-broker", "/var/lib/spe-broker", "/etc/spe-broker"))
ADDRESS = RUNTIME / "io.spebroker.Broker"
REGISTRY = pathlib.Path("/run/varlink/registry")
DROP_INS = pathlib.Path(f"/run/systemd/system/{SERVICE}.d")
# Emulated processors are slow, and several machines may share the real ones.
DEADLINE = 300
NOBODY, NOGROUP = 65534, 65534



class Failed(AssertionError):
    """A command did not do what it should; the message has its output."""


def run(*command, status=0, **options):
    """A command's output, both streams of it; it must exit with that status (None: any)."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=DEADLINE, check=False, **options)
    if status is not None and done.returncode != status:
        raise Failed(f"{' '.join(map(str, command))}: exit status {done.returncode}, not {status}\n{done.stdout}")
    return done.stdout


def as_user(*command, groups=()):
    """The command, as nobody, and a member of these groups besides."""
    supplementary = ["--groups", ",".join(groups)] if groups else ["--clear-groups"]
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOGROUP), *supplementary, *command]


def systemctl(*arguments, status=0):
    return run("systemctl", "--no-pager", *arguments, status=status)


def show(name, unit=SERVICE):
    """A property of a unit, as text."""
    return systemctl("show", f"--property={name}", "--value", unit).strip()


def properties(*names, unit=SERVICE):
    """Several of them, at the price of one."""
    lines = systemctl("show", f"--property={','.join(names)}", unit).splitlines()
    return dict(line.split("=", 1) for line in lines)


def main_pid():
    return int(show("MainPID"))


def control_group_processes():
    return pathlib.Path(f"/sys/fs/cgroup{show('ControlGroup')}/cgroup.procs")


def user():
    return pwd.getpwnam("spe-broker")


def wait_until(condition, what):
    """Looks until it is true; for what tells nobody when it happens."""
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {DEADLINE} s: {what}\n{systemctl('status', SERVICE, status=None)}")
        time.sleep(0.05)
    return result


class Journal:
    """What has been logged since this was made, with these fields."""

    def __init__(self, **fields):
        self.fields = fields or {"_SYSTEMD_UNIT": SERVICE}
        run("journalctl", "--sync")
        self.begin = time.time()

    def entries(self, **fields):
        run("journalctl", "--sync")
        text = run("journalctl", "--output=json", f"--since=@{self.begin:.6f}", "--all")
        entries = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [entry for entry in entries if (self.fields | fields).items() <= entry.items()]

    def messages(self):
        return [entry["MESSAGE"] for entry in self.entries()]

    def wait(self, text):
        """The first entry with this text in its message."""
        return wait_until(lambda: next((e for e in self.entries() if text in e["MESSAGE"]), None), f"'{text}' logged")


def drop_in(name, *lines):
    """More lines for [Service] until the machine ends, or remove_drop_in()."""
    DROP_INS.mkdir(parents=True, exist_ok=True)
    (DROP_INS / f"{name}.conf").write_text("[Service]\n" + "".join(f"{line}\n" for line in lines))
    systemctl("daemon-reload")


def remove_drop_in(name):
    (DROP_INS / f"{name}.conf").unlink()
    systemctl("daemon-reload")


def set_paranoid(level):
    """kernel.perf_event_paranoid: 3 is Debian's; above 2 only CAP_SYS_ADMIN may open perf events."""
    pathlib.Path("/proc/sys/kernel/perf_event_paranoid").write_text(str(level))


def simulate():
    """From now on it serves a built-in host: that one line of its unit is not as installed."""
    drop_in("10-host", "ExecStart=", "ExecStart=/usr/sbin/spe-broker --simulate biglittle")
    systemctl("restart", SERVICE)


def read_unit(path):
    """[(section, key, value)], comments and blank lines left out."""
    section, found = None, []
    for line in pathlib.Path(path).read_text().splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def unit_lines(unit):
    """The lines of a unit as it is installed, without what a test has added."""
    return read_unit(show("FragmentPath", unit))


def process_status(pid):
    """/proc/PID/status: {name: value}."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")
