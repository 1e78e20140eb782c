# SPDX-License-Identifier: MIT
"""ThreadSanitizer over the flow tests, on soft devices and in one setting on emulated ones, and the random test.

The whole of it is `./dev tsan`. Here a share of the time: each program runs until its time is up, which is no
failure; the random test gets what is left.
"""

import os
import shutil

import common
from common import Figure, ProofError

OPTIONS = ["-Dchecks=true", "-Db_sanitize=thread", "-Db_lundef=false"]
RANDOM_SECONDS = 40
FLOW_SECONDS = 25


def figures():
    where = common.build("build-tsan", OPTIONS, compiler="clang")
    tests, left_out = common.one_setting_each(common.tests_of(where, ["flow"]))
    tests += [test for test in common.tests_of(where, ["random"]) if test.name == "random_flow"]
    # The run-time library wants fixed address ranges, which a kernel with many random bits in mmap gives away.
    prefix = ["setarch", "-R"] if shutil.which("setarch") else []
    env = {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:" + os.environ.get("TSAN_OPTIONS", ""),
           # Of the random test what is random: its tests of itself take longer than that here.
           "SVM_TEST_SECONDS": str(RANDOM_SECONDS), "SVM_TEST_QUICK": "1", "SVM_TEST_ONLY": "1"}

    def run(test):
        limit = FLOW_SECONDS if "flow" in test.suites else RANDOM_SECONDS + 120
        return common.run(test, limit, env=env, prefix=prefix)

    bad, cut, cases = [], [], 0
    # The longest first.
    tests.sort(key=lambda test: test.name != "random_flow")
    for outcome in common.in_parallel(run, tests):
        cases += outcome.passed
        if "ThreadSanitizer" in outcome.text() or outcome.failed:
            bad.append(outcome.test.name)
        elif outcome.stopped and "flow" in outcome.test.suites:
            cut.append(outcome.test.name)
        elif not outcome.good():
            bad.append(outcome.test.name)
        if bad and bad[-1] == outcome.test.name:
            common.report_failure(outcome)
    if not tests:
        raise ProofError("no tests found")
    return [
        Figure("tsan: cases passed", cases, "> 0", cases > 0),
        Figure("tsan: settings of emulated devices left out", left_out),
        Figure(f"tsan: programs not done after {FLOW_SECONDS} s", " ".join(cut) or "none"),
        Figure("tsan: programs with a report or a failure", " ".join(bad) or "none", "none", not bad),
    ]
