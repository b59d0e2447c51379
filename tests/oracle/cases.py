# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random hosts: a tree, and a configuration as text and as the Settings that judge.py goes by."""

import sizes
import tree
from judge import Settings
from sizes import KIB, MIB

GROUP = 4321
VMS = ("web", "db", "ci", "big")
SIZES = [
    4096,
    8192,
    5000,
    4095,
    1,
    64 * KIB,
    100 * KIB,
    MIB,
    MIB + 2 * KIB,
    3 * MIB,
    4 * MIB,
    4 * MIB + 4 * KIB,
    6 * MIB,
    16 * MIB,
    24 * MIB,
    64 * MIB,
    100 * MIB,
    2**40,
]


class Host:
    """A random host: its tree and its configuration, as text and as Settings."""

    def __init__(self, rng):
        self.total = rng.choice((2, 4, 8, 16, 64))
        count = min(rng.randint(1, 4), self.total)
        cuts = sorted(rng.sample(range(1, self.total), count - 1)) + [self.total]
        self.parts, first = [], 0
        for i, cut in enumerate(cuts):
            cap = rng.choice((None, None, 0, 64 * KIB, 2 * MIB, 3 * MIB, 32 * MIB))
            self.parts.append(
                {
                    "all": set(range(first, cut)),
                    "cpus": set(range(first, cut)),
                    "name": i,
                    "type": 8 + i,
                    "max": cap,
                    "partial": i > 0 and rng.random() < 0.15,
                    "gone": False,
                }
            )
            first = cut
        self.cpus = set(range(self.total))
        self.online = self.some_online(rng)
        self.configure(rng)

    def some_online(self, rng):
        off = {cpu for cpu in self.cpus if rng.random() < 0.05}
        if rng.random() < 0.3:
            off |= rng.choice(self.parts)["all"]
        return self.cpus - off or self.cpus

    @staticmethod
    def brink(rng):
        """A limit that a likely request just meets, or just misses."""
        return sizes.charge(rng.choice((1, 2, 4)), rng.choice((64 * KIB, MIB, 4 * MIB))) - rng.choice((0, 1))

    def configure(self, rng):
        limits = {
            "DefaultBufferSize": rng.choice((64 * KIB, MIB, 4 * MIB)),
            "MaxBufferSize": rng.choice((MIB, 6 * MIB, 48 * MIB, 64 * MIB)),
            "MaxMemoryPerVM": rng.choice((self.brink(rng), 20 * MIB, 200 * MIB, 2048 * MIB, 2048 * MIB)),
            "MaxMemoryPerUser": rng.choice((2 * self.brink(rng), 500 * MIB, 2048 * MIB, 2048 * MIB)),
            "MaxMemory": rng.choice((3 * self.brink(rng), 1500 * MIB, 2048 * MIB, 2048 * MIB)),
            "MaxLeases": rng.choice((4, 12, 4096, 4096)),
            "MaxLeasesPerUser": rng.choice((3, 8, 1024, 1024)),
        }
        vms = {
            vm: {
                "MaxBufferSize": rng.choice((512 * KIB, 64 * MIB)),
                "MaxMemory": rng.choice((self.brink(rng), 500 * MIB)),
            }
            for vm in rng.sample(VMS, rng.randint(0, 2))
        }
        users = {
            uid: {
                "MaxBufferSize": rng.choice((256 * KIB, 16 * MIB)),
                "MaxMemory": rng.choice((4 * MIB, 400 * MIB)),
            }
            for uid in rng.sample((0, 1000, 1001), rng.randint(0, 1))
        }
        self.gone_grace = rng.choice((0, 1000, 1000))
        owner = rng.choice(("any",) * 5 + ("guest", "none"))
        mode = rng.choice(("guest", "shared"))
        self.settings = Settings(limits, owner, mode, vms, users)
        self.assigned = {}  # origin: {CPU: (owner, vm)}
        text = [
            f"[Policy]\nDefaultOwner={owner}\nDefaultMode={mode}",
            f"AcquireGroup={GROUP}\nRevokeGraceSec=1000\nGoneGraceSec={self.gone_grace}\n[Limits]",
        ]
        text += [f"{key}={value}" for key, value in limits.items()]
        for kind, sections in (("VM", vms), ("User", users)):
            for name, values in sections.items():
                text += [f"[{kind} {name}]"] + [f"{k}={v}" for k, v in values.items()]
        for i in range(rng.randint(0, 3)):
            cpus, owner, vm = self.some_assignment(rng)
            text += [f"[Assignment a{i}]", f"Cpus={sizes.cpulist(cpus)}", f"Owner={owner}"] + (
                [f"Vm={vm}"] if vm else []
            )
            self.assign("config", cpus, owner, vm)
        self.text = "\n".join(text) + "\n"

    def some_cpus(self, rng):
        """CPUs, mostly of one part."""
        part = sorted(rng.choice(self.parts)["cpus"])
        pool = part if rng.random() < 0.95 else sorted(self.cpus)
        return set(rng.sample(pool, rng.randint(1, min(len(pool), 6))))

    def some_assignment(self, rng):
        owner = rng.choice(("host", "none") + ("guest", "any") * 3)
        vm = rng.choice((None,) * 5 + VMS) if owner in ("guest", "any") else None
        return self.some_cpus(rng), owner, vm

    def assign(self, origin, cpus, owner, vm):
        self.assigned.setdefault(origin, {}).update({cpu: (owner, vm) for cpu in cpus})

    def unassign(self, cpus):
        for origin in ("persistent", "runtime"):
            for cpu in cpus:
                self.assigned.get(origin, {}).pop(cpu, None)

    def write(self, root):
        all_cpus = f"0-{self.total - 1}"
        host = tree.Tree(root, all_cpus, online=sizes.cpulist(self.online))
        self.write_parts(host)
        return host

    def write_parts(self, host):
        """The instances as they are now, and no others."""
        with host.at_once():
            for i in range(len(self.parts)):
                host.remove_instance(i)
            for part in self.parts:
                kind, cpus = None if part["partial"] else part["type"], sizes.cpulist(part["cpus"])
                if not part["gone"]:
                    host.instance(part["name"], cpus, type=kind, max_buff_size=part["max"])

    def change(self, rng):
        """Something that happens to the SPUs; what it was, in a word."""
        part = rng.choice(self.parts)
        missing = [part for part in self.parts if part["gone"] or part["partial"]]
        what = rng.choice(("toggle", "toggle", "partial", "type", "names", "cut", "reload"))
        if missing and rng.random() < 0.5:
            part, what = rng.choice(missing), "back"
            part["gone"] = part["partial"] = False
        elif what == "toggle":
            part["gone"] = True
        elif what == "partial":
            part["partial"] = True
        elif what == "type":
            part["type"] = rng.choice([t for t in range(8, 40) if t not in [p["type"] for p in self.parts]])
        elif what == "cut":
            part["cpus"] = set(rng.sample(sorted(part["all"]), rng.randint(1, len(part["all"]))))
        else:
            self.deal(rng, "name")
            if what == "reload":
                self.deal(rng, "type")
        if rng.random() < 0.2:
            part["cpus"] = set(part["all"])
        return what

    def deal(self, rng, key):
        """Names, or types, are handed out anew."""
        values = [part[key] for part in self.parts]
        rng.shuffle(values)
        for part, value in zip(self.parts, values):
            part[key] = value
