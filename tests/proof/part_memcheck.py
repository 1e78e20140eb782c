# SPDX-License-Identifier: MIT
"""The unit tests under valgrind's memcheck: no errors, nothing definitely lost.

valgrind runs one thread at a time and cannot let another run while one waits for userfaultfd: programs whose
threads serve each other's faults never end under it. They are named in CANNOT, with the reason, and run under
AddressSanitizer instead (`./dev asan`).
"""

import re
import shutil

import common
from common import Figure, ProofError, say

FAULTS = "touches memory whose faults another thread of it serves, and valgrind runs one thread at a time"
LOOP = "runs the event loop, and valgrind knows no epoll_pwait2(2) and no io_uring"
CANNOT = {
    "unit_backend": LOOP,
    "unit_device": LOOP,
    "unit_fence": LOOP,
    "unit_host": FAULTS,
    "unit_loop": LOOP,
    "unit_native": LOOP,
    "unit_serve": FAULTS,
    "unit_soft": FAULTS,
    "unit_uffd": FAULTS,
}
SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) errors")
LOST = re.compile(r"definitely lost: ([\d,]+) bytes")
TIMEOUT = 240


def figures():
    if not shutil.which("valgrind"):
        raise ProofError("valgrind is missing")
    where = common.build("build", ["-Dchecks=true"])
    tests = common.tests_of(where, ["unit"])
    # One run of each program: the launcher of emulated devices is nothing for valgrind.
    tests = [test for test in tests if test.command == [test.program()]]
    for test in tests:
        if test.name in CANNOT:
            say(f"memcheck: {test.name} is left out: {CANNOT[test.name]}")
    command = ["valgrind", "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite",
               "--error-exitcode=99", "--child-silent-after-fork=yes", "--fair-sched=yes", "-q"]

    def run(test):
        return common.run(test, TIMEOUT, prefix=command)

    bad, cases, done, skipped = [], 0, 0, 0
    for outcome in common.in_parallel(run, [test for test in tests if test.name not in CANNOT]):
        say(f"memcheck: {outcome.test.name}: {outcome.seconds:.1f} s, {outcome.passed} passed, {outcome.skipped} skipped")
        cases += outcome.passed
        skipped += outcome.skipped
        done += 1
        if not outcome.good():
            common.report_failure(outcome)
            bad.append(outcome.test.name)
    left_out = sorted(name for name in CANNOT if name in {test.name for test in tests})
    return [
        Figure("memcheck: unit programs run", done, "> 0", done > 0),
        Figure("memcheck: cases passed", cases, "> 0", cases > 0),
        Figure("memcheck: cases skipped, with a reason", skipped),
        Figure("memcheck: programs left out (faults in one process)", " ".join(left_out) or "none"),
        Figure("memcheck: programs with errors, leaks or failures", " ".join(bad) or "none", "none", not bad),
    ]
