# SPDX-License-Identifier: MIT
"""guests.ini: the kernels and the guests."""

import configparser
import os

from problem import Problem

HERE = os.path.dirname(os.path.abspath(__file__))


class Table:
    """The kernels and guests that there are, in the order of the file."""

    def __init__(self, path=os.path.join(HERE, "guests.ini")):
        file = configparser.ConfigParser(default_section="guest", interpolation=None)
        with open(path, encoding="utf-8") as text:
            file.read_file(text)
        self.defaults = dict(file.defaults())
        self.kernels = {}
        self.guests = {}
        for section in file.sections():
            kind, _, name = section.partition(" ")
            if kind == "kernel":
                self.kernels[name] = {key: value for key, value in file[section].items()
                                      if key in ("suites", "package", "config")}
            elif kind == "guest":
                self.guests[name] = dict(file[section])
            else:
                raise Problem(f"{path}: what is [{section}]?")
        for name, guest in self.guests.items():
            self.check(name, guest)

    def check(self, name, guest):
        for key in guest:
            if key not in self.defaults:
                raise Problem(f"guest {name}: no setting '{key}'; settings: {' '.join(self.defaults)}")
        if guest["kernel"] not in self.kernels:
            raise Problem(f"guest {name}: no kernel '{guest['kernel']}'; kernels: {' '.join(self.kernels)}")

    def guest(self, name, changes):
        """A guest by its name, or the default guest with the kernel of that name."""
        if name in self.guests:
            guest = dict(self.guests[name])
        elif name in self.kernels:
            guest = {**self.defaults, "kernel": name}
        else:
            raise Problem(f"no kernel or guest '{name}'; kernels: {' '.join(self.kernels)}; "
                          f"guests: {' '.join(self.guests)}")
        guest.update(changes)
        self.check(name, guest)
        return guest

    def rows(self):
        """Names of the guests that are rows of the ladder."""
        return [name for name, guest in self.guests.items() if guest["says"]]
