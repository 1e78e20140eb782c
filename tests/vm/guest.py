# SPDX-License-Identifier: MIT
"""One guest, from its entry in the table to its results."""

import os
import shlex
import shutil
import time

import boot
import heard
import initramfs
import kernel as kernels
from problem import Problem

# Unit tests and those flows that touch what differs between kernels, in their short form. Not on emulated GPUs, no more
# than in "all": what those do is a matter of their emulator, which is a part of the process, and not of the kernel.
QUICK = ["unit", "fault", "register", "syscalls", "unprivileged", "fork", "exit", "advise"]
EMULATED = {"xe", "emu"}
# They only compute, for long.
EXPLORERS = ["random_coherence", "random_serving"]
# Without any answer for this much longer than the slowest entry may take, a guest hangs.
PATIENCE = 120


def words(text):
    """NAME=VALUE... as a dictionary."""
    return dict(word.split("=", 1) for word in text.split())


class Guest:
    """A guest with what it is to run: tests by name, or a command."""

    def __init__(self, name, entry, kernel_entry, built, directory):
        self.name = name
        self.entry = entry
        self.kernel = kernels.get(entry["kernel"], kernel_entry)
        self.built = built
        self.directory = os.path.join(directory, name)
        self.ear = None
        self.seconds = 0.0
        self.complaints = []
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)

    def run_tests(self, names):
        """Run tests; names as for `./dev test`, or none for what the table says."""
        env = {"SVM_TEST_SLOWER": self.entry["slower"], **words(self.entry["env"])}
        if not names:
            names = self.entry["suite"].split()
            if names != ["full"]:
                env["SVM_TEST_QUICK"] = "2"
        if names in (["quick"], ["all"]):
            tests = [test for test in self.built.select(QUICK if names == ["quick"] else [])
                     if not EMULATED & set(test.suites) and test.name not in EXPLORERS]
        else:
            tests = self.built.select([] if names == ["full"] else names)
        slower = int(self.entry["slower"])
        limits = {test.name: test.seconds * slower for test in tests}
        files = {}
        for number, test in enumerate(tests):
            entry = f"svm/list/{number:03}"
            files[f"{entry}/name"] = test.name.encode() + b"\n"
            files[f"{entry}/seconds"] = f"{limits[test.name]}\n".encode()
            files[f"{entry}/run"] = test.script(env).encode()
            if test.beside and int(self.entry["cpus"]) > 1:
                files[f"{entry}/beside"] = b""
        return self.run(self.built.needed(tests), files, limits, max(limits.values()) + PATIENCE, False)

    def run_command(self, command):
        """Run one command in the build directory and say what it says."""
        env = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in words(self.entry["env"]).items())
        files = {"svm/list/0/name": b"command\n", "svm/list/0/seconds": b"0\n", "svm/list/0/live": b"",
                 "svm/list/0/run": f"{env}{command}\n".encode()}
        return self.run(self.built.files, files, {}, 3600, True)

    def run(self, programs, files, limits, limit, echo):
        """Boot it. Returns the failures that belong to no test, as (what, text)."""
        entry = self.entry
        modules = [word.partition(":")[::2] for word in entry["modules"].split()]
        modules = [(name, parameters.replace(":", " ")) for name, parameters in modules]
        modules += [("virtio_pci", ""), ("virtio_blk", "")] if entry["swap"] else []
        modules += [("zram", "")] if entry["zram"] else []
        for path, here in words(entry["files"]).items():
            if not os.path.exists(here):
                raise Problem(f"guest {self.name}: no file {here}")
            files[path] = here
        initrd = os.path.join(self.directory, "initrd")
        initramfs.build(initrd, self.built, programs, self.kernel, modules, files, self.settings())
        print(f"vm: {self.name}: {self.kernel.version}", flush=True)
        begin = time.monotonic()
        with open(os.path.join(self.directory, "output.log"), "w", encoding="utf-8") as log:
            self.ear = heard.Ear(limits, log, echo)
            trouble = boot.run(self.kernel, initrd, entry, self.directory, limit, self.ear.hear)
        self.seconds = time.monotonic() - begin
        os.unlink(initrd)
        console = os.path.join(self.directory, "console.log")
        self.complaints = heard.complaints(console)
        failures = self.ear.failures()
        failures += [("guest", trouble)] if trouble else []
        failures += [("kernel", text) for text in self.complaints]
        if failures:
            print(f"vm: kernel log: {console}", flush=True)
        return failures

    def settings(self):
        entry = self.entry
        settings = {
            "SVM_USER": entry["user"],
            "SVM_UFFD": entry["uffd"],
            "SVM_THP": entry["thp"],
            "SVM_SYSCTL": " ".join(entry["sysctl"].split()),
            "SVM_SWAP": "/dev/vda" if entry["swap"] else "",
            "SVM_ZRAM": entry["zram"],
        }
        return "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
