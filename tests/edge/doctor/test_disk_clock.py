"""Outbox and clock: real files, a real daemon's lock, and clocks that cannot be right."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge import wall_clock
from edge.doctor import basics, clock, disk
from edge.doctor.finding import Context, Finding
from edge.outbox import Outbox
from edge.settings import Config
from edge.types import StepEvent

STEP = StepEvent(time_s=1.0, emitted_s=1.2, confidence=0.9, cadence_spm=100.0)


def examine(path: Path, root: Path = Path("/")) -> list[Finding]:
    defaults = Config()  # config.load would refuse some of these paths before the doctor can
    context = Context(replace(defaults, outbox=replace(defaults.outbox, path=path)), root=root)
    return list(disk.check(context))


def fingerprint(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}


def filled(path: Path, steps: int) -> Outbox:
    outbox = Outbox(path, max_age_h=24, max_bytes=2**24)
    for _ in range(steps):
        outbox.append(STEP, time.time())
    return outbox


def test_an_outbox_in_use_is_checked_without_a_byte_changed(tmp_path: Path) -> None:
    outbox = filled(tmp_path / "outbox.db", 25)
    try:
        before = fingerprint(tmp_path)
        found = examine(tmp_path / "outbox.db")
        assert fingerprint(tmp_path) == before
        assert "the outbox is sound: 25 steps wait, lifetime total 25" in [one.text for one in found]
        outbox.append(STEP, time.time())
        assert outbox.total == 26
    finally:
        outbox.close()


def test_a_damaged_outbox(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, 500).close()
    content = bytearray(path.read_bytes())
    content[4096:12288] = bytes(8192)
    path.write_bytes(content)
    (one,) = [one for one in examine(path) if one.level == "fail"]
    assert "is damaged" in one.text
    assert "moves a damaged file aside" in one.advice


def test_a_file_that_is_no_outbox(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x)")
    db.close()
    assert [one.level for one in examine(path)].count("fail") == 1


def test_an_outbox_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    assert any("not a directory" in one.text for one in examine(tmp_path / "file" / "outbox.db"))
    (tmp_path / "folder").mkdir()
    assert any("is a directory" in one.text for one in examine(tmp_path / "folder"))


@pytest.mark.parametrize(
    ("kind", "level"), [("ext4", "ok"), ("tmpfs", "warn"), ("overlay", "warn"), ("nfs4", "warn"), ("vfat", "warn")]
)
def test_the_kind_of_file_system(tmp_path: Path, kind: str, level: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    mounts = f"/dev/root / ext4 rw 0 0\ndev {tmp_path} {kind} rw 0 0\n"
    (tmp_path / "proc/self/mounts").write_text(mounts, encoding="ascii")
    assert [one.level for one in disk._file_system(tmp_path, tmp_path)] == [level]


@pytest.mark.parametrize(
    ("year", "synchronised", "level"),
    [(1970, True, "fail"), (2024, False, "fail"), (2027, False, "warn"), (2027, None, "ok"), (2027, True, "ok")],
)
def test_the_clock(year: int, synchronised: bool | None, level: str) -> None:
    one = clock.judge(datetime(year, 6, 1, tzinfo=UTC).timestamp(), synchronised)
    assert one.level == level
    assert str(year) in one.text


def test_the_kernel_says_whether_the_clock_is_synchronised() -> None:
    assert wall_clock.synchronised() in {True, False}


def test_where_the_kernel_may_not_be_asked_timesyncd_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under systemd's ProtectClock, which refuses adjtimex."""
    monkeypatch.setattr(wall_clock, "_by_kernel", lambda: None)
    assert wall_clock.synchronised(tmp_path) is None
    (tmp_path / "systemd" / "timesync").mkdir(parents=True)
    assert wall_clock.synchronised(tmp_path) is False
    (tmp_path / "systemd" / "timesync" / "synchronized").touch()
    assert wall_clock.synchronised(tmp_path) is True


@pytest.mark.parametrize(
    ("said", "bits"),
    [("throttled=0x0\n", 0), ("throttled=0x50005\n", 0x50005), ("error", None), ("", None), (None, None)],
)
def test_what_vcgencmd_says(said: str | None, bits: int | None) -> None:
    assert basics.throttled(said) == bits


def test_a_tool_that_is_missing_fails_or_hangs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basics, "TOOL_TIMEOUT_S", 0.2)
    assert basics.tool_output(["no-such-tool-anywhere"]) is None
    assert basics.tool_output(["false"]) is None
    assert basics.tool_output(["sleep", "30"]) is None
