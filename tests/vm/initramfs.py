# SPDX-License-Identifier: MIT
"""The root file system of a guest: busybox, what was built with the libraries it needs, modules, and what to run.

Written as an archive of the "newc" format (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).
Not compressed: unpacking costs a software-emulated guest more than loading does.
"""

import os
import re
import stat
import subprocess
import tempfile

from kernel import read_module
from problem import Problem, need_tools

HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = "/bin/busybox"
# Where a guest has the build directory.
BUILD = "/svm/build"


class Archive:
    """An archive under construction; a directory is made when something is put into it."""

    def __init__(self):
        self.entries = {}  # path -> (mode, bytes)

    def add(self, path, data, mode=0o644):
        path = path.strip("/")
        self.directory(os.path.dirname(path))
        self.entries[path] = (stat.S_IFREG | mode, data)

    def link(self, path, target):
        path = path.strip("/")
        self.directory(os.path.dirname(path))
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def directory(self, path, mode=0o755):
        path = path.strip("/")
        if path and path not in self.entries:
            self.directory(os.path.dirname(path))
            self.entries[path] = (stat.S_IFDIR | mode, b"")

    def write(self, name):
        with open(name, "wb") as file:
            for inode, (path, (mode, data)) in enumerate(self.entries.items(), 1):
                self.write_entry(file, inode, path, mode, data)
            self.write_entry(file, 0, "TRAILER!!!", 0, b"")

    @staticmethod
    def write_entry(file, inode, path, mode, data):
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = [inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        file.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))


def shared_libraries(programs):
    """The shared libraries that programs load, as {path in the guest: file here}; those of the build have their place."""
    found = {}
    for program in programs:
        text = subprocess.run(["ldd", program], check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout
        missing = re.findall(r"^\s*(\S+) => not found", text, re.M)
        if missing:
            raise Problem(f"{program} does not find {' '.join(missing)}")
        for wanted, path in re.findall(r"^\s*(\S+)(?: => (/\S+))? \(0x", text, re.M):
            path = path or wanted
            if path.startswith("/"):
                found[path] = os.path.realpath(path)
    return found


def stripped(path):
    """The bytes of a program without what only a debugger reads."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["strip", "-g", "-o", file.name, path], check=True)
        return read(file.name)


def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def build(name, built, programs, kernel, modules, files, settings):
    """Write the archive `name`.

    built: BuildTree; programs: those of its files that come along; modules: [(module, parameters)];
    files: {path in the guest: bytes or file here}; settings: text of what /init reads, a shell script.
    """
    need_tools({"strip": "binutils", "ldd": "libc-bin"})
    if not os.path.exists(BUSYBOX) or b"statically" not in subprocess.run(
            ["ldd", BUSYBOX], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.replace(
                b"not a dynamic executable", b"statically"):
        raise Problem("missing a static busybox; as root: apt-get install busybox-static")

    archive = Archive()
    for path in ("dev", "proc", "sys", "run", "mnt", "root", "etc"):
        archive.directory(path)
    archive.directory("tmp", 0o1777)
    archive.add("etc/passwd", b"root:x:0:0::/root:/bin/sh\ntester:x:1000:1000::/tmp:/bin/sh\n"
                              b"nobody:x:65534:65534::/:/bin/sh\n")
    archive.add("etc/group", b"root:x:0:\ntester:x:1000:\nnogroup:x:65534:\n")
    with open(BUSYBOX, "rb") as file:
        archive.add("bin/busybox", file.read(), 0o755)
    archive.link("bin/sh", "busybox")
    for script in ("init", "run-list"):
        with open(os.path.join(HERE, script), "rb") as file:
            archive.add("init" if script == "init" else f"svm/{script}", file.read(), 0o755)
    archive.add("svm/settings", settings.encode())

    for path in programs:
        archive.add(f"{BUILD}/{os.path.relpath(path, built.root)}", stripped(path) if is_elf(path) else read(path),
                    0o755)
    for link, target in built.links.items():
        archive.link(f"{BUILD}/{os.path.relpath(link, built.root)}", target)
    for path, here in shared_libraries([path for path in programs if is_elf(path)]).items():
        if not here.startswith(built.root + os.sep):
            archive.add(path, read(here), 0o755)

    orders = []
    for module, parameters in modules:
        for path in kernel.module_files([module]):
            target = f"svm/modules/{os.path.basename(path).split('.ko')[0]}.ko"
            if target.strip("/") not in archive.entries:
                archive.add(target, read_module(path))
                # Parameters are the module's own, not of what it depends on.
                own = os.path.basename(target)[:-3].replace("-", "_") == module.replace("-", "_")
                orders.append(f"/{target}{' ' + parameters if own and parameters else ''}\n")
    archive.add("svm/modules.list", "".join(orders).encode())
    for path, data in files.items():
        archive.add(path, data if isinstance(data, bytes) else read(data))
    archive.write(name)


def read(path):
    with open(path, "rb") as file:
        return file.read()
