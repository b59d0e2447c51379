# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages and the README against the programs, the interface descriptions and the tree."""

import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(os.environ["SPE_SOURCE_DIR"])
PAGES = pathlib.Path(os.environ["SPE_MAN_DIR"])
sys.path.insert(0, str(SOURCE / "tests/daemon"))

import idl  # noqa: E402

# What scdoc writes and mandoc frowns at; everything else it says is about the text.
SCDOC_OWN = re.compile(r"STYLE: (input text line longer|lower case character in document title)|"
                       r"WARNING: skipping paragraph macro")


def plain(text):
    """scdoc source without its escapes."""
    return re.sub(r"\\(.)", r"\1", text)


def output(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def tables(kind):
    lines = [line.split("\t") for line in output(os.environ["SPE_TABLES"]).splitlines()]
    return [fields[1:] for fields in lines if fields[0] == kind]


class Reference(unittest.TestCase):
    """io.spebroker.Broker(7) has every member of the interfaces, with its type and a comment."""

    def sections(self):
        """{"METHODS OF x": {"Describe": text}} of the generated source."""
        text = plain((PAGES / "io.spebroker.Broker.7.scd").read_text())
        found = {}
        for part in re.split(r"^# ", text, flags=re.M)[1:]:
            title, _, body = part.partition("\n")
            found[title] = {"": body}
            for member in re.split(r"^## ", body, flags=re.M)[1:]:
                name, _, words = member.partition("\n")
                found[title][name] = words
        return found

    def check_struct(self, declared, text, where):
        members = re.findall(r"^\*(\w+)\*(?:: (\S+))?$\n\t(\S)", text, flags=re.M)
        names = declared.words if isinstance(declared, idl.Enum) else list(declared.fields)
        self.assertEqual([m[0] for m in members], names, where)

    def test_every_member_is_there(self):
        sections = self.sections()
        seen = set()
        for path in sorted((SOURCE / "idl").glob("*.varlink"), reverse=True):
            interface = idl.Interface(path.read_text())
            types = sections["TYPES OF " + interface.name]
            for name, declared in interface.types.items():
                if name not in types:
                    self.assertIn(name, seen, f"{interface.name}: type {name}")
                    self.assertIn(f"_{name}_", types[""])
                else:
                    self.check_struct(declared, types[name], f"type {name}")
            seen |= set(interface.types)
            for name, declared in interface.errors.items():
                self.check_struct(declared, sections["ERRORS OF " + interface.name][name], f"error {name}")
            for name, (given, answered) in interface.methods.items():
                text = sections["METHODS OF " + interface.name][name]
                for member in [*given.fields, *answered.fields]:
                    self.assertRegex(text, rf"\b{member}\b", f"method {name}")
        self.assertTrue(seen)

    def test_every_type_is_as_declared(self):
        text = plain((PAGES / "io.spebroker.Broker.7.scd").read_text())
        for path in (SOURCE / "idl").glob("*.varlink"):
            for name, kind in re.findall(r"^  (\w+): ([^ ,\n]+),?$", path.read_text(), flags=re.M):
                self.assertIn(f"*{name}*: {kind}\n", text, path.name)


class ConfigurationKeys(unittest.TestCase):
    """spe-broker.conf(5) has the keys and the defaults of the table that the daemon reads by."""

    def documented(self):
        text = plain((SOURCE / "man/spe-broker.conf.5.scd").read_text())
        found = {}
        for part in re.split(r"^# ", text, flags=re.M)[1:]:
            title, _, body = part.partition("\n")
            if not title.startswith("["):
                continue
            section = title.strip("[]").split()[0].lower()
            for key, words in re.findall(r"^\*(\w+)=\*\n((?:\t.*\n)+)", body, flags=re.M):
                words = " ".join(words.split())
                default = re.search(r"Default: (?:\*(\S+)\*|empty)[.,]", words)
                self.assertTrue(default, f"[{title}] {key}= has no default: {words}")
                found[section, key] = default.group(1) or ""
        return found

    def test_keys_and_defaults(self):
        read = {(section.split()[0].lower(), name): default for section, name, default in tables("key")}
        self.assertTrue(read)
        self.assertEqual(self.documented(), read)


class Options(unittest.TestCase):
    def test_daemon(self):
        told = set(re.findall(r"(?<![\w-])--[a-z-]+", output(os.environ["SPE_BROKER"], "--help")))
        page = plain((SOURCE / "man/spe-broker.8.scd").read_text())
        documented = set(re.findall(r"^\*(?:-\w\*, \*)?(--[a-z-]+)\*", page, flags=re.M))
        self.assertEqual(documented, told)

    def test_simulated_hosts(self):
        names = [fields[0] for fields in tables("simulate")]
        page = plain((SOURCE / "man/spe-broker.8.scd").read_text())
        listed = re.search(r"^\*--simulate\* _NAME_\n((?:\t.*\n)+)", page, flags=re.M).group(1)
        self.assertEqual(sorted(re.findall(r"\*([a-z0-9-]+)\*", listed)), sorted(names))


class Privileges(unittest.TestCase):
    """What is said of the capabilities of the service is what its unit, and the drop-in of the Debian package, give."""

    NUMBERS = "no one two three four five six seven eight nine ten".split()
    ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth".split()

    @staticmethod
    def capabilities(name):
        """Those of a unit file, and its comments."""
        text = (SOURCE / name).read_text()
        found = re.search(r"(?m)^CapabilityBoundingSet=(.*)$", text).group(1).split()
        return found, " ".join(re.findall(r"(?m)^# (.*)$", text))

    def test_capabilities(self):
        unit, comments = self.capabilities("systemd/spe-broker.service")
        package, reasons = self.capabilities("debian/10-perf-event-paranoid.conf")
        for name in unit:
            self.assertRegex(comments, rf"\b{name}[:,]", "the unit says what it is for")
        for name in package:
            self.assertIn(name, reasons)
        readme = " ".join((SOURCE / "README.md").read_text().split())
        said = re.findall(r"(\w+) capabilities \(the Debian package adds a (\w+)", readme)
        self.assertEqual(said, [(self.NUMBERS[len(unit)], self.ORDINALS[len(set(unit + package))])])


class Lint(unittest.TestCase):
    def test_pages(self):
        pages = sorted(glob.glob(str(PAGES / "*.[1-8]")))
        self.assertGreaterEqual(len(pages), 3)
        if not shutil.which("mandoc"):
            self.skipTest("no mandoc")
        for page in pages:
            text = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False).stdout
            self.assertEqual([line for line in text.splitlines() if not SCDOC_OWN.search(line)], [])

    def test_references(self):
        """SEE ALSO and the text name pages of ours that exist, and the sections are theirs."""
        ours = {os.path.basename(p).rsplit(".", 1)[0]: p[-1] for p in glob.glob(str(PAGES / "*.[1-8]"))}
        for source in [*(SOURCE / "man").glob("*.scd"), *(SOURCE / "man").glob("*.scd.in")]:
            for name, section in re.findall(r"\*([\w.-]+)\*\((\d)\)", plain(source.read_text())):
                if name.startswith(("spe-broker", "speadm", "libspebroker", "io.spebroker")):
                    self.assertEqual(ours.get(name), section, f"{source.name} refers to {name}({section})")


class Tree(unittest.TestCase):
    """Links and names of files in the documents lead somewhere."""

    def test_links(self):
        documents = [SOURCE / "README.md", *(SOURCE / "docs").glob("*.md")]
        self.assertGreaterEqual(len(documents), 2)
        for document in documents:
            text = document.read_text()
            for target in re.findall(r"\]\(([^)#:]+)\)", text):
                self.assertTrue((document.parent / target).exists(), f"{document.name} links to {target}")
            names = r"`((?:%s)/[\w./-]*)`" % "|".join(p.name for p in SOURCE.iterdir() if p.is_dir())
            for name in re.findall(names, text):
                self.assertTrue(name.startswith("build/") or (SOURCE / name).exists(),
                                f"{document.name} names {name}")

    def test_version(self):
        version = re.search(r"project\(spe-broker VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text()).group(1)
        self.assertRegex((SOURCE / "NEWS").read_text(), rf"(?m)^{re.escape(version)}\b")
        self.assertIn(version, output(os.environ["SPE_BROKER"], "--version"))
        self.assertIn(version, output(os.environ["SPEADM"], "--version"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
