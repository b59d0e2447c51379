#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What spe-broker can do, beside a bare NUL-framed server (the limit) and a minimal sd-varlink server (the peer),
interleaved in one run on one CPU. Prints medians over the rounds, and medians of the ratios within each round, which
hold where the machine's speed drifts; judges nothing.

    bench.py [ROUNDS]         time per figure and round: BENCH_TIME=250ms"""

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "daemon")]

import debian_packages  # noqa: E402
import harness  # noqa: E402
import uevents  # noqa: E402
from tree import Tree  # noqa: E402
from wire import ADMIN, BROKER, Client  # noqa: E402

LOAD, RAW_SERVER, SPEADM, FOLLOW, READ_FILES = (
    os.environ[name] for name in ("LOAD", "RAW_SERVER", "SPEADM", "FOLLOW", "READ_FILES"))
BUILD = pathlib.Path(os.environ.get("BENCH_BUILD", "."))
TIME = os.environ.get("BENCH_TIME", "250ms")
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
SHAPES = [(1, 1), (1, 16), (16, 1), (16, 8)]
LIST = BROKER + "ListInstances"
QUERY = BROKER + "Query"
QUERY_PARAMETERS = json.dumps({"request": {"vm": "bench", "vcpus": 1}})
IDLE_CONNECTIONS = 1000
PAIRS = 500
EVENTS = 100
OTHER_UEVENTS_PAUSE = 0.001
ROOMY = """[Limits]
MaxLeases=8192
MaxLeasesPerUser=8192
MaxMemory=1T
MaxMemoryPerUser=1T
MaxMemoryPerVM=1T
"""


def exact_reply(path, method, parameters="{}"):
    """The bytes of a reply, without its NUL."""
    with Client(path) as client:
        client.send_bytes(f'{{"method":"{method}","parameters":{parameters}}}'.encode() + b"\0")
        while b"\0" not in client.input:
            client.receive_bytes(time.monotonic() + harness.DEADLINE)
        return bytes(client.input[:-1])


class Bench:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.cpu = sorted(os.sched_getaffinity(0))[0]
        self.n = 0

    def pin(self, pid):
        os.sched_setaffinity(pid, {self.cpu})

    @contextlib.contextmanager
    def broker(self, **arguments):
        self.n += 1
        broker = harness.Broker(self.directory / f"broker-{self.n}", **arguments).start()
        self.pin(broker.process.pid)
        try:
            yield broker
        finally:
            broker.stop()

    @contextlib.contextmanager
    def server(self, name, *command, path_at=1):
        """Any other server, as its path and pid; the path goes into the command."""
        path = self.directory / name
        process = subprocess.Popen([*command[:path_at], str(path), *command[path_at:]], stderr=subprocess.DEVNULL)
        self.pin(process.pid)
        try:
            harness.wait_for(path.exists, f"{name} listens")
            yield str(path), process.pid
        finally:
            process.kill()
            process.wait()

    def load(self, target, connections=1, depth=1):
        """What the load generator prints, and the server's own time per call in microseconds."""
        command = [LOAD, "-c", str(connections), "-p", str(depth), "-t", TIME, str(target.path), target.method,
                   target.parameters]
        begin = cpu_nsec(target.pid)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=lambda: self.pin(0))
        result = json.loads(process.communicate()[0])
        if result["errors"] or not result["calls"]:
            raise AssertionError(f"{target.method}: {result}")
        return result | {"cpu": (cpu_nsec(target.pid) - begin) / result["calls"] / 1000}


@dataclasses.dataclass
class Target:
    path: str
    pid: int
    method: str
    parameters: str = "{}"


def build_sd_varlink():
    """The sd-varlink server, built against Debian 13's libsystemd; a command to run it."""
    tree = debian_packages.fetch("trixie", "libsystemd-dev", "libc6")
    program = BUILD / "sd-varlink-server"
    libraries = debian_packages.libraries(tree)
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "sd-varlink-server.c"), f"-I{tree}/usr/include",
                    str(libraries / "libsystemd.so.0"), "-Wl,--allow-shlib-undefined"], check=True)
    return debian_packages.with_loader(tree, program)


def cpu_nsec(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise KeyError("VmRSS")


def median_of(results, key):
    return statistics.median(r[key] for r in results)


def targets_of(bench, stack):
    """The same method, with replies of the same bytes, on every server; and Query."""
    broker = stack.enter_context(bench.broker(simulate="biglittle"))
    path, pid = broker.socket_path, broker.process.pid
    reply = exact_reply(path, LIST)
    (bench.directory / "reply").write_bytes(reply)
    (bench.directory / "parameters").write_text(json.dumps(json.loads(reply)["parameters"]))
    targets = {
        "bare": Target(*stack.enter_context(bench.server("raw", RAW_SERVER, str(bench.directory / "reply"))), LIST),
        "spe-broker": Target(path, pid, LIST),
        "Query": Target(path, pid, QUERY, QUERY_PARAMETERS),
    }
    try:
        command = build_sd_varlink()
        peer = bench.server("sd", *command, LIST, str(bench.directory / "parameters"), path_at=len(command))
        targets["sd-varlink"] = Target(*stack.enter_context(peer), LIST)
        print(f"ListInstances: {len(reply)} bytes, sd-varlink's {len(exact_reply(targets['sd-varlink'].path, LIST))}")
    except (debian_packages.Unavailable, subprocess.CalledProcessError) as error:
        print(f"no sd-varlink server: {error}")
    return targets


def compare_peers(bench):
    results = {}
    with contextlib.ExitStack() as stack:
        targets = targets_of(bench, stack)
        for _ in range(ROUNDS):
            for connections, depth in SHAPES:
                for name, target in targets.items():
                    results.setdefault((connections, depth, name), []).append(bench.load(target, connections, depth))
    print_peers(results, list(targets))


def ratio(ours, theirs):
    """Round by round."""
    return statistics.median(a["rate"] / b["rate"] for a, b in zip(ours, theirs)) if theirs else float("nan")


def print_peers(results, names):
    print(f"\n{'calls/s':<8}" + "".join(f"{n:>12}" for n in names) +
          f"{'/bare':>8}{'/sd':>7}{'p50 us':>9}{'p99 us':>9}{'cpu us':>8}{'sd cpu':>8}")
    for connections, depth in SHAPES:
        row = {n: results[connections, depth, n] for n in names}
        ours, theirs = row["spe-broker"], row.get("sd-varlink", [])
        print(f"{f'c{connections} p{depth}':<8}" + "".join(f"{median_of(row[n], 'rate'):>12.0f}" for n in names) +
              f"{ratio(ours, row['bare']):>8.2f}{ratio(ours, theirs):>7.2f}"
              f"{median_of(ours, 'p50'):>9.1f}{median_of(ours, 'p99'):>9.1f}{median_of(ours, 'cpu'):>8.2f}" +
              (f"{median_of(theirs, 'cpu'):>8.2f}" if theirs else f"{'-':>8}"))


def measure_memory(bench):
    with bench.broker(simulate="biglittle") as broker:
        broker.call("Describe")
        idle = resident_kib(broker.process.pid)
        clients = [broker.connect() for _ in range(IDLE_CONNECTIONS)]
        for client in clients:
            client.call("ListInstances")
        full = resident_kib(broker.process.pid)
        for client in clients:
            client.close()
    print(f"\nresident, idle: {idle} KiB; per idle connection: {(full - idle) * 1024 / IDLE_CONNECTIONS:.0f} bytes "
          f"({IDLE_CONNECTIONS} connections, each after a call)")


def acquire(client, vm):
    return client.call("Acquire", request={"vm": vm, "vcpus": 1, "bufferSize": 4096})["lease"]["leaseId"]


def pair_usec(broker, client):
    """The daemon's own time for Acquire and Release of one lease."""
    begin = cpu_nsec(broker.process.pid)
    for _ in range(PAIRS):
        client.call("Release", leaseId=acquire(client, "pair"))
    return (cpu_nsec(broker.process.pid) - begin) / PAIRS / 1000


def compare_held(bench):
    with contextlib.ExitStack() as stack:
        sides = []
        for n in (10, 4000):
            broker = stack.enter_context(bench.broker(simulate="biglittle", config=ROOMY))
            client = stack.enter_context(broker.connect())
            for i in range(n):
                acquire(client, f"held-{i}")
            sides.append((broker, client))
        times = [[pair_usec(*side) for side in sides] for _ in range(ROUNDS)]
    few, many = (statistics.median(column) for column in zip(*times))
    print(f"Acquire and Release: {few:.1f} us with 10 leases held, {many:.1f} us with 4000: ratio {many / few:.2f}")


def tree_of(n_cpus, n_instances):
    def write(root):
        tree, width = Tree(root, cpus=f"0-{n_cpus - 1}"), n_cpus // n_instances
        for i in range(n_instances):
            tree.instance(i, cpus=f"{i * width}-{(i + 1) * width - 1}", type=8 + i)
        return tree
    return write


def compare_sizes(bench):
    with bench.broker(tree=tree_of(8, 1)) as small, bench.broker(tree=tree_of(1024, 16)) as large:
        targets = [Target(b.socket_path, b.process.pid, QUERY, QUERY_PARAMETERS) for b in (small, large)]
        times = [[bench.load(t, depth=16)["cpu"] for t in targets] for _ in range(ROUNDS)]
    few, many = (statistics.median(column) for column in zip(*times))
    print(f"Query: {few:.2f} us on 8 CPUs and 1 instance, {many:.2f} us on 1024 and 16: ratio {many / few:.2f}")


@contextlib.contextmanager
def busy(broker):
    """Calls without a pause on four connections, and uevents of no interest."""
    done = threading.Event()

    def others():
        while not done.wait(OTHER_UEVENTS_PAUSE):
            uevents.trigger(uevents.IRRELEVANT, "change")

    thread = threading.Thread(target=others)
    load = subprocess.Popen([LOAD, "-c", "4", "-t", "1h", str(broker.socket_path), LIST])
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        load.kill()
        load.wait()


def follow(*arguments):
    return json.loads(subprocess.run([FOLLOW, str(EVENTS), *arguments], stdout=subprocess.PIPE, check=True).stdout)


def measure_following(bench):
    """From the kernel's uevent to the change on a Watch stream, beside a process that does nothing but wait for it."""
    if os.geteuid() != 0 or not os.access(uevents.CPU, os.W_OK):
        print("uevents: only root can have the kernel send them")
        return
    with bench.broker(tree=tree_of(16, 2)) as broker:
        os.sched_setaffinity(broker.process.pid, os.sched_getaffinity(0))
        online = broker.root / "sys/devices/system/cpu/online"
        for name, load in ("idle", contextlib.nullcontext), ("busy", lambda: busy(broker)):
            with load():
                times = [(follow("bare"), follow("watch", str(broker.socket_path), str(online), "0-14", "0-15"))
                         for _ in range(ROUNDS)]
            for key in "p50", "p99":
                bare, ours = (statistics.median(t[key] for t in column) for column in zip(*times))
                times_bare = statistics.median(watch[key] / limit[key] for limit, watch in times)
                print(f"uevent to Watch, {name}: {key} {ours:.0f} us, bare {bare:.0f} us: ratio {times_bare:.2f}")


def files_of(broker):
    """What a scan looks at, and nothing twice."""
    yield broker.root / "sys/devices/system/cpu/possible"
    yield broker.root / "sys/devices/system/cpu/online"
    yield broker.tree.devices
    for device in sorted(broker.tree.devices.iterdir()):
        yield from (device / "type", device / "cpumask", device / "format")
        yield from sorted((device / "caps").iterdir())


def measure_rescan(bench):
    with bench.broker(tree=tree_of(4096, 32)) as broker:
        target = Target(broker.socket_path, broker.process.pid, ADMIN + "Rescan")
        names = "".join(f"{path}\n" for path in files_of(broker))
        times = []
        for _ in range(ROUNDS):
            bare = subprocess.run([READ_FILES, TIME], input=names, stdout=subprocess.PIPE, text=True, check=True)
            times.append((float(bare.stdout), bench.load(target)["p50"]))
    bare, ours = (statistics.median(column) for column in zip(*times))
    print(f"rescan of 4096 CPUs and 32 SPUs: {ours:.0f} us, reading its {names.count(chr(10))} files {bare:.0f} us: "
          f"ratio {statistics.median(b / a for a, b in times):.2f}")


def process_msec(command):
    begin = time.monotonic()
    pid = os.posix_spawn(command[0], command, os.environ,
                         file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
    if os.waitpid(pid, 0)[1]:
        raise AssertionError(f"{command} failed")
    return (time.monotonic() - begin) * 1000


def measure_process(bench):
    with bench.broker(simulate="biglittle") as broker:
        command = [SPEADM, "--socket", str(broker.socket_path), "list"]
        times = [process_msec(command) for _ in range(20 * ROUNDS)]
    print(f"speadm list as a process: median {statistics.median(times):.2f} ms")


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * IDLE_CONNECTIONS:
        print(f"only {hard} descriptors allowed")
        sys.exit(77)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    directory = tempfile.mkdtemp(prefix="spe-bench-")
    try:
        bench = Bench(directory)
        compare_peers(bench)
        measure_memory(bench)
        compare_held(bench)
        compare_sizes(bench)
        measure_process(bench)
        measure_rescan(bench)
        measure_following(bench)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
