# SPDX-License-Identifier: LGPL-2.1-or-later
"""The arbiter alone (tests/vm/arbiter-tool.c), without the daemon."""

import json
import os
import subprocess

PROGRAM = os.path.join(os.environ.get("SPE_BUILD_DIR", "."), "tests/vm/arbiter-tool")


class Arbiter:
    def __init__(self, hook="lsm"):
        self.process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.state = self.say("new", hook)

    @property
    def hook(self):
        return self.state["hook"]

    def say(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"arbiter-tool ended with {self.process.wait()} at {words}")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{words}: {answer['error']}")
        return answer

    def again(self, hook):
        self.state = self.say("again", hook)
        return self.state

    def close_cpus(self, cpu_wide="-", task_bound="-"):
        self.say("close", cpu_wide, task_bound)

    def sessions(self):
        return self.say("read")["sessions"]

    def refusals(self):
        return self.say("process")["refusals"]

    def counters(self):
        return self.say("counters")

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
