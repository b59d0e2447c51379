# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs build against the installed tree, by pkg-config and by find_package, wherever it has been moved to."""

import os
import pathlib
import shutil
import subprocess
import threading

import harness

SOURCE = pathlib.Path(os.environ["SPE_SOURCE_DIR"])
SANITIZE = os.environ["SPE_SANITIZE"]
FLAGS = ["-Wall", "-Wextra", "-Werror"] + ([f"-fsanitize={SANITIZE}"] if SANITIZE else [])

PROJECT = """cmake_minimum_required(VERSION 3.25)
project(consumer C)
find_package(spebroker 0.1 REQUIRED)
add_executable(vmm vmm.c)
target_link_libraries(vmm PRIVATE spebroker::spebroker)
"""


def run(*command, **kwargs):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **kwargs)
    if result.returncode:
        raise AssertionError(f"{command}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


class TestInstalled(harness.TestCase):
    def install(self):
        """Into one prefix, and then moved to another."""
        directory = self.directory()
        run("cmake", "--install", os.environ["SPE_LIBRARY_DIR"], "--prefix", directory / "first")
        (directory / "first").rename(directory / "moved")
        return directory / "moved"

    def vmm_works(self, program, library_path=None):
        """It takes a lease of a real daemon, and ends without one."""
        broker = self.broker(simulate="biglittle")
        environment = dict(os.environ)
        if library_path:
            environment["LD_LIBRARY_PATH"] = str(library_path)
        process = subprocess.Popen([program, broker.socket_path, "installed"], stdout=subprocess.PIPE, text=True,
                                   env=environment)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        watchdog = threading.Timer(harness.DEADLINE, process.kill)
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        self.assertRegex(process.stdout.readline(), "^lease [0-9a-f]{32}: arm_spe_0$")
        self.assertEqual([l["vm"] for l in broker.call("ListLeases")["leases"]], ["installed"])
        process.terminate()
        self.assertEqual(process.stdout.read().splitlines()[-1], "released")
        self.assertEqual(process.wait(harness.DEADLINE), 0)
        self.assert_idle(broker)

    def test_layout(self):
        prefix = self.install()
        version = run("pkg-config", "--modversion", "spebroker",
                      env=os.environ | {"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}).strip()
        files = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if not path.is_dir()}
        for name in ("include/spebroker/spebroker.h", "include/spebroker/kvm.h", "lib/libspebroker.so", "lib/libspebroker.so.0",
                     f"lib/libspebroker.so.{version}", "lib/pkgconfig/spebroker.pc",
                     "lib/cmake/spebroker/spebroker-config.cmake"):
            self.assertIn(name, files)
        self.assertFalse([name for name in files if name.endswith(".a")], "only the shared library is installed")
        for name in files:
            if name.endswith((".pc", ".cmake", ".h")):
                self.assertNotIn(str(prefix.parent), (prefix / name).read_text(), f"{name} knows where it was put")

    def test_pkg_config(self):
        prefix = self.install()
        flags = run("pkg-config", "--cflags", "--libs", "spebroker",
                    env=os.environ | {"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}).split()
        self.assertNotIn("json", " ".join(flags), "a consumer needs no json-c to build")
        program = prefix.parent / "vmm"
        run(os.environ["CC"], *FLAGS, "-o", program, SOURCE / "examples/vmm.c", *flags)
        self.vmm_works(program, prefix / "lib")

    def test_find_package(self):
        prefix = self.install()
        consumer = prefix.parent / "consumer"
        consumer.mkdir()
        shutil.copy(SOURCE / "examples/vmm.c", consumer)
        (consumer / "CMakeLists.txt").write_text(PROJECT)
        run("cmake", "-S", consumer, "-B", consumer / "build", f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_C_FLAGS={' '.join(FLAGS)}")
        run("cmake", "--build", consumer / "build")
        self.vmm_works(consumer / "build/vmm")

    def test_program_of_the_man_page(self):
        prefix = self.install()
        page = (SOURCE / "man/libspebroker.3.scd").read_text()
        text = next(part for part in page.split("```\n") if "int main" in part)
        source = prefix.parent / "program.c"
        source.write_text(text.replace("\\\\", "\\"))
        run(os.environ["CC"], *FLAGS, "-o", prefix.parent / "program", source, f"-I{prefix / 'include'}",
            f"-L{prefix / 'lib'}", "-lspebroker", f"-Wl,-rpath,{prefix / 'lib'}")
        broker = self.broker(simulate="biglittle")
        self.assertEqual(run(prefix.parent / "program", broker.socket_path),
                         "SPU 8, VCPU threads on CPUs 0-3, 4194304 bytes of buffer\n")
        self.assert_idle(broker)
        broker.call("Assign", cpus="0-11", owner="host", runtime=True)
        with self.assertRaisesRegex(AssertionError, "CPUs .* are assigned to host"):
            run(prefix.parent / "program", broker.socket_path)

    def test_find_package_of_another_version(self):
        prefix = self.install()
        consumer = prefix.parent / "consumer"
        consumer.mkdir()
        (consumer / "CMakeLists.txt").write_text(PROJECT.replace("0.1", "9.0"))
        result = subprocess.run(["cmake", "-S", consumer, "-B", consumer / "build",
                                 f"-DCMAKE_PREFIX_PATH={prefix}"], capture_output=True, text=True, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("compatible with requested version", result.stderr)


if __name__ == "__main__":
    harness.main()
