"""The machine itself: Python and its packages, who we are, the systemd unit, the supply voltage."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from edge import __version__
from edge.doctor.finding import Finding, fail, ok, read_text, user_name, warn
from edge.health import undervoltage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.doctor.finding import Context

LIMIT_S = 20.0
TOOL_TIMEOUT_S = 5.0
PYTHONS = ((3, 11), (3, 13))
UNIT = "footfall.service"
# Bits of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd").
UNDERVOLTAGE_NOW, THROTTLED_NOW, UNDERVOLTAGE_SINCE_BOOT = 1 << 0, 1 << 2, 1 << 16
_BETTER_SUPPLY = "use the official power supply and a short cable; feed motors and servos from a supply of their own"


def machine(context: Context) -> Iterator[Finding]:
    """Say what runs here, and whether this Python is one that Footfall is tested on."""
    model = read_text(context.root / "proc/device-tree/model") or platform.machine()
    version = ".".join(map(str, sys.version_info[:3]))
    text = f"Footfall {__version__}, Python {version} on {model}, user {user_name()!r}"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield ok("machine", text)
    else:
        yield warn("machine", text, "Footfall is tested on Python 3.11 to 3.13")
    yield from _packages()
    yield from _supply(context)


def _packages() -> Iterator[Finding]:
    versions = {}
    for name in ("numpy", "smbus2", "paho-mqtt", "PyYAML"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield fail("machine", f"the package {name} is not installed", f"run `pip install {name}`")
    yield ok("machine", ", ".join(f"{name} {version}" for name, version in versions.items()))


def unit(_: Context) -> Iterator[Finding]:
    """Say what systemd thinks of the service, where there is systemd and the service."""
    names = ("LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "Result", "User")
    said = tool_output(["systemctl", "show", UNIT, "--property", ",".join(names)])
    if said is None:
        return
    state = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if state.get("LoadState") != "loaded":
        yield ok("service", f"{UNIT} is not installed here; `footfall run` starts the daemon by hand")
        return
    active, restarts = state.get("ActiveState", "unknown"), state.get("NRestarts", "0")
    text = f"{UNIT} is {active} ({state.get('SubState', '?')}), {restarts} restarts"
    if active == "failed":
        yield fail("service", f"{text}, result {state.get('Result')}", f"run `journalctl -u {UNIT} -n 20`")
    elif restarts not in ("", "0"):
        yield warn("service", text, f"run `journalctl -u {UNIT} | grep -i error`")
    elif state.get("UnitFileState") == "disabled":
        yield warn("service", f"{text}; it does not start at boot", f"run `sudo systemctl enable {UNIT}`")
    else:
        yield ok("service", text)
    user = state.get("User") or "root"
    if user != user_name():
        yield warn(
            "service",
            f"the service runs as {user!r}, this check as {user_name()!r}: permissions may differ",
            f"for the service's own view run `sudo -u {user} footfall doctor`",
        )


def _supply(context: Context) -> Iterator[Finding]:
    bits = throttled(tool_output(["vcgencmd", "get_throttled"]))
    now = undervoltage(context.root / "sys") if bits is None else bool(bits & UNDERVOLTAGE_NOW)
    if now:
        yield fail("machine", "the supply voltage is too low right now", _BETTER_SUPPLY)
    elif bits is not None and bits & UNDERVOLTAGE_SINCE_BOOT:
        yield warn("machine", "the supply voltage was too low at least once since boot", _BETTER_SUPPLY)
    elif bits is not None and bits & THROTTLED_NOW:
        yield warn("machine", "the processor is slowed down (throttled), by heat most likely", "cool it")
    elif now is not None:
        yield ok("machine", "the supply voltage is fine")


def throttled(said: str | None) -> int | None:
    """Return the bits of `throttled=0x50000`; None where the tool is missing or says something else."""
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", said or "")
    return int(found[1], 16) if found else None


def tool_output(command: Sequence[str]) -> str | None:
    """Run a system tool; None where it is missing, fails or does not end in time."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
