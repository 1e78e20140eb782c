# SPDX-License-Identifier: MIT
"""Kernels for guests: Debian's own, unpacked aside, and one built from Debian's source. Both are kept in a cache.

Each is a directory with `bzImage`, `version` (what it is, for reports), and `lib/modules/RELEASE` where it has modules.
"""

import contextlib
import fcntl
import glob
import hashlib
import lzma
import os
import re
import shutil
import subprocess

import packages
from problem import Problem, need_tools

HERE = os.path.dirname(os.path.abspath(__file__))
# Part of the name of what is built: raise it when the way of building changes.
RECIPE = "1"
BUILD_TOOLS = {"make": "make", "gcc": "gcc", "flex": "flex", "bison": "bison", "bc": "bc", "xz": "xz-utils",
               "tar": "tar", "perl": "perl"}
BUILD_HEADERS = {"/usr/include/libelf.h": "libelf-dev", "/usr/include/openssl/opensslv.h": "libssl-dev"}


def cache_directory():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(base, "libsvm", "vm")
    os.makedirs(path, exist_ok=True)
    return path


class Kernel:
    """A kernel in the cache."""

    def __init__(self, directory):
        self.image = os.path.join(directory, "bzImage")
        with open(os.path.join(directory, "version"), encoding="utf-8") as file:
            self.version = file.read().strip()
        self.modules = os.path.join(directory, "lib", "modules")

    def module_files(self, names):
        """Files of these modules and of what they depend on, in the order to load them; built-in ones are left out."""
        releases = os.listdir(self.modules) if os.path.isdir(self.modules) else []
        if not releases:
            return []
        root = os.path.join(self.modules, releases[0])
        depends = {}
        with open(os.path.join(root, "modules.dep"), encoding="utf-8") as file:
            for line in file:
                path, _, needs = line.partition(":")
                depends[module_name(path)] = (path, [module_name(need) for need in needs.split()])
        with open(os.path.join(root, "modules.builtin"), encoding="utf-8") as file:
            built_in = {module_name(line.strip()) for line in file}
        order = []

        def add(name):
            if name in built_in or name in order:
                return
            if name not in depends:
                raise Problem(f"{self.version} has no module {name}")
            for need in depends[name][1]:
                add(need)
            order.append(name)

        for name in names:
            add(name.replace("-", "_"))
        return [os.path.join(root, depends[name][0]) for name in order]


def module_name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def read_module(path):
    """The bytes of a module, decompressed: not every loader in a guest can."""
    if path.endswith(".zst"):
        need_tools({"zstd": "zstd"})
        return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    with (lzma.open if path.endswith(".xz") else open)(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def locked(directory):
    """One run at a time changes the cache."""
    with open(os.path.join(directory, "lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def get(name, entry, refresh=False):
    """The kernel that an entry of the table describes; fetched or built when it is not in the cache.

    Without refresh a kernel that was fetched once stays as it is, so that runs can be compared and need no network.
    """
    cache = cache_directory()
    config = os.path.join(HERE, entry["config"]) if "config" in entry else None
    known = os.path.join(cache, f"{name}.is")
    # Without the lock first: what is there need not wait for what another run fetches or builds.
    if not refresh and is_complete(directory_of(cache, name, read_source(known), config)):
        return Kernel(directory_of(cache, name, read_source(known), config))
    with locked(cache):
        source = None if refresh else read_source(known)
        suites = entry["suites"].split()
        if not source:
            print(f"vm: looking for kernel {name} in {' '.join(suites)}", flush=True)
            suite, fields = packages.newest(suites, entry["package"], cache)
            source = [suite.name, fields["Version"]]
        directory = directory_of(cache, name, source, config)
        if not is_complete(directory):
            work = directory + ".new"
            shutil.rmtree(work, ignore_errors=True)
            os.makedirs(work)
            suite = packages.Suite(source[0], cache)
            if not suite.show(entry["package"]) or suite.show(entry["package"])["Version"] != source[1]:
                suite.update()
            (build if config else fetch)(suite, entry["package"], config, work)
            os.rename(work, directory)
        with open(known, "w", encoding="utf-8") as file:
            file.write(" ".join(source) + "\n")
    return Kernel(directory)


def read_source(known):
    """Suite and version of the kernel that was chosen before, or None."""
    try:
        with open(known, encoding="utf-8") as file:
            return file.read().split()
    except OSError:
        return None


def is_complete(directory):
    return directory is not None and os.path.exists(os.path.join(directory, "version"))


def directory_of(cache, name, source, config):
    """Where a kernel is kept: its name says what it was made from."""
    if not source:
        return None
    text = " ".join(source)
    if config:
        with open(config, encoding="utf-8") as file:
            text += f" {RECIPE} {file.read()}"
    return os.path.join(cache, "kernels", f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}")


# ---- Debian's own -----------------------------------------------------------------------------


def kernel_packages(suite, package):
    """The packages that hold the files of a kernel: what the meta-package leads to, by names of linux-*."""
    found = []
    queue = [package]
    while queue:
        name = queue.pop()
        fields = suite.show(name)
        if not fields or name in found:
            continue
        found.append(name)
        queue += re.findall(r"\blinux-(?:image|binary|modules|base)-[\w.+-]+", fields.get("Depends", ""))
    return found


def fetch(suite, package, _config, work):
    need_tools({"depmod": "kmod"})
    names = kernel_packages(suite, package)
    print(f"vm: fetching {' '.join(names)}", flush=True)
    suite.unpack(names, work)
    # Debian 13 and later unpack to /usr/lib alone, and kernels of Linux 7 are beside their modules.
    if not os.path.isdir(os.path.join(work, "lib")):
        os.rename(os.path.join(work, "usr", "lib"), os.path.join(work, "lib"))
    images = glob.glob(f"{work}/boot/vmlinuz-*") + glob.glob(f"{work}/lib/modules/*/vmlinuz")
    if len(images) != 1:
        raise Problem(f"{package} of {suite.name} has {len(images)} kernels where one was expected")
    release = os.path.basename(images[0]).removeprefix("vmlinuz-")
    if release == "vmlinuz":
        release = os.path.basename(os.path.dirname(images[0]))
    os.rename(images[0], os.path.join(work, "bzImage"))
    subprocess.run(["depmod", "-b", work, release], check=True)
    version = suite.show(package)["Version"]
    finish(work, f"{release} (Debian {version})")


# ---- Ours -------------------------------------------------------------------------------------


def build(suite, package, config, work):
    need_tools(BUILD_TOOLS)
    missing = [name for path, name in BUILD_HEADERS.items() if not os.path.exists(path) and not in_multiarch(path)]
    if missing:
        raise Problem(f"missing headers; as root: apt-get install {' '.join(missing)}")
    # linux-source depends on the package of the newest version.
    fields = suite.show(package)
    named = re.findall(r"\blinux-source-[\d.]+", fields.get("Depends", ""))
    named = named[0] if named else package
    print(f"vm: fetching {named} {fields['Version']}", flush=True)
    suite.unpack([named], work)
    source = os.path.join(work, "source")
    os.makedirs(source)
    archive = os.path.join(work, "usr", "src", f"{named}.tar.xz")
    subprocess.run(["tar", "-xf", archive, "-C", source, "--strip-components=1"], check=True)
    os.unlink(archive)
    build_tree(source, config, work)
    version = subprocess.run(["make", "-s", "kernelrelease"], cwd=source, check=True, text=True,
                             stdout=subprocess.PIPE).stdout.strip()
    os.rename(os.path.join(source, "arch", "x86", "boot", "bzImage"), os.path.join(work, "bzImage"))
    os.rename(os.path.join(source, ".config"), os.path.join(work, "config"))
    finish(work, f"{version} (built from Debian's {named} {fields['Version']})")


def in_multiarch(path):
    return os.path.exists(path.replace("/usr/include/", "/usr/include/x86_64-linux-gnu/"))


def build_tree(source, config, work):
    make = ["make", "-s", "-C", source, f"-j{os.environ.get('JOBS', '2')}"]
    subprocess.run([*make, "allnoconfig", f"KCONFIG_ALLCONFIG={config}"], check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(source, ".config"), encoding="utf-8") as file:
        got = set(file.read().splitlines())
    with open(config, encoding="utf-8") as file:
        lost = [line for line in file.read().splitlines() if line.startswith("CONFIG_") and line not in got]
    if lost:
        raise Problem(f"the kernel's configuration does not keep {' '.join(lost)}; mend {config}")
    log = work + ".log"
    print(f"vm: building the kernel: minutes; log in {log}", flush=True)
    with open(log, "w", encoding="utf-8") as file:
        status = subprocess.run([*make, "bzImage"], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                check=False).returncode
    if status:
        raise Problem(f"the kernel does not build; see {log}")


def finish(work, version):
    """Keep what a guest needs."""
    for name in ("boot", "usr", "source", "etc"):
        shutil.rmtree(os.path.join(work, name), ignore_errors=True)
    with open(os.path.join(work, "version"), "w", encoding="utf-8") as file:
        file.write(version + "\n")
