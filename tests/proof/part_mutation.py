# SPDX-License-Identifier: MIT
"""Single mistakes made in the library (mutants.py), each to be caught by a test.

Which mistakes is decided by a seed and their text alone, so that an edit elsewhere changes nothing. For each the
file is compiled with it, and the programs that reach its line (part_coverage.py found out which) are linked and
run, the module's own tests first, then the quick ones, those that take long first in their shortest form and at last
as they are, until one hangs, or fails or crashes twice: what failed once may have failed of something else. What no
program notices is a survivor: mutation_survivors.txt explains those that cannot be noticed; the others want a test.

A survivor that is explained counts as a survivor, without being tried again; `SVM_PROOF_ALL=1` tries it.
Environment: SVM_PROOF_MUTANTS=N how many (100), SVM_PROOF_SEED=N which ones, SVM_PROOF_ONLY=FILE of one source;
SVM_PROOF_RESUME=1 takes up a run of the same sources and tests that was cut off, with the verdicts it had.
"""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import threading

import common
import mutants
import part_coverage
from common import Figure, ProofError, say

BUILD = "build-mutation"
OPTIONS = ["-Dchecks=true", "-Dexamples=false", "-Dtools=false", "-Dwerror=false", "--buildtype=plain",
           "-Dc_args=-O1 -w"]
SHARE = 85.0
LEAST = 100
SEED = os.environ.get("SVM_PROOF_SEED", "1")
COUNT = int(os.environ.get("SVM_PROOF_MUTANTS", "100"))
ONLY = os.environ.get("SVM_PROOF_ONLY")
SURVIVORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mutation_survivors.txt")
RESUME = bool(os.environ.get("SVM_PROOF_RESUME"))
ENV = {"SVM_TEST_SEED": "1", "SVM_TEST_SECONDS": "4", "SVM_TEST_QUICK": "1"}
# Programs are run on one mutant until they have taken this long: who survives is to be one that few could notice.
BUDGET = 200.0
# It tests what serves requests, these modules, with each thing failing in turn.
SERVING_TEST = "unit_serve"
SERVING = {"access", "attach", "block", "device", "fault", "memory", "serve", "store", "transition", "work"}
QUICK = 2.0
SHORTEST = {"SVM_TEST_QUICK": "2"}
# What the fixture says when it ends a program.
WATCHDOG = "watchdog"


def explained():
    """Key -> reason. The file has paragraphs: the mutant's key, then the reason, indented."""
    reasons, key = {}, None
    with open(SURVIVORS, encoding="utf-8") as file:
        for line in file:
            if line.startswith("#") or not line.strip():
                continue
            if not line[0].isspace():
                key = line.strip()
                reasons[key] = ""
            elif key:
                reasons[key] = (reasons[key] + " " + line.strip()).strip()
    missing = [key for key, reason in reasons.items() if not reason]
    if missing:
        raise ProofError(f"{SURVIVORS}: no reason given for: {missing[0]}")
    return reasons


class Bench:
    """A build, and how to make a program of it with one file changed."""

    def __init__(self, where):
        self.where = where
        with open(os.path.join(where, "compile_commands.json"), encoding="utf-8") as file:
            entries = json.load(file)
        self.compiles = {os.path.relpath(os.path.join(e["directory"], e["file"]), common.ROOT): e["command"]
                         for e in entries if "libsvm_internal.a.p" in e["command"]}
        self.links = {}
        self.lock = threading.Lock()

    def link_command(self, program):
        with self.lock:
            if program not in self.links:
                target = os.path.relpath(program, self.where)
                text = common.run_quietly(["ninja", "-C", self.where, "-t", "commands", "-s", target])
                # Ninja says where it goes.
                command = [line for line in text.splitlines() if f" -o {target} " in line]
                self.links[program] = shlex.split(command[-1])
            return list(self.links[program])

    def run(self, command):
        done = subprocess.run(command, cwd=self.where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False)
        return done.returncode == 0

    def compile(self, file, text, directory):
        """The object of a changed source, or None if it cannot be compiled."""
        source = os.path.join(directory, os.path.basename(file))
        with open(source, "w", encoding="utf-8") as out:
            out.write(text)
        words = [word for word in shlex.split(self.compiles[file]) if word != "ccache"]
        words[words.index("-c") + 1] = source
        words[words.index("-o") + 1] = source + ".o"
        at = words.index("-MD") if "-MD" in words else -1
        if at >= 0:
            del words[at:at + 5]
        words.insert(1, "-iquote" + common.path("src"))
        return source + ".o" if self.run(words) else None

    def link(self, program, obj, directory):
        """The program with this object in the place of the library's own."""
        words = self.link_command(program)
        words = [word for word in words if word != "ccache"]
        out = os.path.join(directory, os.path.basename(program))
        at = words.index("-o") + 1
        words[at:at + 1] = [out, obj]
        if not self.run(words):
            raise ProofError(f"could not link {program}")
        return out


class Verdicts:
    """What has been found out about mutants, kept after each so that a run can be cut off."""

    def __init__(self, where):
        self.path = os.path.join(where, "verdicts.json")
        self.state = common.digest(("src", "backends", "include", "tests"))
        self.known = {}
        if RESUME and os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["state"] == self.state:
                self.known = kept["known"]

    def get(self, mutant):
        return self.known.get(mutant.key())

    def add(self, mutant, verdict, by):
        self.known[mutant.key()] = [verdict, by]
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump({"state": self.state, "known": self.known}, file, indent=0)
        os.replace(self.path + ".new", self.path)


class Prover:
    def __init__(self, bench, measured, tests):
        self.bench, self.tests = bench, tests
        self.programs, self.known = measured["programs"], measured["known"]
        self.directories = []
        self.local = threading.local()

    def directory(self):
        if not hasattr(self.local, "directory"):
            self.local.directory = os.path.join(self.bench.where, f"mutant-{threading.get_ident()}")
            os.makedirs(self.local.directory, exist_ok=True)
            self.directories.append(self.local.directory)
        return self.local.directory

    def order(self, mutant):
        """Tests that reach the line, the likeliest and quickest first; and in what form, as environment."""
        module = os.path.basename(mutant.file)[:-2]
        # gcov knows the lines on which something begins.
        line = max((line for line in self.known.get(mutant.file, ()) if line <= mutant.line), default=mutant.line)
        reach = [test for test in self.tests if line in self.programs[test.name]["lines"].get(mutant.file, ())]

        def is_late(test):
            # Emulated devices and random operations: much work for one line of the core.
            return test.name.startswith(("unit_xe", "random_flow")) or " " in test.name

        def key(test):
            seconds = self.programs[test.name]["seconds"]
            late = is_late(test)
            ranks = [test.name == "unit_" + module, test.name == "flow_" + module, not late and seconds < QUICK,
                     test.name == SERVING_TEST and module in SERVING, not late, True]
            return (ranks.index(True), seconds)
        ordered = sorted(reach, key=key)
        early = [test for test in ordered if not is_late(test)]
        slow = [test for test in early if self.programs[test.name]["seconds"] >= QUICK]
        return ([(test, SHORTEST if test in slow else {}) for test in early] +
                [(test, {}) for test in ordered if test in slow or test not in early])

    def notices(self, test, program, form):
        """(how, seconds): does the test notice? "" if not, "hangs" or "fails"."""
        # How long it took was measured beside others.
        limit = max(15.0, 2 * self.programs[test.name]["seconds"])
        outcome = common.run(test, limit, env=ENV | form, stop_at_failure=True,
                             command=test.command[:-1] + [program])
        if outcome.good():
            return "", outcome.seconds
        hangs = outcome.stopped == "time" or WATCHDOG in outcome.text()
        return "hangs" if hangs else "fails", outcome.seconds

    def judge(self, mutant):
        """(mutant, verdict, by): caught, survived, uncovered, invalid."""
        directory = self.directory()
        obj = self.bench.compile(mutant.file, mutant.apply(), directory)
        if not obj:
            return mutant, "invalid", ""
        order = self.order(mutant)
        if not order:
            return mutant, "uncovered", ""
        linked, spent, ran, once = {}, 0.0, 0, ""
        for test, form in order:
            seconds = 0 if form else self.programs[test.name]["seconds"]
            if ran and spent + seconds / 2 > BUDGET:
                continue
            program = test.program()
            if program not in linked:
                linked[program] = self.bench.link(program, obj, directory)
            how, seconds = self.notices(test, linked[program], form)
            spent, ran = spent + seconds, ran + 1
            if how == "hangs" or (how and self.notices(test, linked[program], form)[0]):
                return mutant, "caught", f"{test.name}{' (hangs)' if how == 'hangs' else ''}"
            if how:
                once = f", {test.name} failed once and not again"
        return mutant, "survived", f"{ran} of {len(order)} runs of programs that reach it{once}"


def reached_lines():
    """Which program reaches which line, from the last measurement if that still holds."""
    measured = part_coverage.load(common.path(part_coverage.BUILD))
    if measured and measured.get("sources") == common.digest() and "known" in measured:
        return measured
    say("mutation: measuring coverage first")
    part_coverage.figures()
    return part_coverage.load(common.path(part_coverage.BUILD))


def choose():
    everything = []
    for name in common.core_sources():
        if ONLY and name not in (ONLY, "src/" + ONLY):
            continue
        with open(common.path(name), encoding="utf-8") as file:
            everything += mutants.find(name, file.read())
    return sorted(everything, key=lambda mutant: mutant.rank(SEED))


def figures():
    reasons = explained()
    measured = reached_lines()
    programs = measured["programs"]
    # The test programs alone, and what launches some of them.
    targets = sorted({"tests/" + name.split(" ")[0] for name in programs} - {"tests/random_seeded_mistakes"})
    if any(" " in name for name in programs):
        targets += ["tests/emu/emu_launch", "tests/emu/libemu_preload.so"]
    where = common.build(BUILD, OPTIONS, targets=targets)
    tests = [test for test in common.one_setting_each(common.tests_of(where, part_coverage.SUITES))[0]
             if programs.get(test.name, {}).get("good")]
    prover = Prover(Bench(where), measured, tests)
    candidates = choose()
    chosen = candidates[:COUNT]
    try_all = bool(os.environ.get("SVM_PROOF_ALL"))
    known = [mutant for mutant in chosen if mutant.key() in reasons and not try_all]
    caught, hung, survivors, invalid = 0, 0, [(mutant, "explained") for mutant in known], 0

    verdicts = Verdicts(where)
    queue = [mutant for mutant in chosen if mutant not in known]
    spare = candidates[COUNT:]
    while queue:
        again = []
        judged = ((mutant, *verdicts.get(mutant)) for mutant in queue if verdicts.get(mutant))
        to_judge = [mutant for mutant in queue if not verdicts.get(mutant)]
        for mutant, verdict, by in itertools.chain(list(judged),
                                                   common.in_parallel(prover.judge, to_judge, common.PROGRAMS)):
            verdicts.add(mutant, verdict, by)
            if verdict == "invalid":
                invalid += 1
                if spare:
                    again.append(spare.pop(0))
            elif verdict == "caught":
                caught += 1
                hung += by.endswith("(hangs)")
            else:
                survivors.append((mutant, f"{verdict} {by}".strip()))
            say(f"{verdict}: {mutant.file}:{mutant.line}: {mutant.before} => {mutant.after or '(nothing)'}"
                f"{' by ' + by if by else ''}")
        queue = again
    for directory in prover.directories:
        shutil.rmtree(directory, ignore_errors=True)

    unexplained = []
    for mutant, why in survivors:
        reason = reasons.get(mutant.key())
        say(f"survivor: {mutant.file}:{mutant.line} ({why})\n{mutant.key()}\n    {reason or 'NOT EXPLAINED'}")
        if not reason:
            unexplained.append(mutant)
    total = caught + len(survivors)
    share = 100.0 * caught / total if total else 0.0
    return [
        Figure("mutation: mutants of src/", total, f">= {LEAST}", total >= LEAST),
        Figure("mutation: caught", caught),
        Figure("mutation: of them by a hang", hung),
        Figure("mutation: caught in %", round(share, 1), f">= {SHARE:g}", share >= SHARE),
        Figure("mutation: survivors", len(survivors)),
        Figure("mutation: survivors not explained", len(unexplained), "0", not unexplained),
        Figure("mutation: not compilable, replaced", invalid),
    ]
