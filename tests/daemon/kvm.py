# SPDX-License-Identifier: LGPL-2.1-or-later
"""A KVM that knows SPE, for a daemon on a tree: kvm-model.c, preloaded, answers for the tree's file dev/kvm."""

import os

MODEL = os.environ.get("SPE_KVM_MODEL", "")
# The model's numbers, and the daemon's.
ABLE = "capability 300 1\nfeature 9\ngroup 3\nirq 0\nspu 2\nmax 3\ninit 1\n"
NUMBERS = """
[KVM]
Capability=300
Feature=9
Group=3
AttributeIrq=0
AttributeSpu=2
AttributeMaxBufferSize=3
AttributeInit=1
"""


def environment():
    """For the daemon. A sanitizer wants to be loaded first, which it need not be."""
    return {"LD_PRELOAD": MODEL, "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")}


def write(host, types, more=""):
    """The tree's KVM knows the SPUs of these PMU types."""
    host.write("dev/kvm", ABLE + more + "types " + " ".join(map(str, types)))


def held(pid):
    """What a process holds open of a KVM, real or not."""
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            pass  # a connection that has just been closed
    assert found
    return [link for link in found if "kvm" in link]
