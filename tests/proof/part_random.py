# SPDX-License-Identifier: MIT
"""The random differential test for a minute, in a process per core."""

import re
import time

import common
from common import Figure

SECONDS = 60
DONE = re.compile(r"(\d+) rounds, (\d+) operations, (\d+) devices lost, (\d+) pages lost")


def figures():
    where = common.build("build", ["-Dchecks=true"])
    [test] = [test for test in common.tests_of(where, ["random"]) if test.name == "random_flow"]
    # Seeds count upwards from the first, one a round.
    first = int(time.time()) * 1000
    seeds = [first + i * 10**9 for i in range(common.JOBS)]

    def run(seed):
        env = {"SVM_TEST_SEED": str(seed), "SVM_TEST_SECONDS": str(SECONDS)}
        # One tests itself, too: it leaves a file while it does, which another would take for its own.
        if seed != first:
            env["SVM_TEST_ONLY"] = "1"
        return seed, common.run(test, SECONDS + 300, env=env)

    sums, bad = [0, 0, 0, 0], []
    for seed, outcome in common.in_parallel(run, seeds, common.JOBS):
        done = DONE.search(outcome.text())
        if done:
            sums = [a + int(b) for a, b in zip(sums, done.groups())]
        if not outcome.good() or not done:
            common.report_failure(outcome)
            bad.append(str(seed))
    return [
        Figure("random: first seeds", " ".join(map(str, seeds))),
        Figure("random: rounds (a seed each)", sums[0], "> 0", sums[0] > 0),
        Figure("random: operations", sums[1], "> 0", sums[1] > 0),
        Figure("random: devices lost on the way", sums[2]),
        Figure("random: pages lost with them and reported", sums[3]),
        Figure("random: runs that disagree with the flat array", " ".join(bad) or 0, "0", not bad),
    ]
