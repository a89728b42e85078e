"""The cloud-init file for Raspberry Pi OS: cloud-init's own schema, our own settings' check, and the install line."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

USER_DATA = ROOT / "systemd" / "user-data"
CHECKER = ROOT / "build" / "cloud-init" / "schema"


@pytest.fixture
def document() -> dict[str, Any]:
    """Give the file, parsed."""
    return dict(yaml.safe_load(USER_DATA.read_text(encoding="utf-8")))


def schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Let cloud-init check a file."""
    if not CHECKER.exists():
        pytest.skip("no cloud-init here to ask: run `scripts/cloud-init` on a Debian machine")
    return subprocess.run([CHECKER, path], capture_output=True, text=True, check=False)


def test_cloud_init_accepts_it() -> None:
    checked = schema(USER_DATA)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_cloud_init_would_find_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "user-data"
    wrong.write_text(USER_DATA.read_text(encoding="utf-8").replace("permissions: '0600'", "permissions: 0600"), "utf-8")
    checked = schema(wrong)
    assert checked.returncode != 0
    assert "permissions" in checked.stdout + checked.stderr


def test_cloud_init_accepts_it_with_every_offer_taken(tmp_path: Path) -> None:
    lines = USER_DATA.read_text(encoding="utf-8").splitlines()
    first = next(index for index, line in enumerate(lines) if line == "# users:")
    taken = [
        line.removeprefix("# ")
        if index >= first and line.startswith(("# users", "#   ", "# ssh", "# hostname"))
        else line
        for index, line in enumerate(lines)
    ]
    full = tmp_path / "user-data"
    full.write_text("\n".join(taken) + "\n", encoding="utf-8")
    parsed = yaml.safe_load(full.read_text(encoding="utf-8"))
    assert {"users", "hostname", "ssh_pwauth"} <= set(parsed)
    checked = schema(full)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_its_settings_are_valid(document: dict[str, Any], tmp_path: Path) -> None:
    (settings,) = [each for each in document["write_files"] if each["path"] == "/etc/footfall/config.yaml"]
    (tmp_path / "config.yaml").write_text(settings["content"], encoding="utf-8")
    command = [sys.executable, "-m", "edge", "check-config", str(tmp_path / "config.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_password_is_where_the_unit_looks_and_only_roots(document: dict[str, Any]) -> None:
    unit = (ROOT / "systemd" / "footfall.service").read_text(encoding="utf-8")
    (secret,) = [each for each in document["write_files"] if "credstore" in each["path"]]
    assert f"LoadCredential={secret['path'].rpartition('/')[2]}\n" in unit
    assert secret["permissions"] == "0600"
    assert secret["content"] == ""


def test_its_shell_lines_are_shell(document: dict[str, Any]) -> None:
    scripts = [each for each in document["runcmd"] if isinstance(each, str)]
    assert scripts
    for script in scripts:
        subprocess.run(["sh", "-n", "-c", script], check=True)
