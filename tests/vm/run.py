#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command in a VM with a kernel of Debian's, as root, and exits with its exit status:

    tests/vm/run.py --arch arm64 --kernel 6.12 -- uname -a

What is needed is fetched at first (fetch.py). The VM sees this source tree at the path that it has here, read only,
and so each --share DIRECTORY; --share GUEST=DIRECTORY puts it elsewhere, --share-rw lets the VM write. The command
starts in the source tree. If the VM does not even get there, its console and the reason are kept and named; exit
status 77 says that no VM can be had here, and why."""

import argparse
import pathlib
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import boot  # noqa: E402
import machines  # noqa: E402
from debian_packages import Unavailable  # noqa: E402 (fetch.py has made it known)

SOURCE = pathlib.Path(__file__).resolve().parents[2]
CANNOT, NO_VM = 77, 125


def arguments():
    parser = argparse.ArgumentParser(usage="%(prog)s [OPTIONS] -- COMMAND...", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=sorted(machines.ARCHITECTURES), default=machines.HOST)
    parser.add_argument("--kernel", choices=list(machines.KERNELS), default="6.1")
    parser.add_argument("--no-systemd", action="store_true", help="no init: the command is all that runs")
    parser.add_argument("--count", action="store_true", help="its clock counts the instructions of its one processor")
    parser.add_argument("--append", default="", help="more for the kernel's command line")
    parser.add_argument("--share", action="append", default=[], metavar="[GUEST=]DIRECTORY")
    parser.add_argument("--share-rw", action="append", default=[], metavar="[GUEST=]DIRECTORY")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for the command alone")
    parser.add_argument("--keep", action="store_true", help="keep the console's log and say where")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def share(job, text, writable):
    guest, _, host = text.rpartition("=")
    job.share(guest or str(pathlib.Path(host).resolve()), host, writable)


def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def main():
    options = arguments()
    job = boot.Job(options.arch, options.kernel, not options.no_systemd, options.append, options.count)
    job.share(str(SOURCE), SOURCE)
    for texts, writable in ((options.share, False), (options.share_rw, True)):
        for text in texts:
            share(job, text, writable)
    # The command is found and started where the user stands.
    job.add("command", ["env", "-C", str(SOURCE), *options.command], options.timeout)

    directory, keep = tempfile.mkdtemp(prefix="spe-vm-"), options.keep
    try:
        boot.run(job, directory, show)
        return boot.status(directory, "command")
    except boot.Failed as error:
        keep = True
        print(error, file=sys.stderr)
        return NO_VM
    except Unavailable as error:
        print(f"no VM: {error}", file=sys.stderr)
        return CANNOT
    finally:
        if keep:
            print(f"logs: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
