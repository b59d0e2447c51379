#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Has spin look through all states of a model:

    check.py holds MODEL.pml               it must find no error, and get to the end
    check.py fails MODEL.pml NAME[=VALUE]  with -DNAME, it must find a violated assertion
    check.py hangs MODEL.pml NAME[=VALUE]  with -DNAME, it must find a state in which nothing can happen any more

77: there is no spin here."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
DEPTH = 10000
SEARCH = {"holds": [], "fails": ["-E"], "hangs": ["-A"]}  # what each ignores
FOUND = {"fails": "assertion violated", "hangs": "invalid end state"}


def explore(model, definitions, options):
    """What the search said."""
    with tempfile.TemporaryDirectory(prefix="spe-model-") as directory:
        for file in HERE.glob("*.pml"):
            shutil.copy(file, directory)

        def run(*command):
            return subprocess.run(command, cwd=directory, check=True, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

        run("spin", *definitions, "-a", model)
        run("cc", "-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c")
        return run("./pan", f"-m{DEPTH}", "-n", *options)


def problem(expected, output):
    errors = re.search(r"errors: (\d+)$", output, re.MULTILINE)
    if not errors or re.search(r"search depth too small|out of memory|hash array is full", output, re.IGNORECASE):
        return "the search was not complete"
    if expected == "holds":
        return "an error was found" if errors.group(1) != "0" else ""
    return "" if errors.group(1) != "0" and FOUND[expected] in output else "no error was found"


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in SEARCH:
        print(__doc__, file=sys.stderr)
        return 2
    if not shutil.which("spin"):
        print("no spin")
        return 77
    expected, model, *names = arguments
    try:
        output = explore(model, [f"-D{name}" for name in names], SEARCH[expected])
    except subprocess.CalledProcessError as error:
        print(error, error.stdout, sep="\n")
        return 1
    complaint = problem(expected, output)
    print(complaint, output, sep="\n")
    return 1 if complaint else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
