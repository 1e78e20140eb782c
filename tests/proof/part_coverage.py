# SPDX-License-Identifier: MIT
"""Line and branch coverage of the library by its tests, by file.

Each test program writes counts of its own, so that it is also known which program reaches which line: that is
what part_mutation.py chooses programs by. Counts come from a build with gcov; a forked child leaves its own
behind by way of the fixture (see tests/fixture.c).
"""

import gzip
import json
import os
import shutil
import subprocess

import common
from common import Figure, ProofError, say

BUILD = "build-coverage"
SUITES = ["unit", "flow", "random"]
LINES = 95.0
# What they reach is reached by unit tests as well, and without optimisation they take minutes.
NOT_HERE = {"random_coherence", "random_serving"}
RANDOM_SECONDS = "20"
OPTIONS = ["-Db_coverage=true", "-Dchecks=true", "-Dc_args=-fprofile-update=atomic -DSVM_PLAIN_COPIES", "--buildtype=debug",
           "-Dexamples=false", "-Dtools=false"]


class Lines:
    """One source file: how often lines ran and branches were taken, over all programs."""

    def __init__(self):
        self.lines, self.branches = {}, {}

    def add(self, line):
        number = line["line_number"]
        self.lines[number] = self.lines.get(number, 0) + line["count"]
        taken = [branch["count"] for branch in line["branches"] if not branch["throw"]]
        before = self.branches.get(number, [0] * len(taken))
        if len(before) == len(taken):
            self.branches[number] = [a + b for a, b in zip(before, taken)]

    def line_counts(self):
        return sum(count > 0 for count in self.lines.values()), len(self.lines)

    def branch_counts(self):
        all_branches = [count for counts in self.branches.values() for count in counts]
        return sum(count > 0 for count in all_branches), len(all_branches)


def percent(part, whole):
    return 100.0 * part / whole if whole else 100.0


def notes(where):
    """The .gcno files of the library, from the build directory."""
    for top, _, names in os.walk(os.path.join(where, "src", "libsvm_internal.a.p")):
        for name in names:
            if name.endswith(".gcno"):
                yield os.path.join(top, name)


def read_counts(where, data):
    """What one program left in its directory: source file (from the root) -> gcov's lines."""
    for note in notes(where):
        counts = os.path.join(data, os.path.relpath(note, "/"))[:-len("gcno")] + "gcda"
        if os.path.exists(counts):
            os.symlink(note, counts[:-len("gcda")] + "gcno")
    found = [os.path.join(top, name) for top, _, names in os.walk(data) for name in names
             if name.endswith(".gcda") and os.path.exists(os.path.join(top, name[:-4] + "gcno"))]
    if not found:
        return {}
    done = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", *found], cwd=data,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise ProofError("gcov: " + done.stderr.decode("utf-8", "replace")[-500:])
    files = {}
    for document in done.stdout.splitlines():
        if not document.strip():
            continue
        for file in json.loads(document)["files"]:
            name = os.path.relpath(os.path.join(where, file["file"]), common.ROOT)
            if name.endswith(".c") and not name.startswith(".."):
                files.setdefault(name, []).extend(file["lines"])
    return files


def measure(where, data):
    """Run everything; returns total lines by file, and the programs as part_mutation.py wants them."""
    shutil.rmtree(data, ignore_errors=True)
    tests, left_out = common.one_setting_each(common.tests_of(where, SUITES))
    say(f"coverage: left out: {left_out} more settings of emulated devices, {' '.join(sorted(NOT_HERE))}")
    tests = [test for test in tests if test.name not in NOT_HERE]
    # What takes longest goes first: the last ones to end are then short.
    known = load(where) or {"programs": {}}
    tests.sort(key=lambda test: -known["programs"].get(test.name, {}).get("seconds", 60))
    totals, programs, bad = {}, {}, []

    def run(test):
        own = os.path.join(data, test.name.replace("/", "_").replace(" ", "_"))
        os.makedirs(own)
        env = {"GCOV_PREFIX": own, "SVM_TEST_SECONDS": RANDOM_SECONDS, "SVM_TEST_SEED": "1", "SVM_TEST_QUICK": "1"}
        outcome = common.run(test, test.timeout * 4, env=env)
        files = read_counts(where, own)
        shutil.rmtree(own)
        return outcome, files

    for outcome, files in common.in_parallel(run, tests):
        say(f"{outcome.test.name}: {outcome.seconds:.1f} s")
        if not outcome.good():
            common.report_failure(outcome)
            bad.append(outcome.test.name)
        reached = {}
        for name, lines in files.items():
            total = totals.setdefault(name, Lines())
            for line in lines:
                total.add(line)
            reached[name] = sorted({line["line_number"] for line in lines if line["count"]})
        programs[outcome.test.name] = {"seconds": round(outcome.seconds, 2), "good": outcome.good(),
                                         "lines": reached}
    return totals, programs, bad


def store(where):
    return os.path.join(where, "proof-programs.json.gz")


def load(where):
    """What the last measurement found out about the programs, or None."""
    try:
        with gzip.open(store(where), "rt", encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def figures():
    where = common.build(BUILD, OPTIONS)
    totals, programs, bad = measure(where, os.path.join(where, "proof-data"))
    with gzip.open(store(where), "wt", encoding="utf-8") as file:
        json.dump({"sources": common.digest(), "programs": programs,
                   "known": {name: sorted(total.lines) for name, total in totals.items()}}, file)

    for name in common.core_sources():
        totals.setdefault(name, Lines())
    all_figures, core = [], [0, 0, 0, 0]
    for name in sorted(totals):
        if not name.startswith(("src/", "backends/")):
            continue
        lines, branches = totals[name].line_counts(), totals[name].branch_counts()
        if name.startswith("src/"):
            core = [a + b for a, b in zip(core, lines + branches)]
        all_figures.append(Figure(f"coverage: {name}",
                                  f"{percent(*lines):.1f} % of {lines[1]} lines, "
                                  f"{percent(*branches):.1f} % of {branches[1]} branches"))
        missing = [number for number, count in sorted(totals[name].lines.items()) if not count]
        if missing and name.startswith("src/"):
            say(f"{name}: not run: {' '.join(map(str, missing))}")
    share = percent(core[0], core[1])
    all_figures.append(Figure("coverage: core (src/*.c), lines in %", round(share, 2), f">= {LINES:g}", share >= LINES))
    all_figures.append(Figure("coverage: core (src/*.c), branches in %", round(percent(core[2], core[3]), 2)))
    all_figures.append(Figure("coverage: programs that failed", " ".join(bad) or "none", "none", not bad))
    return all_figures
