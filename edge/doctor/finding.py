"""What a check says, and what all checks may look at."""

from __future__ import annotations

import os
import pwd
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from edge.settings import Config

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. text: what was found; advice: what to do about it, empty where nothing is to be done."""

    level: Level
    area: str
    text: str
    advice: str = ""


def ok(area: str, text: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding("ok", area, text)


def warn(area: str, text: str, advice: str) -> Finding:
    """Return a finding that deserves a look, though Footfall works."""
    return Finding("warn", area, text, advice)


def fail(area: str, text: str, advice: str) -> Finding:
    """Return a finding with which Footfall does not work."""
    return Finding("fail", area, text, advice)


@dataclass(slots=True)
class Context:
    """What the checks share.

    root: where /proc, /sys, /dev and /boot are, another folder in tests; measure_s: how long the sensor is watched;
    sensor_ready: set by the bus check where a measurement makes sense and disturbs nobody; cancelled: Ctrl-C;
    progress: told the share of the measurement that is done.
    """

    config: Config
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path = Path("/")
    measure_s: float = 10.0
    sensor_ready: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[float], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Check:
    """One area. limit_s: after so long it is given up and reported as hanging."""

    area: str
    run: Callable[[Context], Iterator[Finding]]
    limit_s: float


def user_name() -> str:
    """Return the effective user, whatever LOGNAME says; its number where it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def read_text(path: Path) -> str | None:
    """Return a small text file of the system without surrounding blanks; None where there is none to be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\0")
    except OSError:
        return None
