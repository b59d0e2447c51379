# SPDX-License-Identifier: LGPL-2.1-or-later
"""The points at which the daemon is killed on purpose: between every two steps of a grant, of an end, and of whatever
else changes what it keeps. A step that can be told from outside is a system call, so a point is before or after one,
or in its midst, and the shim (fault-shim.c) kills there."""

import collections
import typing

import faults

FILE = "run/spe-broker/leases/"
SAVED = "assignments.json"
STORE, FORGET = "FDSTORE=1", "FDSTOREREMOVE=1"
GRANTED, EMPTY = '"change":"granted"}', '{}'
MOVED = '{"parameters":{"lease":{'


class Point(typing.NamedTuple):
    rule: str  # of the shim
    action: str  # of World: what leads there
    patience: float = 0.05  # seconds until it is clear that it did not


POINTS = {
    # A grant: charged, written, stored, told.
    "grant.before-file": Point(f"openat:{FILE}:1:kill-before", "acquire"),
    "grant.empty-file": Point(f"openat:{FILE}:1:kill-after", "acquire"),
    "grant.torn-file": Point(f"write:{FILE}:1:torn", "acquire"),
    "grant.before-rename": Point(f"renameat:{FILE}:1:kill-before", "acquire"),
    "grant.after-rename": Point(f"renameat:{FILE}:1:kill-after", "acquire"),
    "grant.before-store": Point(f"sendmsg:{STORE}:1:kill-before", "acquire_as_newcomer"),
    "grant.after-store": Point(f"sendmsg:{STORE}:1:kill-after", "acquire_as_newcomer"),
    "grant.before-reply": Point(f"send:{GRANTED}:1:kill-before", "acquire"),
    "grant.torn-reply": Point(f"send:{GRANTED}:1:torn", "acquire"),
    "grant.after-reply": Point(f"send:{GRANTED}:1:kill-after", "acquire"),
    # An end: given back, removed, told; forgotten by systemd some time after that.
    "end.before-remove": Point(f"unlinkat:{FILE}:1:kill-before", "release"),
    "end.after-remove": Point(f"unlinkat:{FILE}:1:kill-after", "release"),
    "end.before-reply": Point(f"send:{EMPTY}:1:kill-before", "release"),
    "end.torn-reply": Point(f"send:{EMPTY}:1:torn", "release"),
    "end.after-reply": Point(f"send:{EMPTY}:1:kill-after", "release"),
    "orphan.before-remove": Point(f"unlinkat:{FILE}:1:kill-before", "die_with_leases"),
    "orphan.after-remove": Point(f"unlinkat:{FILE}:1:kill-after", "die_with_leases"),
    "forget.before": Point(f"sendmsg:{FORGET}:1:kill-before", "die_with_leases", 1.5),
    "forget.after": Point(f"sendmsg:{FORGET}:1:kill-after", "die_with_leases", 1.5),
    # One's end is another's grant: removed, written, both told.
    "hand-over.before-remove": Point(f"unlinkat:{FILE}:1:kill-before", "hand_over"),
    "hand-over.after-remove": Point(f"unlinkat:{FILE}:1:kill-after", "hand_over"),
    "hand-over.torn-file": Point(f"write:{FILE}:1:torn", "hand_over"),
    "hand-over.after-rename": Point(f"renameat:{FILE}:1:kill-after", "hand_over"),
    "hand-over.before-grant": Point(f"send:{GRANTED}:1:kill-before", "hand_over"),
    "hand-over.after-grant": Point(f"send:{GRANTED}:1:kill-after", "hand_over"),
    # A move: written, told.
    "move.before-file": Point(f"openat:{FILE}:1:kill-before", "update"),
    "move.torn-file": Point(f"write:{FILE}:1:torn", "update"),
    "move.after-rename": Point(f"renameat:{FILE}:1:kill-after", "update"),
    "move.before-reply": Point(f"send:{MOVED}:1:kill-before", "update"),
    "move.after-reply": Point(f"send:{MOVED}:1:kill-after", "update"),
    # A revocation: marked, told, written; later the same for its last step.
    "revoke.before-rename": Point(f"renameat:{FILE}:1:kill-before", "revoke"),
    "revoke.after-rename": Point(f"renameat:{FILE}:1:kill-after", "revoke"),
    "revoke.before-reply": Point(f"send:{EMPTY}:1:kill-before", "revoke"),
    "revoke.after-reply": Point(f"send:{EMPTY}:1:kill-after", "revoke"),
    "revoked.before-rename": Point(f"renameat:{FILE}:2:kill-before", "revoke_soon", 0.2),
    "revoked.after-rename": Point(f"renameat:{FILE}:2:kill-after", "revoke_soon", 0.2),
    # An assignment: saved, its leases shrunk or revoked, those written, told.
    "assign.before-rename": Point(f"renameat:{SAVED}:1:kill-before", "assign_to_host"),
    "assign.after-rename": Point(f"renameat:{SAVED}:1:kill-after", "assign_to_host"),
    "assign.before-file": Point(f"openat:{FILE}:1:kill-before", "assign_to_host"),
    "assign.after-file": Point(f"renameat:{FILE}:1:kill-after", "assign_to_host"),
    # What takes CPUs from both files.
    "unassign.before-rename": Point(f"renameat:{SAVED}:1:kill-before", "unassign_both"),
    "unassign.after-first": Point(f"renameat:{SAVED}:1:kill-after", "unassign_both"),
    "unassign.before-second": Point(f"renameat:{SAVED}:2:kill-before", "unassign_both"),
    "unassign.after-second": Point(f"renameat:{SAVED}:2:kill-after", "unassign_both"),
}

# On the way up: from dying while it is dead, or from a stop, on.
AT_START = {
    "start.before-read": Point(f"openat:{FILE}:1:kill-before", "die"),
    "start.amid-read": Point(f"openat:{FILE}:2:kill-after", "die"),
    "start.before-remove": Point(f"unlinkat:{FILE}:1:kill-before", "die"),
    "start.after-remove": Point(f"unlinkat:{FILE}:1:kill-after", "die"),
    "start.before-forget": Point(f"sendmsg:{FORGET}:1:kill-before", "die"),
    "start.after-forget": Point(f"sendmsg:{FORGET}:1:kill-after", "die"),
    "start.before-store": Point(f"sendmsg:{STORE}:1:kill-before", "stop"),
    "start.after-store": Point(f"sendmsg:{STORE}:1:kill-after", "stop"),
    "start.amid-store": Point(f"sendmsg:{STORE}:2:kill-before", "stop"),
    "start.before-ready": Point("sendmsg:READY=1:1:kill-before", "die"),
}
NEEDS_STORE = {name for name, point in (POINTS | AT_START).items() if STORE in point.rule or FORGET in point.rule}


class Points:
    """Those of one daemon: armed one at a time, and counted if the shim did its work there."""

    def __init__(self, daemon):
        self.faults = faults.Faults(daemon) if faults.SHIM else None
        self.hits, self.misses = collections.Counter(), collections.Counter()
        self.armed = None

    def names(self, has_store):
        if not self.faults:
            return []
        return [name for name in POINTS | AT_START if has_store or name not in NEEDS_STORE]

    def arm(self, name):
        self.armed = name
        self.faults.set((POINTS | AT_START)[name].rule)

    def disarm(self):
        """True if it was come to."""
        if not self.armed:
            return False
        name, self.armed = self.armed, None
        self.faults.clear()
        hit = bool(self.faults.fired())
        (self.hits if hit else self.misses)[name] += 1
        return hit
