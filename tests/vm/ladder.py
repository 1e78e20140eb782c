# SPDX-License-Identifier: MIT
"""Run the guests of the ladder and write what came of it to docs/kernels.md.

Rows of guests that are not run now stay as they were; a row that was never run says so.
"""

import datetime
import os
import re
import subprocess

from guest import Guest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir)
PAGE = os.path.join(TOP, "docs", "kernels.md")
COLUMNS = ["guest", "kernel", "what is special", "suite", "passed", "failed", "skipped", "kernel complaints", "time",
           "of"]
BEGIN = "<!-- written by ./dev vm ladder -->"
END = "<!-- end -->"


def commit():
    """What was run: the commit, or that it had changes."""
    def git(*args):
        return subprocess.run(["git", "-C", TOP, *args], check=False, text=True, stdout=subprocess.PIPE).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return (git("rev-parse", "--short=12", "HEAD") or "?") + (" with changes" if changed else "")


def old_rows(text):
    """{guest: cells} of the table as it is."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and len(cells) == len(COLUMNS) and cells[0] != COLUMNS[0]:
            rows[cells[0]] = cells
    return rows


def old_skips(text):
    """{guest: lines} of what was skipped."""
    skips = {}
    for name, body in re.findall(r"^### (\S+)\n\n((?:- .*\n)*)", text, re.M):
        skips[name] = body.splitlines()
    return skips


def skip_lines(programs):
    """Skips by reason, with their number."""
    reasons = {}
    for program in programs:
        for _, reason in program.skips:
            reasons.setdefault((program.name, reason), []).append(1)
    return [f"- {name}: {len(times)} of: {reason}" for (name, reason), times in sorted(reasons.items())]


def failure_lines(programs, failures):
    lines = [f"- failed: {program.name}: {text}" for program in programs for text in program.failures]
    return lines + [f"- failed: {what}: {text}" for what, text in failures]


def row_of(name, guest, failures):
    programs = guest.ear.programs
    failed = sum(len(program.failures) for program in programs)
    outside = [what for what, _ in failures if what != "kernel"]
    cells = [name, guest.kernel.version, guest.entry["says"], guest.entry["suite"],
             sum(program.passed for program in programs), failed + len(outside),
             sum(len(program.skips) for program in programs), len(guest.complaints), f"{guest.seconds:.0f} s",
             f"{commit()}, {datetime.date.today()}"]
    return [str(cell) for cell in cells]


def write(table, rows, notes):
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for name in table.rows():
        guest = table.guests[name]
        empty = [name, guest["kernel"], guest["says"], guest["suite"], "not run"]
        lines.append("| " + " | ".join(rows.get(name) or empty + [""] * (len(COLUMNS) - len(empty))) + " |")
    lines.append("")
    for name in table.rows():
        if notes.get(name):
            lines += [f"### {name}", "", *notes[name], ""]
    new = BEGIN + "\n\n" + "\n".join(lines).rstrip() + "\n\n" + END
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: new, text, flags=re.S))


def run(table, built, names, changes, directory):
    """Run these guests, or all rows. True when nothing failed."""
    entries = {name: table.guest(name, changes) for name in names or table.rows()}
    good = True
    for name, entry in entries.items():
        guest = Guest(name, entry, table.kernels[entry["kernel"]], built, directory)
        failures = guest.run_tests([])
        # Read again for each: another run may have written its row meanwhile.
        with open(PAGE, encoding="utf-8") as file:
            text = file.read()
        rows, notes = old_rows(text), old_skips(text)
        rows[name] = row_of(name, guest, failures)
        programs = guest.ear.programs
        notes[name] = failure_lines(programs, failures) + skip_lines(programs)
        write(table, rows, notes)
        print(f"{name}: " + ", ".join(f"{value} {column}" for column, value in
                                      zip(COLUMNS[4:9], rows[name][4:9])), flush=True)
        good = good and not failures and not any(program.failures for program in programs)
    return good
