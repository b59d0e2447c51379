#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit files, as installed: systemd.py CHECK SOURCE WORK, after `install.py build SOURCE WORK`.

    verify    systemd-analyze has nothing to say (and has, about a unit that was broken for the purpose)
    security  exposure at most EXPOSURE_MAX; each group of lines in [Service] opens with its reason
    names     the socket is named like the interface, its links like all that are served
    exercised each line has an entry in the table that the tests in a booted machine go by
    accounts  systemd-sysusers and systemd-tmpfiles take their files
    catalog   journalctl takes the catalog, and it and spe-broker(8) explain each message of an id, with its fields
    confined  the daemon does its work as the unit's user, with the unit's capabilities and no others

What systemd makes of them is seen where it runs: tests/vm/guest/installed/.
"""

import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

# 0.2 of it for perf_event_open(), without which nothing is kept off or seen, 0.1 for CAP_SYS_RESOURCE.
EXPOSURE_MAX = 1.8
PREFIX = "a prefix"
CPU_UEVENT = "/sys/devices/system/cpu/cpu0/uevent"
SKIP = 77


def skip(reason):
    print("skipped:", reason)
    sys.exit(SKIP)


def output(*command, **kwargs):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **kwargs)
    return done.returncode, done.stdout


def units(work):
    return os.path.join(work, PREFIX, "lib/systemd/system")


def read_unit(path):
    """[(section, key, value)], comments and blank lines left out."""
    section, found = None, []
    with open(path, encoding="utf-8") as f:
        for line in f:
            line = line.strip()
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                key, _, value = line.partition("=")
                found.append((section, key, value))
    return found


def values(unit, key):
    return [v for _, k, v in unit if k == key]


def analyze(*arguments):
    if not shutil.which("systemd-analyze"):
        skip("no systemd-analyze")
    return output("systemd-analyze", *arguments)


def verify(_source, work):
    paths = [os.path.join(units(work), "spe-broker." + kind) for kind in ("service", "socket")]
    status, text = analyze("verify", "--man=no", *paths)
    good = status == 0 and not text.strip()
    if not good:
        print(f"exit {status}\n{text}")
    with tempfile.TemporaryDirectory() as directory:
        for path in paths:
            shutil.copy(path, directory)
        broken = os.path.join(directory, "spe-broker.service")
        with open(broken, "a", encoding="utf-8") as f:
            f.write("\n[Service]\nProtectSystems=strict\n")
        if "ProtectSystems" not in analyze("verify", "--man=no", broken)[1]:
            print("a misspelt key was not noticed")
            good = False
    return good


def security(source, work):
    status, text = analyze("security", "--offline=yes", "--no-pager",
                           os.path.join(units(work), "spe-broker.service"))
    match = re.search(r"Overall exposure level for .*?: ([0-9.]+)", text)
    if not match:
        print(f"exit {status}\n{text}")
        return False
    print(match.group(0), "- what is left:")
    print(*(line for line in text.splitlines() if "✗" in line), sep="\n")
    good = float(match.group(1)) <= EXPOSURE_MAX

    with open(os.path.join(source, "systemd/spe-broker.service"), encoding="utf-8") as f:
        service = f.read().split("[Service]\n")[1].split("\n[")[0]
    for group in service.strip().split("\n\n")[1:]:  # the first says what to run
        if not group.startswith("# "):
            print("no reason is given for:", group, sep="\n")
            good = False
    return good


def names(source, work):
    interfaces = set()
    for path in glob.glob(os.path.join(glob.escape(source), "idl/*.varlink")):
        with open(path, encoding="utf-8") as f:
            interfaces.add(re.search(r"^interface (\S+)", f.read(), re.M).group(1))
    unit = read_unit(os.path.join(units(work), "spe-broker.socket"))
    (listen,) = values(unit, "ListenStream")
    links = " ".join(values(unit, "Symlinks")).split()
    print("interfaces", sorted(interfaces), "socket", listen, "links", links)
    return (listen == "/run/spe-broker/io.spebroker.Broker" and os.path.basename(listen) in interfaces
            and {os.path.dirname(link) for link in links} == {"/run/varlink/registry"}
            and {os.path.basename(link) for link in links} == interfaces and len(links) == len(interfaces)
            and values(unit, "FileDescriptorName") == ["varlink"])


def exercised(source, _work):
    sys.path.insert(0, os.path.join(source, "tests/vm/guest/installed"))
    import sandbox  # what it needs at hand is in a booted machine, but not its table

    good = True
    for unit, entries in sandbox.LINES.items():
        lines = sandbox.lines_of(read_unit(os.path.join(source, "systemd", unit)))
        for line in sorted(set(lines) ^ set(entries)):
            print(f"{unit}: {line}: only in", "the unit" if line in lines else "tests/vm/guest/installed/sandbox.py")
            good = False
    return good


def accounts(_source, work):
    if os.geteuid() != 0:
        skip("needs root")
    lib = os.path.join(work, PREFIX, "lib")
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(os.path.join(root, "etc"))
        status, text = output("systemd-sysusers", "--root", root, os.path.join(lib, "sysusers.d/spe-broker.conf"))
        with open(os.path.join(root, "etc/passwd"), encoding="utf-8") as f:
            users = f.read()
        status2, text2 = output("systemd-tmpfiles", "--create", "--root", root,
                                os.path.join(lib, "tmpfiles.d/spe-broker.conf"))
        registry = os.path.join(root, "run/varlink/registry")
        with open(os.path.join(root, "etc/group"), encoding="utf-8") as f:
            groups = {line.split(":")[0] for line in f}
        print(text, text2, users, groups)
        return (status == 0 and status2 == 0 and groups == {"spe-broker", "kvm"} and users.startswith("spe-broker:") and users.count("\n") == 1
                and users.strip().endswith("/nologin") and os.stat(registry).st_mode & 0o7777 == 0o755)


def catalog(source, work):
    """The ids and fields that the sources send are those that the catalog and the manual know."""
    if not shutil.which("journalctl"):
        skip("no journalctl")
    ids, fields = set(), set()
    for path in glob.glob(os.path.join(glob.escape(source), "broker/*.c")):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        ids |= set(re.findall(r'#define MESSAGE_[A-Z_]+ +"([0-9a-f]{32})"', text))
        fields |= set(re.findall(r'"(SPE_BROKER_[A-Z_]+)"', text))
    with tempfile.TemporaryDirectory() as root:
        directory = os.path.join(root, "usr/lib/systemd/catalog")
        os.makedirs(directory)
        shutil.copy(os.path.join(work, PREFIX, "lib/systemd/catalog/spe-broker.catalog"), directory)
        status, text = output("journalctl", "--root", root, "--update-catalog")
        dump = output("journalctl", "--root", root, "--dump-catalog")[1]
    with open(os.path.join(source, "man/spe-broker.8.scd"), encoding="utf-8") as f:
        page = f.read().replace("\\_", "_")
    known = set(re.findall(r"^-- ([0-9a-f]{32})$", dump, re.M))
    told = set(re.findall(r"\*(SPE_BROKER_[A-Z_]+)=\*", page))
    used = set(re.findall(r"@([A-Z_]+)@", dump))
    print(text, f"exit {status}", "ids sent", sorted(ids), "known", sorted(known), "fields", sorted(used), sorted(fields),
          sorted(told), sep="\n")
    return (status == 0 and len(ids) >= 3 and known == ids == set(re.findall(r"\b[0-9a-f]{32}\b", page))
            and used <= fields == told)


def wait_line(stream, wanted):
    for line in stream:
        if wanted in line:
            return True
    return False


def may_have(capability):
    """Root of a container lacks some; nothing of what is tried here takes CAP_SYS_RESOURCE."""
    return capability != "CAP_SYS_RESOURCE" or subprocess.run(
        ["setpriv", "--inh-caps", "+sys_resource", "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0


def confined(_source, work):
    if os.geteuid() != 0:
        skip("needs root")
    if not shutil.which("setpriv"):
        skip("no setpriv")
    unit = read_unit(os.path.join(units(work), "spe-broker.service"))
    assert values(unit, "User") == ["spe-broker"]  # which may not exist here: nobody stands in for it
    wanted = values(unit, "CapabilityBoundingSet")[0].split()
    capabilities = ",".join("+" + name.removeprefix("CAP_").lower() for name in wanted if may_have(name))
    if values(unit, "AmbientCapabilities") != values(unit, "CapabilityBoundingSet"):
        print("the capabilities that it has are not those that it may have")
        return False

    private = ["unshare", "--net"] if values(unit, "PrivateNetwork") == ["yes"] else []
    prefix = os.path.join(work, PREFIX)
    speadm = os.path.join(prefix, "bin/speadm")
    with tempfile.TemporaryDirectory() as root:
        os.chown(root, 65534, 65534)
        os.chmod(root, 0o755)
        path = os.path.join(root, "run/spe-broker/io.spebroker.Broker")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(os.path.join(root, "notify"))
            os.chmod(os.path.join(root, "notify"), 0o777)
            notify.settimeout(20)
            daemon = subprocess.Popen(
                [*private, "setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--no-new-privs",
                 "--bounding-set", "-all," + capabilities, "--inh-caps", "-all," + capabilities,
                 "--ambient-caps", "-all," + capabilities,
                 os.path.join(prefix, "sbin/spe-broker"), "--root", root, "--simulate", "biglittle"],
                env={"NOTIFY_SOCKET": os.path.join(root, "notify"), "PATH": os.environ["PATH"]})
            try:
                while b"READY=1" not in notify.recv(4096):
                    pass
                return work_under(speadm, path)
            finally:
                daemon.terminate()
                status = daemon.wait(20)
                print("the daemon's exit status:", status)


def work_under(speadm, path):
    """A lease for a process of root is granted, listed, and revoked by killing its owner."""
    owner = subprocess.Popen([speadm, "--socket", path, "run", "--vm", "confined", "--vcpus", "2", "--",
                              "/bin/sh", "-c", 'echo "$SPE_BROKER_LEASE"; exec tail -f /dev/null'],
                             stdout=subprocess.PIPE, text=True)
    try:
        lease = owner.stdout.readline().strip()
        status, text = output(speadm, "--socket", path, "--json", "leases")
        good = len(lease) == 32 and status == 0 and lease in text
        print("lease", lease, text)
        status, text = output(speadm, "--socket", path, "revoke", "--kill", "--grace", "0", lease)
        print("revoke", status, text)
        good = good and status == 0
        good = owner.wait(20) == -15 and good
    finally:
        if owner.poll() is None:
            owner.kill()
            owner.wait()
    return hears_uevents(speadm, path) and good


def hears_uevents(speadm, path):
    """The kernel sends a uevent, and the broker counts it."""
    def count():
        status, text = output(speadm, "--socket", path, "--json", "status")
        return {c["name"]: c["value"] for c in json.loads(text)["counters"]}["uevents"] if status == 0 else -1

    if not os.access(CPU_UEVENT, os.W_OK):
        print(CPU_UEVENT, "cannot be written")
        return True
    before, deadline = count(), time.monotonic() + 20
    with open(CPU_UEVENT, "w", encoding="ascii") as f:
        f.write("online")
    while (after := count()) <= before and time.monotonic() < deadline:
        pass
    print("uevents", before, after)
    return after > before >= 0


if __name__ == "__main__":
    check, SOURCE, WORK = sys.argv[1], *map(os.path.abspath, sys.argv[2:4])
    CHECKS = {f.__name__: f for f in (verify, security, names, exercised, accounts, catalog, confined)}
    sys.exit(0 if CHECKS[check](SOURCE, WORK) else 1)
