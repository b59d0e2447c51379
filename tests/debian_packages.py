# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packages of another Debian release or architecture, unpacked into a cache directory and used from there: nothing is
installed.

They come from the mirror that this machine's apt uses, fetched with an apt configuration of our own. What is
unpacked stays in $SPE_TEST_CACHE (default: $XDG_CACHE_HOME/spe-broker-tests) for the next run."""

import contextlib
import fcntl
import os
import pathlib
import platform
import shutil
import subprocess

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
TIMEOUT = 600


class Unavailable(Exception):
    """The packages cannot be had here; the message says why."""


def cache_directory():
    path = os.environ.get("SPE_TEST_CACHE")
    if not path:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        path = os.path.join(base, "spe-broker-tests")
    return pathlib.Path(path)


def apt_get(*arguments, directory=None):
    try:
        return subprocess.run(["apt-get", "-qq", *arguments], check=True, capture_output=True, text=True,
                              timeout=TIMEOUT, cwd=directory).stdout
    except FileNotFoundError as error:
        raise Unavailable("no apt-get here") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable("apt-get: no answer in time") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"apt-get: {(error.stderr.strip().splitlines() or ['failed'])[0]}") from error


def mirror():
    for uri in apt_get("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split():
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise Unavailable("no Debian archive in this machine's apt configuration")


def download(directory, suite, architecture, packages, alone):
    """The packages and all they depend on, and those that come alone, as files; with lists and archives below the
    directory."""
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True)
    (directory / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
    options = [f"-o{key}={value}" for key, value in {
        "Dir::Etc::SourceList": directory / "sources.list", "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": directory / "lists", "Dir::State::Status": "/dev/null",
        "Dir::Cache": directory, "Dir::Cache::Archives": directory / "archives",
        "Debug::NoLocking": "1", "APT::Sandbox::User": "root",
        **({"APT::Architecture": architecture, "APT::Architectures::": architecture} if architecture else {}),
    }.items()]
    apt_get(*options, "update")
    apt_get(*options, "install", "--download-only", "--no-install-recommends", "--yes", *packages)
    if alone:
        apt_get(*options, "download", *alone, directory=directory / "archives")
    return sorted((directory / "archives").glob("*.deb"))


@contextlib.contextmanager
def locked(path):
    """One at a time; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def stay_within(tree):
    """Absolute links lead to their target in the tree, wherever it lies."""
    for directory, directories, files in os.walk(tree):
        for path in (pathlib.Path(directory, name) for name in (*directories, *files)):
            if path.is_symlink() and path.readlink().is_absolute():
                target = tree / path.readlink().relative_to("/")
                path.unlink()
                path.symlink_to(os.path.relpath(target, directory))


def fetch(suite, *packages, alone=(), architecture=None):
    """The directory below which the packages are unpacked, with all that they depend on; alone: without that.
    architecture: not this machine's, but this one, in Debian's words."""
    release = f"{suite}-{architecture}" if architecture else suite
    tree = cache_directory() / release / "+".join((*packages, *alone))
    with locked(tree.with_name(tree.name + ".lock")):
        if not tree.exists():
            unpack(tree, suite, architecture, packages, alone)
    return tree


def unpack(tree, suite, architecture, packages, alone):
    unpacked, downloads = tree.with_name(tree.name + ".new"), tree.with_name(tree.name + ".apt")
    for directory in (unpacked, downloads):
        shutil.rmtree(directory, ignore_errors=True)
    try:
        for package in download(downloads, suite, architecture, packages, alone):
            subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True, timeout=TIMEOUT)
    finally:
        shutil.rmtree(downloads, ignore_errors=True)
    if not (unpacked / "lib").exists():
        (unpacked / "lib").symlink_to("usr/lib")  # as base-files has it
    stay_within(unpacked)
    unpacked.rename(tree)


def libraries(tree):
    return tree / "usr/lib" / f"{platform.machine()}-linux-gnu"


def with_loader(tree, program, *private):
    """How to run a program with the tree's own libraries, and those in private directories."""
    loader = next(libraries(tree).glob("ld-linux*.so.*"), None)
    if not loader:
        raise Unavailable(f"no dynamic loader in {libraries(tree)}")
    path = ":".join(str(directory) for directory in (libraries(tree), *private))
    return [str(loader), "--library-path", path, str(program)]
