# SPDX-License-Identifier: MIT
"""What a build directory has for guests: programs, shared libraries, and the tests that run there."""

import json
import os
import shlex
import subprocess

from initramfs import BUILD
from problem import Problem


class Test:
    """A test as Meson knows it, with paths of the guest."""

    def __init__(self, entry, root):
        self.name = entry["name"]
        self.suites = [suite.split(":")[-1] for suite in entry["suite"]]
        self.seconds = entry["timeout"]
        self.command = [word.replace(root, BUILD) for word in entry["cmd"]]
        self.env = {key: value.replace(root, BUILD) for key, value in entry["env"].items()}
        self.beside = entry["is_parallel"]
        # A script needs an interpreter and the source tree, and tests the tree more than the kernel.
        self.in_guest = entry["cmd"][0].startswith(root + os.sep)

    def is_called(self, name):
        """As tests/run: a suite, a test, or a test without its suite."""
        suite = self.suites[0]
        return name in (*self.suites, self.name) or self.name == f"{suite}_{name}"

    def script(self, env):
        """The shell script that runs it."""
        words = [f"{key}={shlex.quote(value)}" for key, value in {**self.env, **env}.items()]
        return " ".join(["exec", "env", *words, *map(shlex.quote, self.command)]) + "\n"


class BuildTree:
    """A build directory."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.files = []
        for target in self.introspect("--targets"):
            if target["type"] in ("executable", "shared library", "shared module"):
                self.files += [path for path in target["filename"] if os.path.exists(path)]
        self.files = sorted(set(map(os.path.realpath, self.files)))
        # Sonames: what programs ask for.
        self.links = {}
        for directory in sorted({os.path.dirname(path) for path in self.files if ".so" in path}):
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if os.path.islink(path):
                    self.links[path] = os.readlink(path)
        self.tests = [Test(entry, self.root) for entry in self.introspect("--tests")]

    def needed(self, tests):
        """The files that these tests want: fewer of them make a guest that starts sooner."""
        words = {word for test in tests for word in test.command}
        return [path for path in self.files
                if ".so" in os.path.basename(path) or path.replace(self.root, BUILD, 1) in words]

    def introspect(self, what):
        text = subprocess.run(["meson", "introspect", what, self.root], check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        return json.loads(text)

    def select(self, names):
        """The tests that these names mean, of those that run in a guest; all for no name."""
        chosen = []
        for name in names:
            if not any(test.is_called(name) for test in self.tests):
                suites = sorted({suite for test in self.tests for suite in test.suites})
                raise Problem(f"no suite or test called '{name}'; suites: {' '.join(suites)}")
        for test in self.tests:
            if test.in_guest and (not names or any(test.is_called(name) for name in names)):
                chosen.append(test)
        if not chosen:
            raise Problem(f"nothing of '{' '.join(names)}' runs in a guest")
        return chosen
