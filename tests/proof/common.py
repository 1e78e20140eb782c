# SPDX-License-Identifier: MIT
"""What the parts of `./dev proof` share: builds, test programs and what they report, figures."""

import concurrent.futures
import hashlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JOBS = int(os.environ.get("JOBS", "2"))
# So many test programs run at a time, of all parts together: they wait a good deal, for devices and for each other.
PROGRAMS = 2 * JOBS


class ProofError(Exception):
    """A part cannot be carried out at all; the text is for the user."""


class Figure:
    """One line of the table. passed is None where there is nothing to pass."""

    def __init__(self, name, figure, target="", passed=None):
        self.name, self.figure, self.target, self.passed = name, figure, target, passed

    def verdict(self):
        return {True: "ok", False: "MISSED", None: ""}[self.passed]


def say(text):
    print("proof: " + text, file=sys.stderr, flush=True)


def path(*parts):
    return os.path.join(ROOT, *parts)


# ---- Builds -----------------------------------------------------------------------------------


def run_quietly(command, env=None, what=None):
    """Run to the end; what it said is shown only if it fails."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False,
                          env=dict(os.environ, **(env or {})))
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise ProofError(f"{what or command[0]}: ended with status {done.returncode}")
    return done.stdout


ONE_BUILDS = threading.Lock()


def build(directory, options, compiler="gcc", targets=()):
    """A build directory, configured once and brought up to date; returns its path."""
    where = path(directory)
    with ONE_BUILDS:
        if not os.path.exists(os.path.join(where, "build.ninja")):
            say(f"configuring {directory}")
            run_quietly(["meson", "setup", directory, "-Dtests=enabled", *options], env={"CC": compiler},
                        what=f"meson setup {directory}")
        say(f"building {directory}")
        run_quietly(["ninja", "-C", directory, "-j", str(JOBS), *targets], what=f"ninja -C {directory}")
    return where


class Test:
    """One entry of the tests that Meson knows."""

    def __init__(self, entry, where):
        self.name = entry["name"]
        self.suites = [suite.split(":")[-1] for suite in entry["suite"]]
        # Meson runs it in the build directory; what a launcher is to run has its name from there.
        self.command = [os.path.join(where, word) if word.startswith("tests/") else word for word in entry["cmd"]]
        self.env = entry["env"]
        self.directory = entry["workdir"] or ROOT
        self.timeout = entry["timeout"]

    def program(self):
        """The test program itself, be it run by a launcher or not."""
        return self.command[-1]


def tests_of(where, suites):
    """The tests of these suites, that are programs of ours."""
    entries = json.loads(run_quietly(["meson", "introspect", "--tests", where]))
    tests = [Test(entry, where) for entry in entries]
    return [test for test in tests
            if set(suites) & set(test.suites) and test.program().startswith(where)]


def one_setting_each(tests):
    """(tests, how many are left out): of a program that runs on emulated devices in many settings, the first."""
    kept, seen = [], set()
    for test in tests:
        if " " in test.name:
            if test.program() in seen:
                continue
            seen.add(test.program())
        kept.append(test)
    return kept, len(tests) - len(kept)


# ---- Running tests ----------------------------------------------------------------------------

FAILED = re.compile(rb"^not ok\b(?!.*# *SKIP)", re.M | re.I)
CASE = re.compile(r"^(not )?ok\b(.*)$", re.M)
SKIPPED = re.compile(r"# *skip", re.I)
PLAN = re.compile(r"^1\.\.(\d+)", re.M)


class Outcome:
    """How a run ended. status is None when it was stopped: by time, or at its first failed case."""

    def __init__(self, test, status, output, seconds, stopped):
        self.test, self.status, self.output = test, status, output
        self.seconds, self.stopped = seconds, stopped
        text = output.decode("utf-8", "replace")
        cases = CASE.findall(text)
        self.skipped = sum(bool(SKIPPED.search(rest)) for _, rest in cases)
        self.failed = sum(bool(no) and not SKIPPED.search(rest) for no, rest in cases)
        self.passed = len(cases) - self.skipped - self.failed
        self.planned = sum(int(n) for n in PLAN.findall(text))

    def good(self):
        # A case that never reported is a failure, too.
        return (self.status == 0 and self.failed == 0 and
                self.passed + self.skipped == self.planned)

    def text(self):
        return self.output.decode("utf-8", "replace")


RUNNING = threading.BoundedSemaphore(PROGRAMS)


def run(test, timeout, env=None, prefix=(), stop_at_failure=False, command=None):
    """Run a test in a process group of its own, of which nothing is left afterwards. Waits until it is its turn."""
    with RUNNING:
        return run_now(test, timeout, env, prefix, stop_at_failure, command)


def run_now(test, timeout, env, prefix, stop_at_failure, command):
    start = time.monotonic()
    with subprocess.Popen([*prefix, *(command or test.command)], cwd=test.directory,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, **test.env, **(env or {})),
                          start_new_session=True) as process:
        output, stopped = bytearray(), None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                left = start + timeout - time.monotonic()
                if left <= 0:
                    stopped = "time"
                    break
                if not selector.select(left):
                    continue
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                output += chunk
                if stop_at_failure and FAILED.search(output):
                    stopped = "failure"
                    break
        if not stopped:
            try:
                process.wait(max(0.1, start + timeout - time.monotonic()))
            except subprocess.TimeoutExpired:
                stopped = "time"
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    return Outcome(test, None if stopped else process.returncode, bytes(output),
                   time.monotonic() - start, stopped)


def in_parallel(function, items, jobs=PROGRAMS):
    """function of each item by so many threads; yields results as they come."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def report_failure(outcome):
    """Show why a test failed, in its own words: the end of what it said."""
    say(f"{outcome.test.name}: " +
        ("stopped: " + outcome.stopped if outcome.stopped else f"status {outcome.status}, "
         f"{outcome.failed} failed, {outcome.planned} planned"))
    for line in outcome.text().splitlines()[-40:]:
        print("    " + line, file=sys.stderr)


# ---- The library's sources --------------------------------------------------------------------


def core_sources():
    """src/*.c, as names from the root."""
    return sorted("src/" + name for name in os.listdir(path("src")) if name.endswith(".c"))


def digest(directories=()):
    """Of the library's sources, for line numbers hold for these alone; or of all C sources in these directories."""
    names = core_sources()
    if directories:
        names = sorted(os.path.join(top, name) for directory in directories for top, _, found in os.walk(path(directory))
                       for name in found if name.endswith((".c", ".h")))
    value = hashlib.sha256()
    for name in names:
        with open(path(name), "rb") as file:
            value.update(file.read())
    return value.hexdigest()
