# SPDX-License-Identifier: MIT
"""What the lab cannot do, as one line for who runs it."""

import shutil


class Problem(Exception):
    """Something is missing or misspelt: the text says what, and how to get it right. Exit status 2."""


def need_tools(tools):
    """tools: {program: Debian package}; a Problem names all that are missing."""
    missing = {package for program, package in tools.items() if not shutil.which(program)}
    if missing:
        raise Problem(f"missing tools; as root: apt-get install {' '.join(sorted(missing))}")
