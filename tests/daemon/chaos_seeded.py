# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does the chaos test find bugs? Builds the daemon from a copy of the tree, first as it is (the test must pass), then
with each bug of bugs/ put in (it must fail). What a .bug file is, tests/oracle/seeded.py says.

usage: chaos_seeded.py [NAME...]"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "oracle"))
import seeded  # noqa: E402 (found through the line above)

SECONDS = 300
ENVIRONMENT = {"SPE_SEED": "1", "SPE_RESTARTS": "200", "SPE_DEADLINE": "8"}


def chaos(program):
    """What it says is wrong, or None."""
    environment = os.environ | ENVIRONMENT | {"SPE_BROKER": str(program), "SPE_SOURCE_DIR": str(seeded.SOURCE)}
    done = subprocess.run([sys.executable, "-B", HERE / "test_chaos.py", "TestChaos.test_kept"], env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    if done.returncode == 77:
        print(done.stdout)
        sys.exit(77)
    found = re.search(r"^AssertionError: (.{0,200})", done.stdout, re.MULTILINE)
    return (found.group(1) if found else done.stdout[-1000:]) if done.returncode else None


def main():
    names = sys.argv[1:]
    bugs = [seeded.Bug(p) for p in sorted((HERE / "bugs").glob("*.bug")) if not names or p.stem in names]
    missed = []
    with tempfile.TemporaryDirectory(prefix="spe-chaos-seeded-") as root:
        tree = seeded.Tree(pathlib.Path(root))
        if found := chaos(tree.make()):
            raise SystemExit(f"it fails on the tree as it is: {found}")
        for bug in bugs:
            undo, found = bug.apply(tree.source), None
            if undo:
                found = chaos(tree.make())
                undo()
            print(f"{bug.name}: {found or ('MISSED' if undo else 'does not apply any more')} ({bug.what})", flush=True)
            if not found:
                missed.append(bug.name)
    if missed or not bugs:
        raise SystemExit(f"not found: {' '.join(missed)}")


if __name__ == "__main__":
    main()
