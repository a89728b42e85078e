"""A network that nothing else is in: the machines, and the one from which they are looked after."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from emulator import children
from tests.broker import wait_until

if TYPE_CHECKING:
    from tests.device.machine import Machine

# Addresses of RFC 5737, which are nobody's.
HERE = "192.0.2.1"


class FleetNetwork:
    """A network namespace with a bridge: `HERE` is where our own programs run, each machine is one cable away."""

    def __init__(self) -> None:
        self._holder = children.start(["unshare", "--net", "sleep", "infinity"], stdout=None, stderr=None)
        wait_until(self._is_apart, what="a network of its own")
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", "cables", "type", "bridge")
        self._ip("address", "add", f"{HERE}/24", "dev", "cables")
        self._ip("link", "set", "cables", "up")

    def _is_apart(self) -> bool:
        return Path(f"/proc/{self._holder.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()

    def _ip(self, *command: str) -> None:
        subprocess.run(self.beside("ip", *command), check=True, capture_output=True)

    def plug_in(self, machine: Machine, number: int) -> str:
        """Give a booted machine a cable and an address, and return the latter."""
        address, cable = f"192.0.2.{10 + number}", f"cable{number}"
        self._ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(machine.leader))
        self._ip("link", "set", cable, "master", "cables", "up")
        for command in (["address", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            subprocess.run(machine.beside("ip", *command), check=True, capture_output=True)
        return address

    def beside(self, *command: str) -> list[str]:
        """Return the command line that runs a program of ours in this network."""
        return ["nsenter", "--target", str(self._holder.pid), "--net", *command]

    def succeeds(self, *command: str) -> bool:
        """Tell whether a command in this network ends with 0."""
        return subprocess.run(self.beside(*command), capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        """Pull everything out."""
        children.stop(self._holder)
