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


def arguments(kernel, initrd, guest, directory):
    """QEMU's arguments for a guest."""
    memory = size_in_mib(guest["memory"])
    cpus = int(guest["cpus"])
    nodes = int(guest["nodes"])
    args = ["-cpu", "max", "-smp", f"{cpus},sockets={nodes}", "-m", f"{memory}M", "-nodefaults", "-no-reboot", "-nographic"]
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
             "-serial", f"file:{os.path.join(directory, 'console.log')}", "-serial", "stdio"]
    return args + guest["qemu"].split()


class Ended(Exception):
    """The guest is gone."""


def run(kernel, initrd, guest, directory, limit, hear):
    """Run a guest to its end; hear(line) gets each line that it says. Returns what went wrong, or None.

    limit: seconds that it may be silent, for one that hangs as a whole.
    """
    need_tools({QEMU: "qemu-system-x86"})
    accel = accelerator(kernel)
    command = [QEMU, "-accel", "tcg,thread=multi" if accel == "tcg" else accel,
               *arguments(kernel, initrd, guest, directory)]
    with open(os.path.join(directory, "command"), "w", encoding="utf-8") as file:
        file.write(" ".join(command) + "\n")
    lines = queue.Queue()
    with open(os.path.join(directory, "qemu.log"), "w", encoding="utf-8") as log, \
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as qemu:
        def read():
            for line in qemu.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            while (line := lines.get(timeout=limit)) is not None:
                hear(line.decode(errors="replace").rstrip("\r\n"))
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
