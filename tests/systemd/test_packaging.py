"""What a package is made of: the man pages follow the command line, the builder refuses what it cannot make."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge.__main__ import COMMANDS
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGING = ROOT / "systemd" / "packaging"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    shutil.copyfile(ROOT / "config.yaml", directory / "config.yaml")
    command = [sys.executable, str(PACKAGING / "manpages"), str(directory), "1.2.3"]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return directory


def plain(page: str) -> str:
    return re.sub(r"\\f[BIR]", "", page).replace(r"\-", "-")


def test_the_command_s_page_names_every_command_and_option(pages: Path) -> None:
    text = plain((pages / "footfall.1").read_text(encoding="utf-8"))
    for command in COMMANDS:
        assert f".SS footfall {command}" in text
        usage = subprocess.run(
            [sys.executable, "-m", "edge", command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        section = text.partition(f".SS footfall {command}")[2].partition(".SS ")[0]
        for option in set(re.findall(r"--[a-z]+", usage)) - {"--help"}:
            assert option in section


def test_the_settings_page_names_every_key(pages: Path) -> None:
    text = plain((pages / "footfall-config.5").read_text(encoding="utf-8"))
    config = (ROOT / "config.yaml").read_text(encoding="utf-8")
    keys = re.findall(r"(?m)^ +([a-z0-9_]+):.*#", config)
    assert len(keys) > 20
    assert text.count(".TP") == len(keys)
    assert "mqtt.tls.ca_file (default null)" in text
    for key in keys:
        assert re.search(rf"[a-z]\.{key} \(default ", text)


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
@pytest.mark.parametrize("page", ["footfall.1", "footfall-config.5"])
def test_groff_has_nothing_to_say_about_a_page(pages: Path, page: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-Kutf8", page], capture_output=True, text=True, check=False, cwd=pages
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "footfall 1.2.3" in done.stdout


@pytest.mark.parametrize(
    ("suite", "architecture", "says"),
    [("buster", "arm64", "allowed: bookworm, trixie"), ("trixie", "armhf", "no TFLite runtime for armhf")],
)
def test_a_package_that_cannot_be_made_is_refused_in_words(suite: str, architecture: str, says: str) -> None:
    command = [str(PACKAGING / "build-deb"), suite, architecture]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr


def test_every_runtime_is_pinned_to_one_file() -> None:
    lines = (PACKAGING / "wheels.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    pinned = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert len({tuple(row[:2]) for row in rows}) == len(rows) == 5
    for _, _, requirement, _, sha256 in rows:
        assert f'"{requirement};' in pinned, "the package and `make install` have the same runtime"
        assert re.fullmatch("[0-9a-f]{64}", sha256)
