"""What is broken: a real Mosquitto, a real daemon, a proxy and a network between them, and a small disk under it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from emulator import children
from emulator.namespace import private_mounts
from tests.broker import Broker, wait_until
from tests.chaos.network import Namespace, unavailable
from tests.chaos.proxy import ChaosProxy
from tests.chaos.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE_S = 60.0
DISK_BYTES = 24 * 2**20
ROOT = Path(__file__).resolve().parents[2]
_BROKER = (
    "allow_anonymous true",
    "persistence false",
    # What the broker has acknowledged must be on its way to the subscriber, not in a queue that dies with the broker.
    "max_inflight_messages 0",
    "max_queued_messages 0",
)


@dataclass(frozen=True)
class Life:
    """One run of the daemon: the lifetime total that its database held before and after it, read from the file."""

    before: int
    after: int
    dropped: int
    waiting: int
    ended_by: str
    unstored: int = 0
    """Steps that it held in memory when it ended on a full disk, as its last words say: nobody was promised these."""

    @property
    def committed(self) -> int:
        """Steps that this run stored."""
        return self.after - self.before


class Bench:
    """Use as a context manager; the daemon is started by start() and ended by kill(), stop() or itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives: list[Life] = []
        self.unexpected: list[str] = []
        self.disk = folder / "disk"
        self.on_tmpfs = os.getuid() == 0
        self.no_network = unavailable()
        self.network: Namespace | None = None
        self._outbox = self.disk / "outbox.db"
        self._offset = folder / "clock"
        self._daemon: subprocess.Popen[str] | None = None
        self._stack = ExitStack()
        self._said_before = 0

    def __enter__(self) -> Self:
        self.disk.mkdir(parents=True)
        self._offset.write_bytes(struct.pack("d", 0.0))
        with ExitStack() as stack:
            if self.on_tmpfs:
                private_mounts()
                size = f"size={DISK_BYTES}"
                subprocess.run(["mount", "-t", "tmpfs", "-o", size, "footfall-chaos", self.disk], check=True)
                stack.callback(self._unmount)
            if self.no_network is None:
                self.network = stack.enter_context(Namespace())
            (self.folder / "broker").mkdir()
            self.broker = Broker(self.folder / "broker", *_BROKER)
            self.broker.start()
            stack.callback(self.broker.stop)
            self.recorder = Recorder(self.broker.port)
            self.recorder.connect()
            stack.callback(self.recorder.close)
            host = self.network.host if self.network else "127.0.0.1"
            self.proxy = stack.enter_context(ChaosProxy(("127.0.0.1", self.broker.port), host))
            stack.callback(self._end_daemon)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def note(self, what: str) -> None:
        """Write into chaos.log, beside the daemon's own log, what was done when."""
        with (self.folder / "chaos.log").open("a", encoding="utf-8") as file:
            file.write(
                f"{time.strftime('%H:%M:%S')},{time.time() % 1 * 1000:03.0f} {what} ({self.recorder.received})\n"
            )

    def start(self, sensor: Mapping[str, Any]) -> None:
        """Start the daemon on a recording."""
        settings = {
            "device": {"id": "chaos"},
            "sensor": {"type": "replay", **sensor},
            "mqtt": {
                "host": self.network.host if self.network else "127.0.0.1",
                "port": self.proxy.port,
                "keepalive_s": 5,
                "live_age_s": 2,
            },
            "outbox": {"path": str(self._outbox)},
            "health": {"interval_s": 10},
        }
        config = self.folder / "config.yaml"
        config.write_text(json.dumps(settings), encoding="utf-8")
        prefix = self.network.prefix if self.network else ()
        command = [*prefix, sys.executable, "-m", "tests.chaos.daemon", str(self._offset), "--config", str(config)]
        with (self.folder / "daemon.log").open("a", encoding="utf-8") as output:
            self._said_before = output.tell()
            self._daemon = children.start(command, stdout=output, stderr=output)

    @property
    def running(self) -> bool:
        """Whether the daemon runs; one that has ended by itself is booked here."""
        if self._daemon is not None and self._daemon.poll() is not None:
            status = self._daemon.returncode
            self._daemon = None
            self._book(f"exit {status}")
            if status != 0:
                self.unexpected.append(f"exit status {status}: {self._last_words()}")
        return self._daemon is not None

    def kill(self) -> None:
        """SIGKILL, wherever it is just now."""
        if self.running:
            assert self._daemon is not None
            self._daemon.kill()
            self._daemon.wait(PATIENCE_S)
            self._daemon = None
            self._book("SIGKILL")

    def stop(self) -> None:
        """SIGTERM, as systemd ends it."""
        if self.running:
            assert self._daemon is not None
            status = children.stop(self._daemon, PATIENCE_S)
            self._daemon = None
            self._book("SIGTERM")
            # Before it counts it has no handler yet: the signal ends it, as it ends any program that just starts.
            if status != 0 and not (status == -signal.SIGTERM and not self._counted()):
                self.unexpected.append(f"exit status {status} after SIGTERM: {self._last_words()}")

    def step_clock(self, by_s: float) -> None:
        """Set the daemon's wall clock on or back."""
        with self._offset.open("r+b") as file:
            offset_s = struct.unpack("d", file.read(8))[0] + by_s
            file.seek(0)
            file.write(struct.pack("d", offset_s))

    def limit_file_size(self, size: int | None) -> None:
        """Let the daemon's files not grow beyond so many bytes: the full disk of those who may not mount one."""
        if self.running:
            assert self._daemon is not None
            limit = size if size is not None else 2**40
            subprocess.run(["prlimit", f"--fsize={limit}:", "--pid", str(self._daemon.pid)], check=True)

    def kill_broker(self) -> None:
        """Take the broker away; nobody gets in before restart_broker."""
        self.proxy.refusing = True
        self.broker.signal(signal.SIGKILL)
        self.recorder.wait_gone()
        self.broker.kill()
        self.proxy.reset_all()

    def restart_broker(self) -> None:
        """Bring the broker back, the subscriber first: what nobody listens to is lost in every broker."""
        self.broker.start()
        self.recorder.connect()
        self.proxy.refusing = False

    def wait_for_flow(self, more: int = 1, timeout_s: float = 20.0) -> bool:
        """Wait until more steps have arrived; says whether they have."""
        target, deadline_s = self.recorder.received + more, time.monotonic() + timeout_s
        while self.recorder.received < target and time.monotonic() < deadline_s:
            if not self.running:
                return False
            time.sleep(0.02)
        return self.recorder.received >= target

    def read_outbox(self) -> Life:
        """Read a copy of the dead daemon's database, past all of its own code."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("outbox.db", "outbox.db-wal"):
            if (self.disk / name).exists():
                shutil.copyfile(self.disk / name, copy / name)
        if not (copy / "outbox.db").exists() or not (copy / "outbox.db").stat().st_size:
            return Life(0, 0, 0, 0, "")
        db = sqlite3.connect(copy / "outbox.db")
        try:
            kept = dict(db.execute("SELECT name, value FROM meta").fetchall())
            waiting = db.execute("SELECT count(*) FROM step").fetchone()[0]
        finally:
            db.close()
        return Life(0, int(kept["lifetime_total"]), int(kept.get("dropped", 0)), waiting, "")

    def _book(self, ended_by: str) -> None:
        now = self.read_outbox()
        before = self.lives[-1].after if self.lives else 0
        self.note(f"daemon: {ended_by}")
        self.lives.append(Life(before, now.after, now.dropped, now.waiting, ended_by, self._unstored()))

    def _counted(self) -> bool:
        """Whether this life of the daemon came to count steps."""
        return "counting steps from" in self._said()

    def _unstored(self) -> int:
        found = re.search(r"(\d+) steps could not be stored", self._said())
        return int(found[1]) if found else 0

    def _said(self) -> str:
        with (self.folder / "daemon.log").open("rb") as file:
            file.seek(self._said_before)
            return file.read().decode(errors="replace")

    def _last_words(self) -> str:
        return (self.folder / "daemon.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]

    def _unmount(self) -> None:
        subprocess.run(["umount", "-l", self.disk], check=True)

    def _end_daemon(self) -> None:
        if self._daemon is not None:
            children.stop(self._daemon)

    def wait_until_offline(self) -> None:
        """Wait until the proxy has no client."""
        wait_until(lambda: self.proxy.connections == 0, timeout_s=PATIENCE_S, what="no client at the proxy")
