#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Adds up what tools/test ran: report.py DIRECTORY, with steps.tsv and ctest's PRESET.xml files in it.

Says what failed and what was skipped, also in part, with the reason that it printed; ends with the line
'N passed, N failed, N skipped' and exit status 1 if anything failed, or nothing passed.
"""

import glob
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


def reason_of(case):
    """The last line that a skipped test printed; ctest's own message where it printed none."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    skipped = case.find("skipped")
    return lines[-1].removeprefix("skipped: ") if lines else (skipped.get("message") if skipped is not None else "no reason given")


def skipped_inside(case):
    """The reasons of single cases that a program of several skipped."""
    text = case.findtext("system-out") or ""
    return sorted(set(re.findall(r"\.\.\. skipped ['\"](.+)['\"]$", text, re.M)
                      + re.findall(r"^\[  SKIPPED \] (?!\d+ test)(.+)$", text, re.M)))


def read_steps(directory):
    with open(os.path.join(directory, "steps.tsv"), encoding="utf-8") as f:
        for line in f:
            name, status, reason = line.rstrip("\n").split("\t")
            yield name, status, reason


def read_suites(directory):
    for path in sorted(glob.glob(os.path.join(glob.escape(directory), "*.xml"))):
        preset = os.path.basename(path)[: -len(".xml")]
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            name = f"{preset}: {case.get('name')}"
            if case.find("skipped") is not None:
                yield name, "skipped", reason_of(case)
            elif case.find("failure") is not None or case.get("status") == "fail":
                yield name, "failed", ""
            else:
                yield name, "passed", "; ".join(skipped_inside(case))


def main(argv):
    results = [*read_steps(argv[1]), *read_suites(argv[1])]
    counts = {status: sum(r[1] == status for r in results) for status in ("passed", "failed", "skipped")}
    for status, title in (("passed", "skipped in part"), ("skipped", "skipped"), ("failed", "failed")):
        for name, _, reason in (r for r in results if r[1] == status):
            if reason or status != "passed":
                print(f"{title}: {name}" + (f": {reason}" if reason else ""))
    print(", ".join(f"{n} {status}" for status, n in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
