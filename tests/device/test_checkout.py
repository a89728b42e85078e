"""`make install` and `make uninstall` from a checkout on a booted Debian, without the package."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.device.test_device import MAX_EXPOSURE, check_nothing_left, check_nothing_lost, exposure, wait_for_steps

if TYPE_CHECKING:
    from pathlib import Path

    from tests.device.broker import Listener
    from tests.device.conftest import Life, Sensor

pytestmark = pytest.mark.device
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
CHECKOUT = "/root/footfall"


def wheels(suite: str) -> Path:
    """Fetch what pip would install on that Debian; the machine itself has no network."""
    directory = ROOT / "build" / "device" / f"wheels-{suite}"
    requirements = "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; "
    requirements += "print(*p['dependencies'], *p['optional-dependencies']['runtime'], sep='\\n')"
    wanted = subprocess.run(
        [sys.executable, "-c", requirements], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--python-version", PYTHONS[suite], "--dest", str(directory)]
    command += [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in (36, 34, 31, 28, 27, 17)]
    subprocess.run([*command, "--platform=manylinux2014_x86_64", *wanted], check=True, capture_output=True)
    return directory


def copy_checkout(life: Life) -> None:
    """Put this checkout, as git would clone it, into the machine."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout.splitlines()  # fmt: skip
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            if (ROOT / name).is_file():
                archive.add(ROOT / name, arcname=name)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        archive.extractall(f"{life.machine.root}{CHECKOUT}", filter="data")


def make(life: Life, *arguments: str) -> str:
    """Run make in the machine's checkout, with a folder of wheels in the place of the package index."""
    environment = ["env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/root/wheels"]
    return life.machine.run(*environment, "make", "--no-print-directory", "-C", CHECKOUT, *arguments)


def test_make_install_gives_the_same_service(life: Life, listener: Listener, sensor: Sensor) -> None:
    machine = life.machine
    machine.fetch("make", "python3-venv")
    machine.run("apt-get", "install", "--yes", "-qq", "make", "python3-venv")
    copy_checkout(life)
    subprocess.run(["cp", "-r", wheels(machine.name), machine.root / "root" / "wheels"], check=True)
    assert "installed" in make(life, "install")
    life.configure()
    life.service.control("restart")
    life.service.wait_active()
    wait_for_steps(life, listener)
    unit = machine.root / "etc/systemd/system/footfall.service"
    assert unit.read_bytes() == (ROOT / "systemd" / "footfall.service").read_bytes()
    assert exposure(life) <= MAX_EXPOSURE
    assert sensor.process.poll() is None
    check_nothing_lost(life, listener)


def test_installing_again_keeps_settings_and_total(life: Life, listener: Listener, sensor: Sensor) -> None:
    total, _ = life.stored()
    settings = (life.machine.root / "etc/footfall/config.yaml").read_bytes()
    make(life, "install")
    life.service.wait_active()
    wait_for_steps(life, listener)
    assert (life.machine.root / "etc/footfall/config.yaml").read_bytes() == settings
    assert sensor.process.poll() is None
    check_nothing_lost(life, listener)
    assert life.stored()[0] > total > 0


def test_make_uninstall_keeps_settings_and_purge_leaves_nothing(life: Life) -> None:
    make(life, "uninstall")
    root = life.machine.root
    assert not (root / "opt/footfall").exists()
    assert not (root / "usr/local/bin/footfall").exists()
    assert (root / "etc/footfall/config.yaml").exists()
    assert (root / "var/lib/footfall/outbox.db").exists()
    make(life, "uninstall", "PURGE=1")
    check_nothing_left(life)
