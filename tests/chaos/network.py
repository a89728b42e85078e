"""A network of the daemon's own, which can be cut: a namespace behind a virtual cable."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


def unavailable() -> str | None:
    """Return why there can be no namespace here; None if there can."""
    if os.getuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "iptables"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"{program} is missing: apt install iproute2 iptables"
    probe = f"ffp{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True).returncode != 0:
        return "this kernel or container allows no network namespace"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


class Namespace:
    """Use as a context manager; `prefix` runs a command inside, `host` is this side's address as seen from there."""

    def __init__(self) -> None:
        self._name = f"ff{os.getpid()}"
        self._cable = f"ff{os.getpid()}h"
        net = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"  # noqa: S311  any free one will do
        self.host, self._inside = f"{net}.1", f"{net}.2"

    @property
    def prefix(self) -> Sequence[str]:
        """What to put before a command so that it runs inside; the process stays the same."""
        return ("ip", "netns", "exec", self._name)

    def __enter__(self) -> Self:
        inner = f"{self._cable[:-1]}n"
        _run("ip", "netns", "add", self._name)
        try:
            _run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", inner, "netns", self._name)
            _run("ip", "addr", "add", f"{self.host}/30", "dev", self._cable)
            _run("ip", "link", "set", self._cable, "up")
            _run(*self.prefix, "ip", "addr", "add", f"{self._inside}/30", "dev", inner)
            _run(*self.prefix, "ip", "link", "set", inner, "up")
            _run(*self.prefix, "ip", "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "link", "del", self._cable], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)

    def drop(self) -> None:
        """Swallow every packet, both ways."""
        for chain in ("INPUT", "OUTPUT"):
            _run(*self.prefix, "iptables", "-A", chain, "-j", "DROP")

    def reject(self) -> None:
        """Answer every TCP packet with a reset."""
        _run(*self.prefix, "iptables", "-A", "OUTPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")

    def unplug(self) -> None:
        """Take the cable's far end down."""
        _run("ip", "link", "set", self._cable, "down")

    def heal(self) -> None:
        """Undo all of these."""
        _run("ip", "link", "set", self._cable, "up")
        _run(*self.prefix, "iptables", "-F")


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
