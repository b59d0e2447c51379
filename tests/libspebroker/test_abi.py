# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libspebroker.so promises to a linker: its symbols are a committed list, and it needs next to nothing."""

import os
import pathlib
import re
import subprocess
import unittest

SOURCE = pathlib.Path(os.environ["SPE_SOURCE_DIR"])
HEADERS = [SOURCE / "include/spebroker" / name for name in ("spebroker.h", "kvm.h")]
LIBRARY = os.environ["SPE_LIBRARY"]


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def dynamic(tag):
    return re.findall(rf"\({tag}\).*\[(.*)\]", output("readelf", "--dynamic", "--wide", LIBRARY))


def exported():
    """The names, and the node of each."""
    lines = output("nm", "--dynamic", "--defined-only", LIBRARY).splitlines()
    return sorted(line.split()[-1] for line in lines)


class TestAbi(unittest.TestCase):
    def test_symbols(self):
        committed = (SOURCE / "libspebroker/libspebroker.symbols").read_text().split()
        self.assertEqual(exported(), sorted(committed))

    def test_header_declares_what_is_exported(self):
        declared = {name for header in HEADERS
                    for name in re.findall(r"^\w[\w ]*\**(spebroker_\w+)\(", header.read_text(), re.MULTILINE)}
        names = {symbol.split("@@")[0] for symbol in exported() if "@@" in symbol}
        self.assertEqual(names, declared)
        self.assertGreater(len(names), 50)

    def test_soname(self):
        self.assertEqual(dynamic("SONAME"), ["libspebroker.so.0"])

    def test_needs_libc_and_json_c_alone(self):
        if os.environ["SPE_SANITIZE"]:
            self.skipTest("a sanitizer brings its own libraries")
        needed = [re.sub(r"\.so.*", "", name) for name in dynamic("NEEDED")]
        self.assertEqual(sorted(needed), ["libc", "libjson-c"])

    def test_header_stands_alone(self):
        for language, standard in (("c", "c99"), ("c", "c17"), ("c++", "c++11"), ("c++", "c++20")):
            for header in HEADERS:
                with self.subTest(standard, header=header.name):
                    self.compile_twice(language, standard, header)

    def compile_twice(self, language, standard, header):
        include = f"#include <spebroker/{header.name}>\n"
        subprocess.run(["cc", "-x", language, f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror",
                        "-fsyntax-only", "-I", str(SOURCE / "include"), "-"], check=True, text=True, input=2 * include)

    def test_header_needs_no_json_c(self):
        for header in HEADERS:
            self.assertNotIn("json", header.read_text())
            self.assertNotIn("#include <linux/", header.read_text())

    def test_every_declaration_is_documented(self):
        """Each one follows a comment, or a declaration that it shares one with."""
        undocumented = []
        for block in [block for header in HEADERS for block in re.split(r"\n\n+", header.read_text())]:
            name = re.search(r"^\w[\w ]*\**(spebroker_\w+)\(", block, re.MULTILINE)
            if name and "/*" not in block[:name.start()] and not name[1].endswith(("_ref", "_unref")):
                undocumented.append(name[1])
        self.assertEqual(undocumented, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
