# SPDX-License-Identifier: MIT
"""The coherence code explored exhaustively, and again with each of the seeded mistakes."""

import re
import sys

import common
from common import Figure

# "2 agents, 2 pages: N states at rest (...), N steps, N moments checked", and the like of the requests.
STATES = re.compile(r"(\d+ agents, \d+ pages[^:\n]*): (\d+) states[^,\n]*, (\d+) steps, (\d+) (\w+)")
MISTAKES = 10


def figures():
    where = common.build("build", ["-Dchecks=true"])
    tests = common.tests_of(where, ["random"])
    explorers = [test for test in tests if test.name in ("random_coherence", "random_serving")]
    found = []
    for outcome in common.in_parallel(lambda test: common.run(test, 600), explorers):
        if not outcome.good():
            common.report_failure(outcome)
        for what, states, steps, others, of in STATES.findall(outcome.text()):
            name = f"{outcome.test.name}: {what}"
            found += [Figure(f"explore: {name}: states", int(states)),
                      Figure(f"explore: {name}: steps", int(steps)),
                      Figure(f"explore: {name}: {of}", int(others))]
        found.append(Figure(f"explore: {outcome.test.name}: violations", 0 if outcome.good() else "found", "0",
                            outcome.good()))

    text = common.run_quietly([sys.executable, "-B", common.path("tests/random/seeded_mistakes.py"), common.ROOT, "cc"],
                              what="seeded_mistakes.py")
    mistakes = len(re.findall(r"^ok \d+ - found: ", text, re.M))
    missed = len(re.findall(r"^not ok ", text, re.M))
    found.append(Figure("explore: seeded mistakes found", mistakes, f">= {MISTAKES}", mistakes >= MISTAKES))
    found.append(Figure("explore: seeded mistakes missed", missed, "0", missed == 0))
    return found
