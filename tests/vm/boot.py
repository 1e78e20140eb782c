# SPDX-License-Identifier: MIT
"""Start QEMU, hear what the guest says, and see that it ends."""

import os
import queue
import subprocess
import sys
import threading
import time

from kernel import cache_directory
from problem import need_tools

QEMU = "qemu-system-x86_64"
KVM_LIMIT = 20  # seconds for a kernel to come as far as its first process; it takes one or two
# no_timer_check: on a busy machine an emulated timer is late for the test that old kernels make of it.
COMMAND_LINE = "console=ttyS0 panic=-1 oops=panic loglevel=7 no_timer_check rdinit=/init"

# Software emulation does a "rep" of a string instruction one element at a time. Without these features, and on AMD's
# family 6, the kernel and the C library use plain loops (arch/x86/kernel/cpu/amd.c: X86_FEATURE_REP_GOOD), which makes
# the tests three times faster.
CPU = {"tcg": "max,-erms,-fsrm,family=6", "kvm": "max"}


def accelerator(kernel):
    """'kvm' where a kernel is seen to boot with it, else 'tcg'. SVM_VM_ACCEL decides otherwise."""
    if os.environ.get("SVM_VM_ACCEL"):
        return os.environ["SVM_VM_ACCEL"]
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    # Once per boot of this machine: where it hangs, it hangs for the whole limit.
    known = os.path.join(cache_directory(), "accelerator")
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        boot = file.read().strip()
    try:
        with open(known, encoding="utf-8") as file:
            said = file.read().split()
        if said[0] == boot:
            return said[1]
    except (OSError, IndexError):
        pass
    choice = "kvm" if kvm_boots(kernel) else "tcg"
    with open(known, "w", encoding="utf-8") as file:
        file.write(f"{boot} {choice}\n")
    return choice


def kvm_boots(kernel):
    """Does a kernel come to the end of its start? Without a root it panics there, which ends QEMU."""
    command = [QEMU, "-accel", "kvm", "-cpu", "max", "-m", "512M", "-nodefaults", "-no-reboot", "-nographic",
               "-serial", "stdio", "-kernel", kernel.image, "-append", "console=ttyS0 panic=-1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as qemu:
        try:
            said, _ = qemu.communicate(timeout=KVM_LIMIT)
        except subprocess.TimeoutExpired:
            qemu.kill()
            return False
    return qemu.returncode == 0 and b"Kernel panic" in said


def size_in_mib(text):
    return int(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]


def arguments(accel, kernel, initrd, guest, directory, second):
    """QEMU's arguments for a guest. second: a file descriptor for what its third serial port says."""
    memory = size_in_mib(guest["memory"])
    cpus = int(guest["cpus"])
    nodes = int(guest["nodes"])
    args = ["-accel", "tcg,thread=multi" if accel == "tcg" else accel, "-cpu", CPU.get(accel, "max"),
            "-smp", f"{cpus},sockets={nodes}", "-m", f"{memory}M", "-nodefaults", "-no-reboot", "-nographic"]
    if nodes > 1:
        for node in range(nodes):
            first, last = node * cpus // nodes, (node + 1) * cpus // nodes - 1
            args += ["-object", f"memory-backend-ram,id=m{node},size={memory // nodes}M",
                     "-numa", f"node,nodeid={node},memdev=m{node}" + (f",cpus={first}-{last}" if last >= first else "")]
    if guest["swap"]:
        image = os.path.join(directory, "swap.img")
        with open(image, "wb") as file:
            file.truncate(size_in_mib(guest["swap"]) << 20)
        args += ["-drive", f"file={image},if=virtio,format=raw,cache=unsafe"]
    args += ["-kernel", kernel.image, "-initrd", initrd, "-append", f"{COMMAND_LINE} {guest['append']}".strip(),
             "-serial", f"file:{os.path.join(directory, 'console.log')}", "-serial", "stdio",
             "-serial", f"file:/dev/fd/{second}"]
    return args + guest["qemu"].split()


def run(kernel, initrd, guest, directory, limit, hear):
    """Run a guest to its end; hear(lane, line) gets each line that it says. Returns what went wrong, or None.

    lane: 0 or 1, the port on which it was said.
    limit: seconds that it may be silent, for one that hangs as a whole.
    """
    need_tools({QEMU: "qemu-system-x86"})
    second, its_end = os.pipe()
    command = [QEMU, *arguments(accelerator(kernel), kernel, initrd, guest, directory, its_end)]
    with open(os.path.join(directory, "command"), "w", encoding="utf-8") as file:
        file.write(" ".join(command) + "\n")
    lines = queue.Queue()

    def read(lane, file):
        with file:
            for line in file:
                lines.put((lane, line))
        lines.put((lane, None))

    with open(os.path.join(directory, "qemu.log"), "w", encoding="utf-8") as log, \
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                             pass_fds=[its_end]) as qemu:
        os.close(its_end)
        files = [qemu.stdout, os.fdopen(second, "rb")]
        for lane, file in enumerate(files):
            threading.Thread(target=read, args=(lane, file), daemon=True).start()
        n_open = len(files)
        try:
            while n_open:
                lane, line = lines.get(timeout=limit)
                if line is None:
                    n_open -= 1
                else:
                    hear(lane, line.decode(errors="replace").rstrip("\r\n"))
        except queue.Empty:
            qemu.kill()
            return f"it said nothing for {limit} s"
        except BaseException:
            qemu.kill()
            raise
        status = qemu.wait()
    if status:
        return f"QEMU ended with {status}; see {directory}/qemu.log"
    return None
