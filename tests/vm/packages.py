# SPDX-License-Identifier: MIT
"""Debian packages of any suite, fetched and unpacked aside: apt with directories of its own, nothing installed.

The archive is the one this machine uses for its own release; only the name of the suite is replaced.
"""

import os
import re
import shutil
import subprocess

from problem import Problem, need_tools

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
HOW = "set SVM_VM_MIRROR to the address of a Debian archive, or list one in /etc/apt/sources.list"


def host_codename():
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            found = re.search(r'^VERSION_CODENAME="?(\w+)', file.read(), re.M)
    except OSError:
        found = None
    return found[1] if found else ""


def source_entries(directory="/etc/apt"):
    """(uris, suites, components, signed_by) of each entry of apt's sources, in both of its formats."""
    files = [os.path.join(directory, "sources.list")]
    parts = os.path.join(directory, "sources.list.d")
    if os.path.isdir(parts):
        files += sorted(os.path.join(parts, name) for name in os.listdir(parts))
    for path in files:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        if path.endswith(".sources"):
            yield from deb822_entries(text)
        elif path.endswith(".list"):
            yield from one_line_entries(text)


def deb822_entries(text):
    text = re.sub(r"^#.*\n", "", text, flags=re.M)
    for stanza in re.split(r"\n\s*\n", text):
        fields = {key.lower(): value.split() for key, value in
                  re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.M)}
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[0].lower() != "no":
            yield (fields.get("uris", []), fields.get("suites", []), fields.get("components", []),
                   " ".join(fields.get("signed-by", [])))


def one_line_entries(text):
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line.strip())
        if found:
            options, uri, suite, components = found.groups()
            signed = re.search(r"signed-by=(\S+)", options or "")
            yield [uri], [suite], components.split("#")[0].split(), signed[1] if signed else ""


def archive():
    """(address, signed_by) of the Debian archive that this machine uses."""
    if os.environ.get("SVM_VM_MIRROR"):
        return os.environ["SVM_VM_MIRROR"], KEYRING
    codename = host_codename()
    for uris, suites, components, signed_by in source_entries():
        if uris and codename and codename in suites and "main" in components:
            # Another archive can have a suite of that name; Debian's own ends in its name.
            if uris[0].rstrip("/").endswith("debian"):
                return uris[0], signed_by if signed_by.startswith("/") else KEYRING
    raise Problem(f"no Debian archive among this machine's package sources; {HOW}")


class Suite:
    """One suite of the archive, with apt's state in a directory of its own."""

    def __init__(self, name, cache):
        self.name = name
        self.root = os.path.join(cache, "apt", name)

    def options(self):
        root = self.root
        return ["-o", f"Dir::Etc={root}/etc", "-o", "Dir::Etc::sourceparts=/dev/null",
                "-o", "Dir::Etc::preferencesparts=/dev/null", "-o", f"Dir::State={root}/state",
                "-o", f"Dir::State::status={root}/state/status", "-o", f"Dir::Cache={root}/cache",
                "-o", "APT::Sandbox::User=root", "-o", "APT::Architecture=amd64"]

    def update(self):
        """Fetch the lists of this suite."""
        need_tools({"apt-get": "apt", "dpkg-deb": "dpkg"})
        uri, signed_by = archive()
        if not os.path.exists(signed_by):
            raise Problem(f"the key of the archive is missing: {signed_by}; "
                          "as root: apt-get install debian-archive-keyring")
        for path in ("etc", "state/lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self.root, path), exist_ok=True)
        with open(os.path.join(self.root, "etc/sources.list"), "w", encoding="utf-8") as file:
            file.write(f"deb [arch=amd64 signed-by={signed_by}] {uri} {self.name} main\n")
        with open(os.path.join(self.root, "state/status"), "w", encoding="utf-8"):
            pass
        self.apt("apt-get", "-q", "update", "--error-on=any")

    def apt(self, tool, *args, cwd=None):
        result = subprocess.run([tool, *self.options(), *args], cwd=cwd, text=True, check=False,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if result.returncode:
            said = [line for line in (result.stderr + result.stdout).splitlines() if line[:2] in ("E:", "Er", "W:")]
            raise Problem(f"no package access to {self.name}: {said[0] if said else 'apt failed'}; {HOW}")
        return result.stdout

    def show(self, package):
        """The fields of a package, or None where the suite lacks it."""
        text = subprocess.run(["apt-cache", *self.options(), "show", "--no-all-versions", package], check=False,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        fields = dict(re.findall(r"^([\w-]+): (.*)$", text.split("\n\n")[0], re.M))
        return fields if "Version" in fields else None

    def unpack(self, packages, target):
        """Fetch packages and unpack them into target."""
        fresh = os.path.join(self.root, "debs")
        shutil.rmtree(fresh, ignore_errors=True)
        os.makedirs(fresh)
        self.apt("apt-get", "-q", "download", *packages, cwd=fresh)
        os.makedirs(target, exist_ok=True)
        for name in sorted(os.listdir(fresh)):
            subprocess.run(["dpkg-deb", "-x", os.path.join(fresh, name), target], check=True)
        shutil.rmtree(fresh)


def newer(a, b):
    """Is version a newer than version b, by Debian's order?"""
    return subprocess.run(["dpkg", "--compare-versions", a, "gt", b], check=False).returncode == 0


def newest(names, package, cache):
    """(suite, fields) of the newest version of a package that these suites have."""
    best = None
    trouble = None
    for name in names:
        suite = Suite(name, cache)
        try:
            suite.update()
        except Problem as problem:
            trouble = problem  # a mirror need not carry all suites
            continue
        fields = suite.show(package)
        if fields and (not best or newer(fields["Version"], best[1]["Version"])):
            best = suite, fields
    if not best:
        raise trouble or Problem(f"no package {package} in {' or '.join(names)}; {HOW}")
    return best
