# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does the oracle find bugs? Builds the daemon and decide-lines from a copy of the tree, first as it is (the
oracle must pass), then with each bug of bugs/ put in (test_decisions.py or test_oracle.py must fail). A .bug
file is four lines: what it breaks, the file, the line that is replaced (it must be there exactly once) and its
replacement.

usage: seeded.py [NAME...]"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
ORACLE_SECONDS = 300


class Bug:
    def __init__(self, path):
        what, self.file, old, new = path.read_text().rstrip("\n").split("\n")
        if not (what.startswith("# ") and old.startswith("- ") and new.startswith("+ ")):
            raise ValueError(f"{path}: not a bug file")
        self.name, self.what, self.old, self.new = path.stem, what[2:], old[2:].strip(), new[2:].strip()

    def applies(self, tree):
        path = tree / self.file
        return path.exists() and sum(line.strip() == self.old for line in path.read_text().split("\n")) == 1

    def apply(self, tree):
        """Puts the bug in; returns what takes it out again, or None if its line is not there exactly once."""
        if not self.applies(tree):
            return None
        path = tree / self.file
        text = path.read_text()
        path.write_text(
            "\n".join(self.new if line.strip() == self.old else line for line in text.split("\n"))
        )
        return lambda: path.write_text(text)


class Tree:
    """The copy and its build."""

    def __init__(self, root):
        self.source, self.build = root / "source", root / "build"
        shutil.copytree(
            SOURCE,
            self.source,
            symlinks=True,
            ignore=lambda folder, names: {
                n for n in names if n in (".git", "build", "tests") and pathlib.Path(folder) == SOURCE
            },
        )
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        self.run(
            "cmake",
            "-S",
            self.source,
            "-B",
            self.build,
            "-DCMAKE_BUILD_TYPE=Debug",
            "-DCMAKE_C_FLAGS=-Og",
            "-DSPE_TESTS=OFF",
            *generator,
        )

    @staticmethod
    def run(*command):
        done = subprocess.run(
            [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}")

    def make(self):
        self.run("cmake", "--build", self.build, "-j2", "--target", "spe-broker")
        return next(p for p in self.build.rglob("spe-broker") if p.is_file() and os.access(p, os.X_OK))

    def make_decide(self):
        program = self.build / "decide-lines"
        libraries = [next(self.build.rglob(f"libspe-{layer}.a")) for layer in ("policy", "util")]
        json = subprocess.check_output(["pkg-config", "--cflags", "--libs", "json-c"], text=True).split()
        compiler = os.environ.get("CC", "cc")
        source = ("-std=gnu17", "-D_GNU_SOURCE", "-I", self.source, HERE / "decide-lines.c")
        self.run(compiler, *source, *libraries, *json, "-o", program)
        return program

    def oracle(self):
        """(the tests that failed, what they said)."""
        environment = os.environ | {"SPE_BROKER": str(self.make()), "SPE_SOURCE_DIR": str(SOURCE)}
        environment["SPE_DECIDE"] = str(self.make_decide())
        environment["SPE_UNPROFILED"] = "1"  # test_decisions.py has sessions, and takes less time
        failed, said = [], ""
        for test in (("test_decisions.py",), ("test_oracle.py", "TestOracle")):
            done = subprocess.run(
                [sys.executable, "-B", HERE / test[0], *test[1:]],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=ORACLE_SECONDS,
            )
            if done.returncode == 77:
                print(done.stdout)
                sys.exit(77)
            if done.returncode:
                failed.append(test[0])
                said += done.stdout
        return failed, said


def main():
    names = sys.argv[1:]
    bugs = [Bug(p) for p in sorted((HERE / "bugs").glob("*.bug")) if not names or p.stem in names]
    missed = []
    with tempfile.TemporaryDirectory(prefix="spe-seeded-") as root:
        tree = Tree(pathlib.Path(root))
        failed, said = tree.oracle()
        if failed:
            raise SystemExit(f"the oracle fails on the tree as it is:\n{said}")
        for bug in bugs:
            undo = bug.apply(tree.source)
            if undo is None:
                missed.append(bug.name)
                print(f"{bug.name}: does not apply any more", flush=True)
                continue
            failed, said = tree.oracle()
            undo()
            found = next((line for line in said.split("\n") if line.startswith("AssertionError")), "")[:200]
            by = f"found by {' and '.join(failed)}" if failed else "MISSED"
            print(f"{bug.name}: {by} ({bug.what}) {found}", flush=True)
            if not failed:
                missed.append(bug.name)
    if missed or len(bugs) < (1 if names else 5):
        raise SystemExit(f"not found: {' '.join(missed)}")


if __name__ == "__main__":
    main()
