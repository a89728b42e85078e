"""The shipped unit as systemd-analyze sees it, and what in it must never come back."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

UNIT = ROOT / "systemd" / "footfall.service"
MAX_EXPOSURE_TENTHS = 13
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def settings() -> list[tuple[str, str]]:
    """Return the unit's assignments, in order."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [
        (name, value) for name, equals, value in (line.partition("=") for line in lines) if equals and name[0] != "#"
    ]


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def installed(tmp_path: Path, text: str) -> Path:
    """Write the unit with a program that exists on this machine, which has no footfall."""
    unit = tmp_path / "footfall.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=footfall", "ExecStart=/bin/true", text), encoding="utf-8")
    return unit


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    done = analyze("verify", "--man=no", installed(tmp_path, text))
    assert (done.returncode, [line for line in done.stderr.splitlines() if "footfall" in line]) == (0, [])
    misspelt = analyze("verify", "--man=no", installed(tmp_path, text.replace("WatchdogSec=", "WatchDogSec=")))
    assert "WatchDogSec" in misspelt.stderr


@needs_systemd
def test_its_exposure_is_at_most_1_3(tmp_path: Path) -> None:
    def is_hard(text: str) -> bool:
        arguments = ["--offline=yes", f"--threshold={MAX_EXPOSURE_TENTHS}", "--no-pager"]
        return analyze("security", *arguments, installed(tmp_path, text)).returncode == 0

    text = UNIT.read_text(encoding="utf-8")
    assert is_hard(text)
    assert not is_hard(text.replace("PrivateUsers=yes", ""))


def test_nothing_in_it_stops_restarts_slows_the_model_or_waits_for_a_network() -> None:
    found = settings()
    names = [name for name, _ in found]
    assert "ProcSubset" not in names, "it hides /proc/cpuinfo: inference gets 20 to 100 times slower"
    assert ("StartLimitIntervalSec", "0") in found
    assert ("Restart", "on-failure") in found
    assert ("LoadCredential", "footfall.mqtt-password") in found, "with a path, a missing password kills the unit"
    targets = {target for name, value in found if name in ("After", "Wants", "Requires") for target in value.split()}
    assert targets == {"network.target"}


def test_the_user_of_the_unit_is_the_one_that_sysusers_makes() -> None:
    made = (ROOT / "systemd" / "footfall.sysusers").read_text(encoding="utf-8")
    unit = dict(settings())
    assert re.search(rf"(?m)^u {unit['User']} - ", made)
    assert re.search(rf"(?m)^m {unit['User']} {unit['SupplementaryGroups']}$", made)
    assert unit["StateDirectory"] == "footfall"
    assert "/var/lib/footfall" in made
