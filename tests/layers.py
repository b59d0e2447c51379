#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds the tree to its layers (docs/ARCHITECTURE.md): who may include whom, and a few rules a compiler cannot see.

    layers.py [ROOT]          checks the tree; prints FILE:LINE: what is wrong; exits 1 if anything is
    layers.py --self-test     plants each violation in a tree of its own and sees that it is found
"""

import os
import re
import sys
import tempfile

LINES_MAX = 600

# Directory -> the directories whose headers it may include. A directory with C files must stand here; the
# longest entry that is a file's directory counts. "spebroker" is include/spebroker: the public headers.
LAYERS = {
    "include/spebroker": ["spebroker"],
    "idl": ["idl"],
    "util": ["util"],
    "varlink": ["util", "varlink"],
    "varlink/server": ["util", "varlink", "varlink/server"],
    "policy": ["util", "policy"],
    "host": ["util", "host"],
    "bpf": ["util", "bpf"],
    "broker": ["util", "varlink", "varlink/server", "policy", "host", "bpf", "idl", "broker"],
    "libspebroker": ["util", "varlink", "libspebroker", "spebroker"],
    "speadm": ["util", "varlink", "speadm", "spebroker"],
    "examples": ["spebroker"],
    "tests": ["util", "varlink", "varlink/server", "policy", "host", "bpf", "idl", "broker", "libspebroker", "speadm",
              "spebroker", "tests"],
}

# Directory -> headers of others (a prefix each) that have no business there.
FORBIDDEN = {
    "util": ["systemd/", "json-c/", "libsmartcols/", "ini_", "bpf/", "netlink/"],
    "varlink": ["systemd/", "libsmartcols/", "ini_", "bpf/", "netlink/"],
    "varlink/server": ["libsmartcols/", "ini_", "bpf/", "netlink/"],
    "policy": ["systemd/", "json-c/", "libsmartcols/", "ini_", "bpf/", "netlink/", "time.h", "sys/time.h", "fcntl.h", "unistd.h"],
    "host": ["json-c/", "libsmartcols/", "ini_", "bpf/"],
    "bpf": ["systemd/", "json-c/", "libsmartcols/", "ini_", "netlink/"],
    "broker": ["libsmartcols/", "bpf/", "netlink/"],
    "libspebroker": ["systemd/", "libsmartcols/", "ini_", "bpf/", "netlink/"],
    "speadm": ["ini_", "bpf/", "netlink/"],
    "examples": ["json-c/", "systemd/"],
    "include/spebroker": ["systemd/", "json-c/"],
}

# Headers that the build makes.
GENERATED = {"bpf/spe-arbiter.skel.h", "bpf/spe-gate.skel.h"}

# Conditional compilation belongs into headers that hide it. These may have it:
CONDITIONAL_OK = [
    re.compile(r"include/spebroker/[^/]+\.h$"),  # __cplusplus
    re.compile(r"util/[^/]+\.h$"),
    re.compile(r"tests/unit/failing-allocator\.h$"),  # replaces malloc(), which a sanitizer does itself
    re.compile(r"tests/vm/spe-test-pmu/"),  # one source for several kernels
]
# And this everybody: the number of a constant that an old C library does not name.
CONSTANT = re.compile(r"#ifndef (\w+)\n#define \1 +\S+\n#endif$")

SKIP_DIRS = {"build", "__pycache__", "corpus", "fixtures"}
SPDX = re.compile(r"SPDX-License-Identifier: (LGPL-2\.1-or-later|GPL-2\.0-only)\b")
SPDX_EXTENSIONS = (".c", ".h", ".py", ".go", ".cmake", ".sh", ".awk", ".map")
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')
CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif)\b")
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")


def layer_of(path, table):
    """The longest entry of the table that is a directory of path."""
    directory = os.path.dirname(path)
    while directory:
        if directory in table:
            return directory
        directory = os.path.dirname(directory)
    return None


def files_of(root):
    for directory, names, files in os.walk(root):
        names[:] = sorted(n for n in names if n not in SKIP_DIRS and (not n.startswith(".") or n == ".ci"))
        for name in sorted(files):
            path = os.path.relpath(os.path.join(directory, name), root)
            if not os.path.islink(os.path.join(root, path)):
                yield path


def check_include(root, path, layer, quoted, angled):
    if quoted:
        if quoted.startswith(".") or "/" not in quoted:
            return f'"{quoted}": write it from the root, so that its path tells its layer'
        target = quoted if not quoted.startswith("spebroker/") else "include/" + quoted
        if target not in GENERATED and not os.path.exists(os.path.join(root, target)):
            return f'"{quoted}": there is no such header'
        found = "spebroker" if target.startswith("include/") else layer_of(target, LAYERS)
    else:
        for prefix in FORBIDDEN.get(layer, []):
            if angled.startswith(prefix):
                return f"<{angled}>: {layer} does without it"
        if not angled.startswith("spebroker/"):
            return None
        found = "spebroker"
    if found not in LAYERS[layer]:
        return f'"{quoted or angled}": {layer} may not include {found}'
    return None


def check_c(root, path, lines):
    layer = layer_of(path, LAYERS)
    if not layer:
        yield 1, "this directory has no layer in tests/layers.py"
        return

    if path.endswith(".h") and not path.startswith("include/") and not any("#pragma once" in l for l in lines[:5]):
        yield 1, "a header begins with #pragma once"
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match:
            problem = check_include(root, path, layer, match.group(1), match.group(2))
            if problem:
                yield number, problem
        if CONDITIONAL.match(line) and not any(ok.match(path) for ok in CONDITIONAL_OK) \
                and not CONSTANT.match("\n".join(lines[number - 1:number + 2])):
            yield number, "conditional compilation: hide it in a header of util/"


def check_file(root, path):
    with open(os.path.join(root, path), "rb") as f:
        data = f.read()
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return
    script = data.startswith(b"#!")
    if script or path.endswith(SPDX_EXTENSIONS):
        if len(lines) > LINES_MAX:
            yield len(lines), f"{len(lines)} lines; at most {LINES_MAX}"
        if not any(SPDX.search(line) for line in lines[:3]):
            yield 1, "no SPDX line"
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            yield number, "unfinished work: do it, or open an issue"
    if path.endswith((".c", ".h")):
        yield from check_c(root, path, lines)


def check_tree(root):
    """Returns (problems, number of C files seen)."""
    problems = []
    n_c = 0
    for path in files_of(root):
        n_c += path.endswith((".c", ".h"))
        problems += [f"{path}:{number}: {text}" for number, text in check_file(root, path)]
    return problems, n_c


C = "/* SPDX-License-Identifier: LGPL-2.1-or-later */\n"
H = C + "#pragma once\n"
CLEAN = {
    "util/fs.h": H,
    "util/fs.c": C + '#include "util/fs.h"\n',
    "varlink/json.h": H + '#include <json-c/json.h>\n#include "util/fs.h"\n',
    "varlink/server/server.h": H + '#include <systemd/sd-event.h>\n#include "varlink/json.h"\n',
    "policy/decide.h": H + '#include "util/fs.h"\n',
    "host/owner.h": H + '#include "util/fs.h"\n',
    "bpf/probe.h": H + '#include "util/fs.h"\n',
    "bpf/probe.c": C + '#include <bpf/libbpf.h>\n#include "bpf/probe.h"\n',
    "host/owner.c": C + "#ifndef SO_NEW\n#define SO_NEW 7\n#endif\n",
    "broker/main.c": C + '#include "host/owner.h"\n#include "policy/decide.h"\n#include "varlink/server/server.h"\n',
    "include/spebroker/spebroker.h": C + "#ifdef __cplusplus\n#endif\n",
    "libspebroker/call.c": C + '#include "spebroker/spebroker.h"\n#include "varlink/json.h"\n',
    "examples/vmm/vmm.c": C + "#include <spebroker/spebroker.h>\n",
    "tests/unit/test-fs.c": C + '#include "util/fs.h"\n',
}
# What is planted, and what must be said about it.
PLANTED = [
    ("util/fs.c", C + '#include "varlink/json.h"\n', "util may not include varlink"),
    ("varlink/json.c", C + '#include "varlink/server/server.h"\n', "varlink may not include varlink/server"),
    ("varlink/json.c", C + "#include <systemd/sd-event.h>\n", "varlink does without it"),
    ("policy/decide.c", C + '#include "host/owner.h"\n', "policy may not include host"),
    ("policy/decide.c", C + "#include <time.h>\n", "policy does without it"),
    ("policy/decide.c", C + "#include <json-c/json.h>\n", "policy does without it"),
    ("host/owner.c", C + '#include "policy/decide.h"\n', "host may not include policy"),
    ("host/owner.c", C + '#include "bpf/probe.h"\n', "host may not include bpf"),
    ("bpf/probe.c", C + '#include "host/owner.h"\n', "bpf may not include host"),
    ("broker/main.c", C + "#include <bpf/libbpf.h>\n", "broker does without it"),
    ("broker/main.c", C + '#include "spebroker/spebroker.h"\n', "broker may not include spebroker"),
    ("speadm/main.c", C + '#include "policy/decide.h"\n', "speadm may not include policy"),
    ("libspebroker/call.c", C + "#include <systemd/sd-bus.h>\n", "libspebroker does without it"),
    ("examples/vmm/vmm.c", C + '#include "varlink/json.h"\n', "examples may not include varlink"),
    ("util/fs.c", C + '#include "fs.h"\n', "write it from the root"),
    ("util/fs.c", C + '#include "../host/owner.h"\n', "write it from the root"),
    ("util/fs.c", C + '#include "util/absent.h"\n', "no such header"),
    ("new/new.c", C, "has no layer"),
    ("util/fs.c", C + "\n" * LINES_MAX, f"at most {LINES_MAX}"),
    ("tools/test", "# SPDX-License-Identifier: GPL-2.0-only\n".join(["#!/bin/bash\n", "\n" * LINES_MAX]),
     f"at most {LINES_MAX}"),
    ("util/fs.c", "int x;\n", "no SPDX line"),
    ("tools/test", "#!/bin/bash\n", "no SPDX line"),
    ("util/fs.h", C, "#pragma once"),
    ("util/fs.c", C + "#ifdef HAVE_X\n#endif\n", "conditional compilation"),
    ("util/fs.c", C + "#ifndef SO_NEW\n#define SO_OLD 7\n#endif\n", "conditional compilation"),
    ("util/fs.c", C + "/* TO" + "DO: more */\n", "unfinished work"),
]


def plant(root, files):
    for path, text in files.items():
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def self_test():
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        plant(root, CLEAN)
        problems, _ = check_tree(root)
        if problems:
            print("a clean tree is not:", *problems, sep="\n  ")
            failed += 1
    for path, text, expected in PLANTED:
        with tempfile.TemporaryDirectory() as root:
            plant(root, {**CLEAN, path: text})
            problems, _ = check_tree(root)
            if len(problems) != 1 or not problems[0].startswith(path + ":") or expected not in problems[0]:
                print(f"planted in {path}, expected '{expected}', found: {problems}")
                failed += 1
    print(f"{len(PLANTED) + 1 - failed} of {len(PLANTED) + 1} as expected")
    return failed


def main(argv):
    if argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    root = argv[1] if len(argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    problems, n_c = check_tree(root)
    print(*problems, sep="\n" if problems else "")
    if n_c == 0:
        print("no C files below", root)
        return 1
    print(f"{n_c} C files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
