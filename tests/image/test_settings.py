"""What the image does at every boot with the files on the boot partition, in a folder instead of a device.

The script is the image's own, with the folder in front of its absolute paths; `mount` and `systemctl` only take notes.
`make test-image` runs it unchanged.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "systemd" / "image" / "files" / "usr" / "lib" / "footfall-image" / "settings"
GOOD = "mqtt:\n  host: broker.lan\n"
SHIPPED = "mqtt:\n  host: localhost\n"


class Device:
    """The folders that the script touches, below a temporary one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("boot/firmware", "etc/footfall", "etc/ssh", "run", "root", "bin"):
            (root / name).mkdir(parents=True)
        self.put("etc/footfall/config.yaml", SHIPPED)
        script = re.sub(r"(?<![\w/$}])/(boot|etc|run|root)/", rf"{root}/\1/", SCRIPT.read_text(encoding="utf-8"))
        self.put("settings", script)
        self._command("footfall", f'cd {ROOT} && exec {sys.executable} -m edge "$@"')
        self._command("mountpoint", "true")  # it is mounted
        for name in ("mount", "systemctl"):
            self._command(name, f'echo {name} "$@" >>{root}/calls')

    def put(self, name: str, content: str | bytes) -> None:
        """Write a file."""
        (self.root / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def get(self, name: str) -> str:
        """Read a file."""
        return (self.root / name).read_text(encoding="utf-8")

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        return (self.root / name).exists()

    def boot(self) -> str:
        """Run the script; return what it says to the journal. `calls` has what it mounted and started."""
        self.put("calls", "")
        environment = {**os.environ, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}
        command = ["sh", str(self.root / "settings")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    def _command(self, name: str, line: str) -> None:
        self.put(f"bin/{name}", f"#!/bin/sh\n{line}\n")
        (self.root / "bin" / name).chmod(0o755)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Give a device that has not booted yet."""
    return Device(tmp_path)


def test_good_settings_are_used_and_nothing_is_written_to_the_card(device: Device) -> None:
    device.put("boot/firmware/footfall.yaml", GOOD)
    assert "using footfall.yaml" in device.boot()
    assert device.get("run/footfall-settings/config.yaml") == GOOD
    assert device.get("calls") == ""


def test_bad_settings_are_reported_and_the_shipped_ones_are_used_until_they_are_mended(device: Device) -> None:
    device.put("boot/firmware/footfall.yaml", "mqtt:\n  hots: broker.lan\n")
    said = device.boot()
    assert all(line.startswith("<3>") for line in said.splitlines())
    assert "mqtt.hots" in said
    assert "mqtt.hots" in device.get("boot/firmware/footfall-problem.txt")
    assert device.get("run/footfall-settings/config.yaml") == SHIPPED
    assert device.get("calls").count("remount,rw") == device.get("calls").count("remount,ro") == 1
    # The same mistake is not written again at each boot.
    device.boot()
    assert device.get("calls") == ""
    device.put("boot/firmware/footfall.yaml", GOOD)
    device.boot()
    assert not device.has("boot/firmware/footfall-problem.txt")
    assert device.get("run/footfall-settings/config.yaml") == GOOD


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe", b"mqtt: [", b"- a\n"], ids=["empty", "binary", "open", "list"]
)
def test_whatever_the_file_holds_there_are_settings(device: Device, content: bytes) -> None:
    device.put("boot/firmware/footfall.yaml", content)
    said = device.boot()
    assert "Traceback" not in said
    assert device.get("run/footfall-settings/config.yaml") in {SHIPPED, ""}


def test_without_the_file_the_shipped_settings_are_used(device: Device) -> None:
    assert "There is no footfall.yaml" in device.boot()
    assert device.get("run/footfall-settings/config.yaml") == SHIPPED


def test_the_password_moves_to_where_only_root_reads_it(device: Device) -> None:
    device.put("boot/firmware/footfall.yaml", GOOD)
    device.put("boot/firmware/mqtt-password.txt", "s3cret word\r\nand what follows\r\n")
    assert "s3cret" not in device.boot()
    kept = device.root / "etc/credstore/footfall.mqtt-password"
    assert kept.read_bytes() == b"s3cret word"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not device.has("boot/firmware/mqtt-password.txt")
    device.boot()
    assert kept.read_bytes() == b"s3cret word"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here: apt install openssh-client")
def test_ssh_runs_only_with_a_key(device: Device) -> None:
    device.put("boot/firmware/footfall.yaml", GOOD)
    device.boot()
    assert "ssh" not in device.get("calls")
    device.put("boot/firmware/authorized_keys", "ssh-ed25519 AAAA me\r\n")
    device.boot()
    assert device.get("calls").strip() == "systemctl start --no-block ssh.service"
    assert device.get("root/.ssh/authorized_keys") == "ssh-ed25519 AAAA me\n"
    first = device.get("etc/ssh/ssh_host_ed25519_key")
    device.boot()
    assert device.get("etc/ssh/ssh_host_ed25519_key") == first
