#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does the explorer of test_coherence.c find mistakes in the protocol?

usage: tests/random/seeded_mistakes.py SOURCE_ROOT COMPILER...

Each mistake below is made in a copy of src/coherence.c, which is then explored. The explorer has to end
with a violation, by itself and in time. A mistake whose text is no longer in the source, or is there
more than once, fails too: adapt it.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "abi"))
from tap import Tap  # noqa: E402  pylint: disable=wrong-import-position

FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-w"]
SECONDS = 60

# (what goes wrong, text, what it becomes)
MISTAKES = [
    ("a mapping of host memory counts as one of the device's own memory",
     "		*ret = a->map_r;\n		svm_mask_andnot(ret, &a->remote);\n",
     "		*ret = a->map_r;\n"),
    ("a write that asks for a duplicate leaves the other copies",
     "return goal->write || goal->mode != SVM_COH_DUPLICATE;",
     "return goal->mode != SVM_COH_DUPLICATE;"),
    ("bytes cannot be copied from the host to a device",
     "goal->can_copy | 1u << SVM_LOC_HOST;",
     "goal->can_copy & ~(1u << SVM_LOC_HOST);"),
    ("a read-only mapping satisfies a writer",
     "		if (goal->write)\n			svm_mask_and(ret, &agent->map_w);\n",
     ""),
    ("having the bytes satisfies who must be the only holder",
     "	if (goal_exclusive(goal)) {\n		svm_coh_only(coh, dest, &m);",
     "	if (0) {\n		svm_coh_only(coh, dest, &m);"),
    ("a prefetch of what is there leaves it discarded",
     "	svm_mask_andnot(ret, &coh->discarded);\n	if (goal->map) {",
     "	if (goal->map) {"),
    ("writers go on writing while their page is duplicated",
     "	stop_writers(coh, step, goal->can_protect, &shared);\n",
     ""),
    ("an agent that cannot be write-protected is",
     "		if (can_protect & (1u << a)) {",
     "		if (1) {"),
    ("who is write-protected may be unmapped as well",
     "		svm_mask_andnot(&m, &step->revoke[a]);\n		if (svm_mask_empty(&m))",
     "		if (svm_mask_empty(&m))"),
    ("other agents keep mapping what is moved away",
     "		stop_foreign(coh, step, step->dest, pages);\n",
     ""),
    ("old copies stay behind a move",
     "		drop_others(coh, step, pages);\n",
     ""),
    ("a page with two holders is copied from both",
     "		svm_mask_andnot(need, &m);\n",
     ""),
    ("zeros go over the bytes of a page",
     "	svm_mask_andnot(&step->populate, &populated);\n",
     ""),
    ("bytes take a path that does not exist",
     "	if (!svm_mask_empty(&stuck)) {",
     "	if (0) {"),
    ("an agent keeps its mapping of another place",
     "		m.w[i] = agent->map_r.w[i] & ~m.w[i] & pages->w[i];\n	add_revoke(step, goal->agent, &m);\n",
     "		m.w[i] = agent->map_r.w[i] & ~m.w[i] & pages->w[i];\n"),
    ("a duplicate may be written",
     "	if (!exclusive) {\n		/* Only what",
     "	if (0) {\n		/* Only what"),
    ("eviction copies what was discarded",
     "	svm_mask_andnot(&only, &coh->discarded);\n",
     ""),
    ("eviction drops the only copy",
     "		step->copies = 1u << goal->agent;\n",
     ""),
    ("eviction from the host leaves devices mapping it",
     "		maps_to(coh, a, goal->agent, &m);\n		svm_mask_and(&m, pages);\n		add_revoke(step, a, &m);\n",
     "		if (a != goal->agent)\n			continue;\n"
     "		maps_to(coh, a, goal->agent, &m);\n		svm_mask_and(&m, pages);\n		add_revoke(step, a, &m);\n"),
    ("a poisoned page can be had",
     "	if (goal->kind != SVM_GOAL_DISCARD)\n		svm_mask_andnot(&pages, &coh->poisoned);\n",
     ""),
    ("a write-protected agent is still taken for a writer",
     "		svm_mask_andnot(&agent->map_w, &step->protect[a]);\n",
     ""),
    ("an unmapped agent is still taken to map host memory",
     "		svm_mask_andnot(&agent->remote, &step->revoke[a]);\n",
     ""),
    ("what arrived is not recorded",
     "		svm_mask_or(&coh->at[step->dest]->res, &arrived);\n",
     "		;\n"),
    ("what was dropped still counts as held",
     "			svm_mask_andnot(&coh->at[l]->res, &step->drop[l]);\n",
     "			;\n"),
    ("bytes that are wanted again stay discarded",
     "	svm_mask_andnot(&coh->discarded, &step->pages);\n",
     ""),
    ("a discard does not lift poison",
     "		svm_mask_andnot(&coh->poisoned, &step->pages);\n",
     "		;\n"),
    ("a mapping in place is recorded as one of the own memory",
     "	if (step->remote)\n		svm_mask_or(&agent->remote, &step->map);\n",
     ""),
    ("the mappings of a lost device stay",
     "	memset(agent, 0, sizeof(*agent));\n",
     "	svm_mask_zero(&agent->res);\n"),
    ("lost pages are not poisoned",
     "	svm_mask_or(&coh->poisoned, ret_poisoned);\n",
     ""),
    ("a loss poisons pages that have another copy",
     "	svm_coh_only(coh, loc, ret_poisoned);\n",
     "	*ret_poisoned = agent->res;\n"),
    ("a loss poisons what nobody wanted",
     "	svm_mask_andnot(ret_poisoned, &coh->discarded);\n",
     ""),
]


class Explorer:
    """The explorer, compiled; linked to one version of coherence.c after the other."""

    def __init__(self, root, compiler, directory):
        self.compiler = compiler
        self.includes = ["-I" + os.path.join(root, d) for d in ("include", "src", "tests/random")]
        self.directory = directory
        self.object = self.compile(os.path.join(root, "tests/random/test_coherence.c"), "explorer.o")

    def compile(self, source, name):
        output = os.path.join(self.directory, name)
        self.run(self.compiler + FLAGS + self.includes + ["-c", source, "-o", output])
        return output

    @staticmethod
    def run(command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, encoding="utf-8", check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}:\n{done.stdout}")

    def explore(self, text, only):
        """Explore this text of coherence.c; exit status (None: it does not end) and output."""
        source = os.path.join(self.directory, "coherence.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        program = os.path.join(self.directory, "explore")
        self.run(self.compiler + [self.object, self.compile(source, "coherence.o"), "-lcmocka", "-o", program])
        environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="STDOUT")
        try:
            done = subprocess.run([program, "--only", only], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
                                  timeout=SECONDS, env=environment, check=False)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stdout


def problems_with(explorer, text, old, new):
    """What keeps this mistake from being found, and the violation by which it was."""
    if text.count(old) != 1:
        return [f"its text is in coherence.c {text.count(old)} times, not once:\n{old}"], ""
    status, output = explorer.explore(text.replace(old, new), "explore_*")
    if status is None:
        return [f"still exploring after {SECONDS} s"], ""
    violations = [line for line in output.splitlines() if line.startswith("violation: ")]
    if status <= 0 or not violations:
        return [f"explored to the end with status {status}", output], ""
    return [], violations[0]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    root, compiler = sys.argv[1], sys.argv[2:]
    with open(os.path.join(root, "src/coherence.c"), encoding="utf-8") as file:
        text = file.read()

    tap = Tap()
    with tempfile.TemporaryDirectory() as directory:
        explorer = Explorer(root, compiler, directory)
        status, output = explorer.explore(text, "explore_2_agents")
        tap.check("without a mistake, nothing is found", [] if status == 0 else [output])
        for name, old, new in MISTAKES:
            problems, violation = problems_with(explorer, text, old, new)
            tap.check("found: " + name, problems)
            if violation:
                print("# " + violation)
    return tap.end()


if __name__ == "__main__":
    sys.exit(main())
