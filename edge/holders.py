"""Who else has a device or file open: the question to ask before a sensor is reset under a daemon's feet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """Another process. daemon: it is `footfall run`; certain: we saw the path among its open files."""

    pid: int
    command: str
    daemon: bool
    certain: bool


def holders(path: str | Path, proc: Path = Path("/proc")) -> list[Holder]:
    """Return the other processes that have a path open, and the Footfall daemons that may have.

    Another user's open files are secret: a daemon of another user counts as one that may have it (certain = False).
    """
    real = os.path.realpath(path)
    found = []
    for folder in proc.glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        command = _command(folder)
        daemon = _is_daemon(command)
        opened = _has_open(folder, real)
        if opened or (opened is None and daemon):
            found.append(Holder(pid, " ".join(command)[:80], daemon, certain=bool(opened)))
    return sorted(found, key=lambda one: (not one.daemon, one.pid))


def _has_open(folder: Path, real: str) -> bool | None:
    """Whether a process has the path open; None where we may not know."""
    try:
        descriptors = list((folder / "fd").iterdir())
    except PermissionError:
        return None
    except OSError:  # it has ended meanwhile
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(descriptor) == real:  # noqa: PTH115  pathlib would make a Path of a socket's name
                return True
        except OSError:
            continue
    return False


def _command(folder: Path) -> list[str]:
    try:
        raw = (folder / "cmdline").read_bytes()
    except OSError:
        return []
    return [word.decode(errors="replace") for word in raw.split(b"\0") if word]


def _is_daemon(command: list[str]) -> bool:
    """`footfall run`, `python …/footfall run` or `python -m edge run`, with whatever options."""
    for word, following in pairwise(command):
        if following == "run" and (word == "edge" or Path(word).name == "footfall"):
            return True
    return False
