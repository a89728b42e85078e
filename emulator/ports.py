"""Free TCP ports for what listens later: brokers, clusters, consoles."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _HIGHEST = 10_000, 32_767
_ATTEMPTS = 100


def free_port() -> int:
    """Return a TCP port that nobody listens on, and that the kernel gives to no outgoing connection.

    One of those would be taken by somebody's connection sooner or later, even by that of a client which keeps trying to
    reach this very port, before the broker that it is meant for starts.
    """
    highest = _HIGHEST
    if _EPHEMERAL.exists():
        highest = min(highest, int(_EPHEMERAL.read_text(encoding="ascii").split()[0]) - 1)
    chance = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = chance.randint(min(_LOWEST, highest), highest)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(errno.EADDRINUSE, f"no free TCP port found between {_LOWEST} and {highest}")
