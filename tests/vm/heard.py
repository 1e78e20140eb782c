# SPDX-License-Identifier: MIT
"""What came out of a guest: results of tests, from its second and third serial ports; the kernel's
complaints, from its first."""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from results import Program  # noqa: E402

COMPLAINT = re.compile(r"WARNING:|BUG:|BUG |\bOops\b|Kernel panic|general protection fault|Call Trace:|"
                       r"self-detected stall|detected stalls|rcu.*kthread starved|blocked for more than|soft lockup|"
                       r"hard LOCKUP|Out of memory|refcount_t|UBSAN|KASAN|list_(?:add|del) corruption|bad page")
STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s*(?:\[[^]]*\]\s*)?")
# What a kernel says about the machine that QEMU makes, not about what runs on it.
NOISE = ()
# Between two lines, which a test writes to /dev/kmsg, something is done on purpose that the kernel may complain of:
# {first line: (last line, complaints)}. A process may run out of memory. And where the coherent memory of test_hmm
# is full, the driver tries for each page to map what it has mapped (lib/test_hmm.c, dmirror_allocate_chunk()).
ON_PURPOSE = {
    "svm-test: memory runs out on purpose": (
        "svm-test: memory is there again", re.compile(r"^(?:Call Trace:|Out of memory)")),
    "svm-test: a device is filled on purpose": (
        "svm-test: the device is full",
        re.compile(r"^(?:Call Trace:|WARNING: mm/memremap\.c:\d+ at memremap_pages\+)")),
}
# With CONFIG_DEBUG_VM a kernel shows where it was when it refused a fault to userfaultfd because its caller cannot wait
# (fs/userfaultfd.c, handle_userfault()). The library asks for just that: FUTEX_WAKE_OP, /proc/self/mem.
NO_WAIT = "FAULT_FLAG_ALLOW_RETRY missing"


class Lane:
    """What comes from one port: entries, one after the other."""

    def __init__(self):
        self.name = None  # of the entry that runs
        self.texts = {}
        self.part = None


class Ear:
    """Takes the lines of the ports as they come."""

    def __init__(self, limits, log, echo):
        self.limits = limits  # test -> seconds
        self.log = log        # file: all that was said, each line after the seconds it took to come and its lane
        self.echo = echo      # bool: say what a live entry says
        self.begin = time.monotonic()
        self.lanes = [Lane(), Lane()]
        self.programs = []
        self.troubles = []
        self.notes = []
        self.seconds = {}
        self.release = None
        self.done = False
        self.status = None    # of the last entry

    def hear(self, number, line):
        lane = self.lanes[number]
        self.log.write(f"{time.monotonic() - self.begin:8.2f} {number} {line}\n")
        self.log.flush()
        if not line.startswith("##vm "):
            self.hear_text(lane, line)
            return
        word, _, rest = line[5:].partition(" ")
        if word == "up":
            self.release = rest
        elif word == "trouble":
            self.troubles.append(rest)
            print(f"vm: the guest has trouble: {rest}", flush=True)
        elif word == "note":
            self.notes.append(rest)
        elif word == "begin":
            lane.name = rest
            lane.texts = {}
            lane.part = "live"
        elif word in ("stdout", "stderr"):
            lane.part = word
        elif word == "end":
            self.end(lane, *rest.split())
        elif word == "done":
            self.done = True

    def hear_text(self, lane, line):
        if lane.name is None:
            if line.strip():
                self.troubles.append(line.strip())
            return
        if lane.part == "live" and self.echo:
            print(line, flush=True)
        lane.texts.setdefault(lane.part, []).append(line)

    def end(self, lane, status, begin, now):
        status = int(status)
        seconds = float(now) - float(begin)
        limit = self.limits.get(lane.name)
        result = {0: "OK", 77: "SKIP"}.get(status, "FAIL")
        if status == 137 and limit and seconds >= limit:
            result = "TIMEOUT"
        self.status = status
        self.seconds[lane.name] = seconds
        if limit:
            program = Program({"name": lane.name, "result": result, "returncode": status,
                               "stdout": "\n".join(lane.texts.get("stdout", []))})
            self.programs.append(program)
            print(f"{lane.name}: {program.passed} passed, {len(program.failures)} failed, "
                  f"{len(program.skips)} skipped, {seconds:.1f} s", flush=True)
            if program.failures:
                # Of standard output what is not a case that passed, then the end of standard error.
                said = [text for text in lane.texts.get("stdout", []) if text.strip() and text[:3] != "ok "]
                said += [text for text in lane.texts.get("stderr", []) if text.strip()][-40:]
                print("\n".join(said[-100:]), flush=True)
        lane.name = None

    def failures(self):
        """What went wrong outside of test programs, as (what, text)."""
        failures = [("guest", text) for text in self.troubles]
        running = [lane.name for lane in self.lanes if lane.name is not None]
        failures += [(name, "the guest ended while it ran") for name in running]
        if not running and not self.done:
            failures.append(("guest", "it ended before its list did"))
        return failures


def complaints(path):
    """The lines in which the kernel complains, each once."""
    found = []
    on_purpose = None
    traces = 0  # that belong to NO_WAIT
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                text = STAMP.sub("", line.strip())
                if on_purpose and text == on_purpose[0]:
                    on_purpose = None
                on_purpose = ON_PURPOSE.get(text, on_purpose)
                if on_purpose and on_purpose[1].search(text):
                    continue
                traces += text.startswith(NO_WAIT)
                if traces and text.startswith("Call Trace:"):
                    traces -= 1
                    continue
                if COMPLAINT.search(text) and text not in found and not any(re.search(n, text) for n in NOISE):
                    found.append(text)
    except OSError:
        found.append("no kernel log")
    return found
