# SPDX-License-Identifier: MIT
"""Report checks as TAP, the format tests/run counts."""


class Tap:
    def __init__(self):
        self.lines = 0
        self.failed = 0

    def check(self, name, problems):
        """One check: it passes when there are no problems."""
        self.lines += 1
        if problems:
            self.failed += 1
            print(f"not ok {self.lines} - {name}")
            for problem in problems:
                print("# " + problem.replace("\n", "\n# "))
        else:
            print(f"ok {self.lines} - {name}", flush=True)

    def skip(self, name, why):
        self.lines += 1
        print(f"ok {self.lines} - {name} # SKIP {why}")

    def end(self):
        """Print the plan; the exit status of the program."""
        print(f"1..{self.lines}")
        return 1 if self.failed else 0
