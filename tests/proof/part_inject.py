# SPDX-License-Identifier: MIT
"""Every system call of every main flow fails once, at each occurrence, with each error that its manual page lists; and
backends that break their contract."""

import re

import common
from common import Figure

DONE = re.compile(r"^(?:# )?(\S.*): (\d+) failures$", re.M)
TESTS = ("flow_inject", "flow_inject_process", "flow_hostile")


def figures():
    where = common.build("build", ["-Dchecks=true"])
    tests = [test for test in common.tests_of(where, ["flow"]) if test.name in TESTS]
    found, injections, flows, bad = [], 0, 0, []
    for outcome in common.in_parallel(lambda test: common.run(test, 600), tests):
        for _, n in DONE.findall(outcome.text()):
            injections += int(n)
            flows += 1
        if not outcome.good():
            common.report_failure(outcome)
            bad.append(outcome.test.name)
        found.append(Figure(f"inject: {outcome.test.name}: cases passed", outcome.passed, "> 0", outcome.passed > 0))
    return found + [
        Figure("inject: flows", flows, "> 0", flows > 0),
        Figure("inject: injections done", injections, "> 0", injections > 0),
        Figure("inject: programs that failed", " ".join(bad) or "none", "none", not bad),
    ]
