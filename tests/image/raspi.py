"""A Raspberry Pi 3 in QEMU that boots the SD image: its card, its power switch, its serial console, SSH into it."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator import children
from emulator.ports import free_port
from tests.broker import wait_until
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = ROOT / "build" / "image" / "footfall.img"
QEMU = ROOT / "systemd" / "image" / "qemu"
CARD_BYTES = 2 * 2**30
"""QEMU wants a power of two; larger than the image, so the first boot has something to grow into."""

BOOT_OFFSET = 2**20
HOST = "10.0.2.2"
"""This machine, as the emulated one sees it: its loopback interface."""

COMMAND_LINE = (
    "console=ttyS1,115200 rootwait panic=10 loglevel=4 systemd.show_status=no systemd.log_level=notice "
    "systemd.journald.forward_to_console=1 systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900"
)
"""Not the image's own: the journal goes to the serial console, and an emulated machine may take its time."""
WHO_AM_I, MPU6050 = 0x75, 0x68
PATIENCE_S = 1500.0
"""No limit that is meant: a whole machine is emulated on however many cores are free."""


@dataclass(frozen=True)
class Stored:
    """What a card's outbox holds: lifetime total, and the steps that wait, as (boot_id, seq)."""

    total: int
    waiting: frozenset[tuple[str, int]]


class Card:
    """An SD card with the image freshly written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["cp", "--sparse=always", IMAGE, path], check=True)
        with path.open("r+b") as file:
            file.truncate(CARD_BYTES)

    def put(self, name: str, content: bytes) -> None:
        """Write a file of the boot partition, as the owner does before the card goes into the device."""
        self._mtools("mcopy", "-o", "-", f"::{name}", content=content)

    def get(self, name: str) -> bytes:
        """Read a file of the boot partition."""
        return self._mtools("mcopy", f"::{name}", "-")

    def names(self) -> list[str]:
        """Return the names of the files on the boot partition."""
        return self._mtools("mdir", "-b", "::").decode().replace("::/", "").split()

    def delete(self, name: str) -> None:
        """Delete a file of the boot partition."""
        self._mtools("mdel", f"::{name}")

    def partitions(self) -> list[tuple[int, int]]:
        """Return (first byte, bytes) of each partition."""
        said = subprocess.run(
            [children.find_program("sfdisk", "fdisk"), "--json", self.path], check=True, capture_output=True
        )
        table = json.loads(said.stdout)["partitiontable"]["partitions"]
        return [(each["start"] * 512, each["size"] * 512) for each in table]

    def stored(self, directory: Path) -> Stored:
        """Return what is on the card right now, after its file system's journal, as the next boot will find it."""
        root = directory / "root.ext4"
        start, size = self.partitions()[1]
        command = ["dd", f"if={self.path}", f"of={root}", "bs=1M", f"skip={start >> 20}", f"count={-(-size >> 20)}"]
        subprocess.run([*command, "conv=sparse", "status=none"], check=True)
        checked = subprocess.run(
            [children.find_program("e2fsck", "e2fsprogs"), "-fy", root], capture_output=True, check=False
        )
        assert checked.returncode <= 1, checked.stdout  # 1: the journal was played, or counts were put right
        for name in ("outbox.db", "outbox.db-wal"):
            (directory / name).unlink(missing_ok=True)
            dump = f"dump /var/lib/footfall/{name} {directory / name}"
            subprocess.run(
                [children.find_program("debugfs", "e2fsprogs"), "-R", dump, root], check=True, capture_output=True
            )
        root.unlink()
        database = sqlite3.connect(directory / "outbox.db")
        try:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            total = database.execute("SELECT value FROM meta WHERE name = 'lifetime_total'").fetchone()
            waiting = database.execute("SELECT boot_id, seq FROM step").fetchall()
        finally:
            database.close()
        return Stored(int(total[0]), frozenset(waiting))

    def _mtools(self, program: str, *arguments: str, content: bytes | None = None) -> bytes:
        command = [program, "-i", f"{self.path}@@{BOOT_OFFSET}", *arguments]
        if program == "mcopy":
            command.insert(1, "-n")
        done = subprocess.run(command, input=content, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


class Pi:
    """One emulated Raspberry Pi 3B; everything it says on its serial console is in `console`."""

    def __init__(self, card: Card, directory: Path) -> None:
        self.card = card
        self.directory = directory
        self.ssh_port = free_port()
        self.started_s = 0.0
        self._log = directory / "console.log"
        self._process: subprocess.Popen[str] | None = None
        for name in ("vmlinuz", "initrd.img", "bcm2837-rpi-3-b.dtb"):
            (directory / name).write_bytes(card.get(name))

    def power_on(self, *, network: bool = True, chip: bool = False) -> None:
        """Start it with what is on the card; the rest of the firmware's part, QEMU does.

        chip: at 0x68 a memory answers whose byte 0x75 is an MPU-6050's identity, and which can do no more than that.
        """
        command = [str(QEMU), "-M", "raspi3b", "-display", "none", "-monitor", "none"]
        command += ["-serial", "null", "-serial", f"file:{self._log}"]
        command += ["-kernel", str(self.directory / "vmlinuz"), "-initrd", str(self.directory / "initrd.img")]
        command += ["-dtb", str(self.directory / "bcm2837-rpi-3-b.dtb"), "-append", COMMAND_LINE]
        command += ["-drive", f"if=sd,format=raw,file={self.card.path}"]
        if network:
            forward = f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
            command += ["-netdev", f"user,id=net,{forward}", "-device", "usb-net,netdev=net"]
        if chip:
            registers = bytearray(512)
            registers[WHO_AM_I] = MPU6050
            (self.directory / "registers").write_bytes(registers)
            command += ["-drive", f"if=none,id=registers,format=raw,file={self.directory / 'registers'}", "-device"]
            command += ["at24c-eeprom,bus=i2c-bus.1,address=0x68,rom-size=512,address-size=1,drive=registers"]
        self._log.write_bytes(b"")
        self.started_s = time.time()
        with (self.directory / "qemu.log").open("a", encoding="utf-8") as output:
            self._process = children.start(command, stdout=output, stderr=output)

    def cut_power(self) -> None:
        """Take the power away between two instructions: nothing is flushed, nothing is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def console(self) -> str:
        """What the serial console has shown since the power came on: the kernel, and the whole journal."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def until_says(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the console has shown it."""
        wait_until(lambda: self._alive() and text in self.console, timeout_s=timeout_s, what=f"console: {text}")

    def offers_ssh(self) -> bool:
        """Tell whether an SSH server says hello."""
        with socket.socket() as connection:
            connection.settimeout(20.0)
            try:
                connection.connect(("127.0.0.1", self.ssh_port))
                return connection.recv(4) == b"SSH-"
            except OSError:
                return False

    def run(self, command: str, *, key: Path, check: bool = True) -> str:
        """Run a shell command as root over SSH; return what it prints."""
        # One connection for all commands: each handshake is seconds of emulation.
        options = ["ControlMaster=auto", "ControlPersist=300", f"ControlPath={self.directory}/ssh"]
        options += ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=120"]
        ssh = ["ssh", "-p", str(self.ssh_port), "-i", str(key), *(word for each in options for word in ("-o", each))]
        done = subprocess.run(
            [*ssh, "root@127.0.0.1", command], capture_output=True, text=True, check=False, timeout=600
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def _alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"QEMU ended: {(self.directory / 'qemu.log').read_text(encoding='utf-8')}"
        return True


def has_tools() -> bool:
    """Tell whether what make test-image installs is there."""
    return IMAGE.exists() and shutil.which("mcopy") is not None
