# SPDX-License-Identifier: MIT
"""Count single cases of test programs, and say so: for all that runs tests.

A program that prints TAP counts by its cases, as CMocka 1.1.5 or the TAP specification write them;
any other program is one case. A case that was planned but never reported has failed, and so has a
skip that does not say why.
"""

import re

PLAN = re.compile(r"^1\.\.(\d+)\s*$")
CASE = re.compile(r"^(not )?ok\b\s*(\d+)?(.*)$")
SKIP = re.compile(r"#\s*skip\S*\s*(.*)$", re.I)


class Program:
    """What one test program reported."""

    def __init__(self, entry):
        self.name = entry["name"].split(" / ")[-1]
        self.result = entry["result"]
        self.returncode = entry["returncode"]
        self.passed = 0
        self.failures = []
        self.skips = []  # (case, reason)
        planned = self.read(entry.get("stdout") or "")
        self.judge(planned)

    def read(self, text):
        """Count the cases of TAP output; returns how many were planned."""
        planned = 0
        said = []  # lines since the last case: what a skip gives as its reason
        for line in text.splitlines():
            plan, case = PLAN.match(line), CASE.match(line)
            if plan:
                planned += int(plan[1])
                said = []
            elif case:
                self.read_case(bool(case[1]), case[3], said)
                said = []
            elif line.startswith("# ok - ") or line.startswith("# not ok - "):
                said = []  # CMocka ends a group
            elif line.strip():
                said.append(line.strip().lstrip("# "))
        return planned

    def read_case(self, failed, rest, said):
        skip = SKIP.search(rest)
        before = rest[:skip.start()] if skip else rest
        name = re.sub(r"^\s*-?\s*", "", before).strip()
        if skip:
            # CMocka: "not ok 2 # SKIP name", the reason is what the test printed before.
            # TAP: "ok 2 - name # SKIP reason".
            reason = " ".join(said) if failed else skip[1].strip()
            name = name or skip[1].strip()
            if reason:
                self.skips.append((name, reason))
            else:
                self.failures.append(f"{name}: skipped without saying why")
        elif failed:
            self.failures.append(name)
        else:
            self.passed += 1

    def judge(self, planned):
        seen = self.passed + len(self.failures) + len(self.skips)
        if planned == 0 and seen == 0:
            if self.result == "OK":
                self.passed = 1
            elif self.result == "SKIP":
                self.skips.append(("the whole program", "it left with status 77"))
            else:
                self.failures.append(self.ending())
            return
        if planned == 0:
            self.failures.append(f"it did not say how many cases it has: {self.ending()}")
        elif seen > planned:
            self.failures.append(f"{seen} cases reported, {planned} planned: did a forked child return?")
        elif seen < planned:
            self.failures += [f"a case that did not report: {self.ending()}"] * (planned - seen)
        if self.result not in ("OK", "SKIP") and not self.failures:
            self.failures.append(self.ending())

    def ending(self):
        return {
            "TIMEOUT": "it ran out of time",
            "INTERRUPT": "it was interrupted",
        }.get(self.result, f"it ended with {self.result}, status {self.returncode}")


def report(programs, trouble=()):
    """Print skips, failures and the line that counts; True when nothing failed.

    trouble: failures of no program, as (what, text).
    """
    skips = [(program.name, *skip) for program in programs for skip in program.skips]
    failures = [(program.name, text) for program in programs for text in program.failures]
    failures += trouble
    print()
    for program, case, reason in skips:
        print(f"skipped: {program}: {case}: {reason}")
    for program, case in failures:
        print(f"failed: {program}: {case}")
    passed = sum(program.passed for program in programs)
    print(f"{passed} passed, {len(failures)} failed, {len(skips)} skipped", flush=True)
    return not failures
