"""The outbox never loses, reorders or renames a step, whatever is cut off when."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge import outbox_file, outbox_rescue
from edge.errors import OutboxError
from edge.outbox import Outbox, OutboxRow
from edge.outbox_file import beside
from edge.types import StepEvent
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOON = datetime(2026, 11, 23, 12, 0).astimezone().timestamp()
STEP = StepEvent(time_s=1.0, emitted_s=1.2, confidence=0.9, cadence_spm=104.0)


class Clock:
    """A monotonic clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


_open: list[Outbox] = []


def opened(
    path: Path,
    *,
    max_age_h: float = 8760.0,
    max_bytes: int = 2**24,
    clock: Clock | None = None,
    is_clock_right: bool = True,
) -> Outbox:
    _open.append(
        Outbox(
            path,
            max_age_h=max_age_h,
            max_bytes=max_bytes,
            clock=clock or Clock(),
            is_clock_right=lambda: is_clock_right,
        )
    )
    return _open[-1]


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    """Close what the test opened; closing twice does no harm."""
    yield
    while _open:
        _open.pop().close()


def crashed(outbox: Outbox, into: Path) -> Path:
    """Copy the files as a power cut now would leave them, while the outbox is still open."""
    into.mkdir()
    for suffix in ("", "-wal"):
        source = outbox.path.with_name(outbox.path.name + suffix)
        if source.exists():
            shutil.copyfile(source, into / source.name)
    return into / outbox.path.name


def log_end(path: Path) -> int:
    """Return how many bytes of SQLite's log are in use; zeros follow."""
    end = outbox_rescue.log(beside(path, "-wal")).end
    assert end is not None
    return end


def test_the_log_has_its_full_size_from_the_start_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No commit of the first 800 steps makes it longer, and a full disk does not refuse them."""
    outbox = opened(tmp_path / "outbox.db")
    log = beside(outbox.path, "-wal")
    size = log.stat().st_size
    assert size == outbox_file.LOG_BYTES
    rows = [outbox.append(STEP, NOON) for _ in range(700)]
    assert (log.stat().st_size, outbox.pending(1000)) == (size, rows)
    assert 0.4 * size < log_end(outbox.path) <= size
    assert opened(crashed(outbox, tmp_path / "copy")).pending(1000) == rows
    monkeypatch.setattr(outbox_file, "_ROOM", 1e9)
    small = opened(tmp_path / "full" / "outbox.db")
    assert beside(small.path, "-wal").stat().st_size < 100_000
    assert small.append(STEP, NOON).total == 1


def test_a_log_whose_first_sector_is_gone_gives_its_steps_back(tmp_path: Path) -> None:
    """The file itself is still empty then: all there is stands in the log."""
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(300)]
    path = crashed(outbox, tmp_path / "copy")
    with beside(path, "-wal").open("r+b") as log:
        log.write(bytes(512))
    fresh = opened(path)
    assert fresh.total == 300
    assert fresh.depth + fresh.dropped == 300
    assert fresh.depth >= 290
    assert [row for row in rows if row.total <= 300 - fresh.dropped][-1] in fresh.pending(1000)


STARTS = """
import os, sys
from pathlib import Path
from edge import outbox_start, outbox_rescue
def die(*_, **__):
    os._exit(9)
def no_link(*_):
    raise OSError(1, "Operation not permitted")
if sys.argv[3] == "FAT":
    os.link = no_link
where = {"store": outbox_rescue}.get(sys.argv[2], outbox_start)
setattr(where, sys.argv[2], die)
outbox_start.open_outbox(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("links", ["ext4", "FAT"])
@pytest.mark.parametrize(
    "killed_in", ["connect", "_copied", "_sync_folder", "_raise_total", "store", "set_meta", "_forget"]
)
@pytest.mark.parametrize("wreck", ["no file", "empty file", "no head", "no head, no file", "first frame", "page size"])
def test_a_start_that_is_killed_loses_nothing_of_a_log_that_was_all_there_was(
    tmp_path: Path, wreck: str, killed_in: str, links: str
) -> None:
    """However far it came, and however often: the next start has the total, and every step that waited or its loss."""
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(60)]
    outbox.acknowledge(rows[:20])
    path = crashed(outbox, tmp_path / "copy")
    log = bytearray(beside(path, "-wal").read_bytes())
    if "no file" in wreck:
        path.unlink()
    if wreck == "empty file":
        path.write_bytes(b"")
    if "no head" in wreck:
        log[:32] = bytes(32)
    log[{"first frame": 60, "page size": 10}.get(wreck, 31)] ^= 0 if "file" in wreck or "head" in wreck else 0x10
    beside(path, "-wal").write_bytes(log)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", STARTS, str(path), killed_in, links], cwd=ROOT, check=False)
    fresh = opened(path)
    assert fresh.total == 60
    assert fresh.depth + fresh.dropped >= 40, "what was acknowledged may come again"
    assert fresh.depth >= 35
    assert {row.total for row in fresh.pending(100)} <= set(range(1, 61))


def test_a_full_disk_at_the_start_does_not_cost_a_log_that_is_all_there_is(
    tmp_path: Path, no_more_bytes: Callable[[int], None]
) -> None:
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(60)]
    path = crashed(outbox, tmp_path / "copy")
    path.unlink()
    no_more_bytes(20_000)
    for _ in range(2):
        with pytest.raises(OutboxError):
            opened(path)
        assert not beside(path, "-wal.half").exists(), "the disk is full already"
    no_more_bytes(2**40)
    fresh = opened(path)
    assert (fresh.total, fresh.dropped, fresh.pending(100)) == (60, 0, rows)


def test_without_hard_links_only_what_is_used_of_the_log_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_more_bytes: Callable[[int], None]
) -> None:
    """On FAT, and on a disk that is nearly full."""
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(5)]
    path = crashed(outbox, tmp_path / "copy")

    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    no_more_bytes(log_end(path) + 100_000)
    fresh = opened(path)
    assert fresh.pending(10) == rows


def test_a_quota_that_does_not_hold_the_log_leaves_it_as_it_was(
    tmp_path: Path, no_more_bytes: Callable[[int], None]
) -> None:
    no_more_bytes(1_000_000)
    outbox = opened(tmp_path / "outbox.db")
    assert beside(outbox.path, "-wal").stat().st_size < 100_000
    assert outbox.append(STEP, NOON).total == 1


def test_steps_come_out_as_they_went_in(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON + index) for index in range(5)]
    assert outbox.pending(100) == rows
    assert [row.seq for row in rows] == [row.total for row in rows] == [1, 2, 3, 4, 5]
    assert (rows[0].ts_ms, rows[0].confidence, rows[0].cadence_spm) == (round(NOON * 1000), 0.9, 104.0)
    assert outbox.pending(2, after=rows[1].total) == rows[2:4]
    outbox.acknowledge([rows[1], rows[3]])
    outbox.acknowledge([rows[1]])
    assert outbox.pending(100) == [rows[0], rows[2], rows[4]]
    assert (outbox.depth, outbox.total, outbox.seq) == (3, 5, 5)


def test_the_total_goes_on_and_the_boot_id_changes_after_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path / "outbox.db")
    first.acknowledge([first.append(STEP, NOON)])
    first.append(STEP, NOON + 1)
    first.close()
    second = opened(tmp_path / "outbox.db")
    row = second.append(STEP, NOON + 2)
    assert second.boot_id != first.boot_id
    assert (row.seq, row.total, second.today(NOON)) == (1, 3, 3)
    assert [(one.boot_id, one.seq) for one in second.pending(9)] == [(first.boot_id, 2), (second.boot_id, 1)]
    assert second.last_ts_ms == round((NOON + 2) * 1000)


class NeverLosesOrReorders(RuleBasedStateMachine):
    """A model of the queue: the list of rows that were appended and not acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="footfall-outbox-"))
        self.lives = 0
        self.outbox = opened(self.folder / "outbox.db")
        self.waiting: list[OutboxRow] = []
        self.named: set[tuple[str, int]] = set()
        self.total = 0

    @rule(count=st.integers(1, 5), clock_error_s=st.floats(-1e6, 1e6))
    def append(self, count: int, clock_error_s: float) -> None:
        for row in self.outbox.append_all([(STEP, NOON + clock_error_s)] * count):
            assert (row.boot_id, row.seq) not in self.named
            self.named.add((row.boot_id, row.seq))
            self.waiting.append(row)
            self.total += 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sets(st.sampled_from(range(len(self.waiting)))))
        self.outbox.acknowledge([self.waiting[index] for index in chosen])
        self.waiting = [row for index, row in enumerate(self.waiting) if index not in chosen]

    @rule()
    def crash(self) -> None:
        self.lives += 1
        path = crashed(self.outbox, self.folder / f"life{self.lives}")
        self.outbox.close()
        self.outbox = opened(path)

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.outbox = opened(self.outbox.path)

    @invariant()
    def all_is_there_in_order(self) -> None:
        assert self.outbox.pending(10**6) == self.waiting
        assert (self.outbox.depth, self.outbox.total) == (len(self.waiting), self.total)
        assert self.outbox.dropped == 0

    def teardown(self) -> None:
        self.outbox.close()
        shutil.rmtree(self.folder)


NeverLosesOrReorders.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestNeverLosesOrReorders = NeverLosesOrReorders.TestCase


def test_a_killed_process_loses_nothing_that_append_returned(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from typing import TYPE_CHECKING
from edge.outbox import Outbox
from edge.types import StepEvent
from tests.conftest import ROOT
outbox = Outbox(Path({str(tmp_path / "outbox.db")!r}), max_age_h=24, max_bytes=2**24)
while True:
    print(outbox.append(StepEvent(0.0, 0.0, 1.0, None), {NOON}).total, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(20):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    returned = 20 + len(child.stdout.read().splitlines())
    child.wait()
    child.stdout.close()
    outbox = opened(tmp_path / "outbox.db")
    assert returned <= outbox.total <= returned + 1
    assert [row.total for row in outbox.pending(10**6)] == list(range(1, outbox.total + 1))


def test_append_waits_for_the_disk_and_acknowledge_does_not(tmp_path: Path) -> None:
    """A tracer would show the fsync calls; SQLite's own word for the setting in force is the next best witness."""
    outbox = opened(tmp_path / "outbox.db")
    seen: list[str] = []
    outbox._db.set_trace_callback(seen.append)
    row = outbox.append(STEP, NOON)
    outbox.acknowledge([row])
    modes = [line.split("=")[1].strip() for line in seen if line.startswith("PRAGMA synchronous")]
    assert modes == ["FULL", "NORMAL"]
    assert outbox._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_steps_do_not_make_the_table_of_interned_strings_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python keeps room for each name that pathlib interns, also when the name is gone: a megabyte in six hours."""
    outbox = opened(tmp_path / "outbox.db")
    interned: list[str] = []

    def intern(text: str) -> str:
        interned.append(text)
        return text

    monkeypatch.setattr(sys, "intern", intern)
    for _ in range(3):
        outbox.acknowledge([outbox.append(STEP, NOON)])
        outbox.pending(10)
    assert interned == []
    assert str(Path("control/of-the-test")) == "control/of-the-test"
    assert set(interned) == {"control", "of-the-test"}


def test_old_rows_are_dropped_and_counted_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0, clock=clock)
    for _ in range(100):
        outbox.append(STEP, NOON)
    clock.now_s += 3601.0
    newest = outbox.append(STEP, NOON + 3601.0)
    assert outbox.pending(1000) == [newest]
    assert (outbox.dropped, outbox.depth, outbox.total) == (100, 1, 101)
    outbox.close()
    assert opened(tmp_path / "outbox.db").dropped == 100


def test_a_wall_clock_step_does_not_age_the_steps_of_this_boot(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0)
    first = outbox.append(STEP, 0.0)
    second = outbox.append(STEP, NOON)
    assert outbox.pending(9) == [first, second]
    assert outbox.age_s(first, NOON) == 0.0


def test_steps_of_an_earlier_boot_age_by_the_wall_clock(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0)
    outbox.append(STEP, NOON)
    outbox.append(STEP, NOON + 1800.0)
    outbox.close()
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0)
    outbox.append(STEP, NOON + 3700.0)
    assert [row.ts_ms for row in outbox.pending(9)] == [round((NOON + s) * 1000) for s in (1800.0, 3700.0)]
    assert outbox.age_s(outbox.pending(1)[0], NOON + 1900.0) == pytest.approx(100.0)


@pytest.mark.parametrize(("was_right", "is_right"), [(False, True), (True, False), (False, False)])
def test_steps_dated_by_a_wrong_clock_do_not_age_by_it(tmp_path: Path, was_right: bool, is_right: bool) -> None:
    """Offline, a Raspberry Pi counts with the clock of its last shutdown; restarted, it may know the time."""
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0, is_clock_right=was_right)
    for _ in range(100):
        outbox.append(STEP, NOON)
    outbox.close()
    clock = Clock()
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0, clock=clock, is_clock_right=is_right)
    outbox.append(STEP, NOON + 40 * 86400.0)
    assert (outbox.depth, outbox.dropped) == (101, 0)
    clock.now_s += 3601.0
    outbox.append(STEP, NOON + 40 * 86400.0)
    assert (outbox.depth, outbox.dropped) == (1, 101), "they age from when the file was opened"


def test_steps_age_by_the_wall_clock_from_when_it_was_set(tmp_path: Path) -> None:
    is_right = [False]
    path = tmp_path / "outbox.db"
    first = Outbox(path, max_age_h=1.0, max_bytes=2**24, is_clock_right=lambda: is_right[0])
    first.append(STEP, NOON - 50 * 86400.0)
    is_right[0] = True
    first.append(STEP, NOON)
    first.close()
    for boot in range(1, 4):
        outbox = opened(path, max_age_h=1.0)
        outbox.append(STEP, NOON + 7200.0 * boot)
        kept = [round((NOON - 50 * 86400.0) * 1000), round((NOON + 7200.0 * boot) * 1000)]
        assert [row.ts_ms for row in outbox.pending(9)] == kept
        outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM meta WHERE name LIKE 'dated:%'").fetchone()[0] <= 4


def test_what_is_dropped_is_said_with_its_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0)
    for _ in range(10):
        outbox.append(STEP, NOON)
    outbox.close()
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0)
    outbox.append(STEP, NOON + 7200.0)
    (record,) = caplog.records
    assert "10 steps dropped unsent (10 in all)" in record.getMessage()
    assert "outbox.max_age_h" in record.getMessage()


def test_the_file_stays_within_its_bytes_and_keeps_the_newest(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db", max_bytes=65536)
    for _ in range(200):
        newest = outbox.append_all([(STEP, NOON)] * 10)[-1]
    rows = outbox.pending(10**6)
    assert rows[-1] == newest
    assert [row.total for row in rows] == list(range(rows[0].total, 2001))
    assert len(rows) == outbox.depth == 2000 - outbox.dropped
    assert 600 < len(rows) < 900
    outbox.close()
    assert outbox.path.stat().st_size <= 65536 + 4096


def test_today_survives_a_clock_that_steps_over_midnight_and_back(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    for wall_s in (NOON, NOON, NOON - 86400.0, NOON + 86400.0, NOON):
        outbox.append(STEP, wall_s)
    assert [outbox.today(NOON + days * 86400.0) for days in (-1, 0, 1, 2)] == [1, 3, 1, 0]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
def test_today_is_the_local_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-10")  # POSIX for ten hours east of Greenwich
    time.tzset()
    try:
        outbox = opened(tmp_path / "outbox.db")
        outbox.append(STEP, 13.9 * 3600.0)  # 23:54 on the first of January
        assert (outbox.today(13.95 * 3600.0), outbox.today(14.1 * 3600.0)) == (1, 0)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("damage", ["header", "file and head of the log", "page type", "truncated"])
def test_a_damaged_file_is_moved_aside_and_what_can_be_read_is_rescued(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "outbox.db"
    outbox = opened(path)
    rows = [outbox.append(STEP, NOON) for _ in range(300)]
    if damage == "file and head of the log":
        path = crashed(outbox, tmp_path / "copy")
        outbox.close()
        write_ahead_log = path.with_name("outbox.db-wal")
        write_ahead_log.write_bytes(b"\xff" * 32 + write_ahead_log.read_bytes()[32:])
        content = bytearray(b"\xff" * 8192)
    else:
        outbox.close()
        content = bytearray(path.read_bytes())
        if damage == "header":
            content[:100] = b"\xaa" * 100
        elif damage == "page type":
            for page in range(outbox_file.PAGE_BYTES, len(content), outbox_file.PAGE_BYTES):
                content[page] = 0xEE
        else:
            del content[len(content) // 2 :]
    path.write_bytes(content)
    fresh = opened(path)
    rescued = fresh.pending(1000)
    assert fresh.total == fresh.depth + fresh.dropped == 300
    assert rescued == [row for row in rows if row in rescued]
    assert len(rescued) > 100 if damage == "truncated" else rescued == rows
    assert fresh.today(NOON) == 300
    assert fresh.append(STEP, NOON).total == 301
    assert path.with_name("outbox.db.damaged").exists()
    (record,) = caplog.records
    assert "goes on from 300" in record.getMessage()
    assert f"{len(rescued)} waiting steps rescued, {300 - len(rescued)} at most lost" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_the_total_is_rescued_even_if_the_power_goes_between_moving_and_creating(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = opened(path)
    outbox.append(STEP, NOON)
    outbox.close()
    path.rename(path.with_name("outbox.db.damaged"))
    assert opened(path).total == 1


@pytest.mark.parametrize("content", [b"Dear diary, today I walked.\n" * 300, bytes(range(256)) * 64])
def test_a_file_that_never_was_an_outbox_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(OutboxError, match=r"is no outbox.*set outbox\.path to another file") as caught:
        opened(path)
    assert not caught.value.transient
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_zeros_is_what_a_power_cut_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(bytes(16384))
    assert opened(path).append(STEP, NOON).total == 1
    assert len(caplog.records) == 1


def test_no_damaged_file_overwrites_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for total in (1, 2, 3):
        outbox = opened(path)
        outbox.append(STEP, NOON)
        outbox.close()
        content = bytearray(path.read_bytes())
        content[outbox_file.PAGE_BYTES] = 0xEE
        path.write_bytes(content)
        assert opened(path).total == total
        _open.pop().close()
    names = {"outbox.db", "outbox.db.damaged", "outbox.db.damaged.1", "outbox.db.damaged.2"}
    assert {one.name for one in tmp_path.iterdir()} == names
    path.unlink()
    assert opened(path).total == 3


@pytest.mark.parametrize("where", ["header", "first frame", "middle", "last frame"])
def test_a_flipped_bit_in_the_log_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str) -> None:
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(100)]
    outbox.close()
    outbox = opened(tmp_path / "outbox.db")
    rows += [outbox.append(STEP, NOON) for _ in range(50)]
    path = crashed(outbox, tmp_path / "copy")
    log = path.with_name("outbox.db-wal")
    content = bytearray(log.read_bytes())
    end = log_end(path)
    content[{"header": 17, "first frame": 40, "middle": end // 2, "last frame": end - 1}[where]] ^= 1
    log.write_bytes(content)
    fresh = opened(path)
    assert (fresh.total, fresh.dropped, fresh.pending(1000)) == (150, 0, rows)
    assert fresh.today(NOON) == 150
    assert fresh.append(STEP, NOON).total == 151
    kept = path.with_name("outbox.db.damaged-wal")
    # The very last frame only fills up the sector: the commit before it is sound.
    assert kept.exists() == bool(caplog.records) == (where != "last frame")
    if kept.exists():
        (record,) = caplog.records
        assert "has been 150: raised" in record.getMessage()
        assert kept.read_bytes() == bytes(content)[:end]
    fresh.close()
    assert opened(path).total == 151


def spoil(path: Path, *statements: str) -> None:
    """Change a closed outbox as a bad disk might."""
    other = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        other.execute(statement)
    other.close()


SPOILT_ROWS = {
    "text that is no UTF-8": "boot_id = CAST(x'ff66' AS TEXT)",
    "a name that is none": "boot_id = 'x' || boot_id",
    "a number as text": "seq = 'seven'",
    "no sequence number": "seq = -1",
    "a time beyond the calendar": "ts_ms = 9223372036854775807",
    "an infinite clock": "stored_s = 9e999",
    "more than certain": "confidence = 7.5",
    "a cadence of bytes": "cadence_spm = x'00'",
    "a total still to come": "total = 4611686018427387904",
}


@pytest.mark.parametrize("case", SPOILT_ROWS)
def test_a_row_that_cannot_be_read_is_dropped_and_the_others_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    outbox = opened(tmp_path / "outbox.db")
    good = [outbox.append(STEP, NOON) for _ in range(3)]
    outbox.close()
    spoil(outbox.path, f"UPDATE step SET {SPOILT_ROWS[case]} WHERE total = 2")  # noqa: S608
    outbox = opened(outbox.path)
    assert outbox.pending(1) == [good[0]]
    assert outbox.pending(1, after=1) == [good[2]]
    assert (outbox.depth, outbox.dropped, outbox.total) == (2, 1, 3)
    assert outbox.append(STEP, NOON).total == 4
    (record,) = caplog.records
    assert "1 unreadable steps dropped" in record.getMessage()


@pytest.mark.parametrize(
    "damage",
    ["UPDATE meta SET value = 'a lot' WHERE name = 'lifetime_total'", "DELETE FROM meta"],
)
def test_a_spoilt_total_is_found_again(tmp_path: Path, damage: str) -> None:
    outbox = opened(tmp_path / "outbox.db")
    for _ in range(30):
        outbox.append(STEP, NOON)
    outbox.close()
    spoil(outbox.path, damage, "VACUUM")
    assert opened(outbox.path).total == 30


def test_spoilt_numbers_beside_the_total_do_no_harm(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    outbox.append(STEP, NOON)
    outbox.close()
    spoil(
        outbox.path,
        "INSERT OR REPLACE INTO meta VALUES ('last_ts_ms', '999999999999999')",
        "INSERT OR REPLACE INTO meta VALUES ('dropped', 'ten')",
        "UPDATE day SET steps = 'many'",
    )
    outbox = opened(outbox.path)
    assert (outbox.total, outbox.last_ts_ms, outbox.dropped, outbox.today(NOON)) == (1, None, 0, 0)


def test_a_flipped_version_is_corrected_and_nothing_is_lost(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(5)]
    outbox.close()
    spoil(outbox.path, "PRAGMA user_version = 65537")
    for _ in range(2):
        outbox = opened(outbox.path)
        assert outbox.pending(9) == rows
        outbox.close()


@pytest.mark.parametrize(
    "changes", [("PRAGMA user_version = 7",), ("ALTER TABLE step ADD COLUMN foot TEXT", "PRAGMA user_version = 2")]
)
def test_the_outbox_of_a_newer_footfall_is_refused_and_left_alone(tmp_path: Path, changes: tuple[str, ...]) -> None:
    outbox = opened(tmp_path / "outbox.db")
    for _ in range(5):
        outbox.append(STEP, NOON)
    outbox.close()
    spoil(outbox.path, *changes)
    content = outbox.path.read_bytes()
    for _ in range(2):
        with pytest.raises(OutboxError, match=r"made by a newer Footfall .* install that one again"):
            opened(outbox.path)
    assert outbox.path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["outbox.db"]


def test_a_negative_total_is_no_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(5)]
    outbox.close()
    spoil(outbox.path, "UPDATE meta SET value = '-5' WHERE name = 'lifetime_total'", "VACUUM")
    outbox = opened(outbox.path)
    assert (outbox.total, outbox.dropped, outbox.pending(9)) == (5, 0, rows)
    assert "0 lost" in caplog.records[-1].getMessage()


def test_tables_that_have_changed_are_damage(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    outbox.append(STEP, NOON)
    outbox.close()
    spoil(outbox.path, "ALTER TABLE step RENAME TO stap")
    assert opened(outbox.path).append(STEP, NOON).total == 2
    assert outbox.path.with_name("outbox.db.damaged").exists()


@pytest.mark.parametrize("version", [0, 1, 7])
def test_a_foreign_database_of_any_version_is_left_alone(tmp_path: Path, version: int) -> None:
    path = tmp_path / "photos.db"
    spoil(path, "CREATE TABLE photo (name TEXT)", f"PRAGMA user_version = {version}")
    with pytest.raises(OutboxError, match="no outbox of this Footfall"):
        opened(path)
    assert path.exists()


def test_the_age_bound_ends_where_rounding_makes_its_two_sides_differ(tmp_path: Path) -> None:
    """In milliseconds this row was not too old, in seconds it was: the old loop never ended."""
    outbox = opened(tmp_path / "outbox.db", max_age_h=720)
    outbox.append(STEP, 1774671519.699)
    outbox.close()
    outbox = opened(tmp_path / "outbox.db", max_age_h=720)
    assert outbox.append(STEP, 1777263519.6990001).total == 2


def test_many_old_rows_are_dropped_in_one_go(tmp_path: Path) -> None:
    clock = Clock()
    outbox = opened(tmp_path / "outbox.db", max_age_h=1.0, clock=clock)
    for _ in range(64 * 3):
        outbox.append(STEP, NOON)
    clock.now_s += 3601.0
    outbox.append(STEP, NOON)
    assert (outbox.depth, outbox.dropped) == (1, 64 * 3)


def removed(outbox: Outbox, *suffixes: str) -> None:
    for suffix in suffixes:
        outbox.path.with_name(outbox.path.name + suffix).unlink()


@pytest.mark.parametrize("suffixes", [("",), ("-wal",), ("", "-wal")])
def test_a_file_deleted_while_in_use_is_written_anew_with_all_that_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffixes: tuple[str, ...]
) -> None:
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(3)]
    removed(outbox, *suffixes)
    rows += [outbox.append(STEP, NOON) for _ in range(3)]
    assert len(caplog.records) == 1
    path = crashed(outbox, tmp_path / "copy")
    again = opened(path)
    assert (again.pending(9), again.total, again.today(NOON)) == (rows, 6, 6)
    assert outbox.pending(9) == rows


@pytest.mark.parametrize("turn", ["pending", "acknowledge", "close"])
def test_a_deleted_file_is_noticed_without_a_step(tmp_path: Path, turn: str) -> None:
    outbox = opened(tmp_path / "deep" / "outbox.db")
    row = outbox.append(STEP, NOON)
    shutil.rmtree(outbox.path.parent)
    {"pending": lambda: outbox.pending(1), "acknowledge": lambda: outbox.acknowledge([row]), "close": outbox.close}[
        turn
    ]()
    outbox.close()
    assert opened(outbox.path).total == 1


def test_a_file_put_in_its_place_is_kept_beside(tmp_path: Path) -> None:
    older = opened(tmp_path / "backup.db")
    older.append(STEP, NOON)
    older.close()
    outbox = opened(tmp_path / "outbox.db")
    for _ in range(5):
        outbox.append(STEP, NOON)
    (tmp_path / "backup.db").replace(outbox.path)
    assert outbox.append(STEP, NOON).total == 6
    outbox.close()
    assert opened(outbox.path).total == 6
    assert opened(tmp_path / "outbox.db.damaged").total == 1


def test_a_file_in_its_place_that_another_daemon_uses_is_left_alone(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    outbox.append(STEP, NOON)
    removed(outbox, "", "-wal")
    other = opened(tmp_path / "outbox.db")
    other.append(STEP, NOON)
    with pytest.raises(OutboxError, match="another footfall has it open") as caught:
        outbox.append(STEP, NOON)
    assert caught.value.transient
    assert other.append(STEP, NOON).total == 2
    other.close()
    assert outbox.append(STEP, NOON).total == 2


@pytest.fixture
def no_more_bytes() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow beyond so many bytes: writes fail with EFBIG, an I/O error to SQLite."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_step_that_a_failing_disk_refused_can_be_stored_later(
    tmp_path: Path, no_more_bytes: Callable[[int], None]
) -> None:
    outbox = opened(tmp_path / "outbox.db")
    rows = [outbox.append(STEP, NOON) for _ in range(3)]
    no_more_bytes(log_end(outbox.path) + 5000)
    while len(rows) < 9:
        try:
            rows.append(outbox.append(STEP, NOON))
        except OutboxError:
            break
    stored = len(rows)
    for _ in range(3):
        with pytest.raises(OutboxError) as caught:
            outbox.append(STEP, NOON)
        assert caught.value.transient
        assert (outbox.total, outbox.seq, outbox.depth, outbox.pending(9)) == (stored, stored, stored, rows)
    no_more_bytes(2**40)
    rows.append(outbox.append(STEP, NOON))
    assert (rows[-1].total, rows[-1].seq) == (stored + 1, stored + 1)
    again = opened(crashed(outbox, tmp_path / "copy"))
    assert (again.pending(9), again.total) == (rows, stored + 1)


def test_someone_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE photo (name TEXT)")
    other.close()
    with pytest.raises(OutboxError, match="no outbox of this Footfall"):
        opened(path)


def test_a_second_daemon_is_told_so(tmp_path: Path) -> None:
    opened(tmp_path / "outbox.db").append(STEP, NOON)
    keep = opened(tmp_path / "other.db")
    keep.append(STEP, NOON)
    with pytest.raises(OutboxError, match="another footfall has it open"):
        opened(tmp_path / "other.db")


@pytest.mark.parametrize("place", ["file/outbox.db", "folder"])
def test_a_path_that_cannot_be_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutboxError, match=re_path(tmp_path / place)) as caught:
        opened(tmp_path / place)
    assert "outbox.path" in str(caught.value)
    assert "\n" not in str(caught.value)


def re_path(path: Path) -> str:
    return str(path).replace(".", r"\.")


def test_a_full_disk_is_an_error_that_leaves_the_queue_as_it_was(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    row = outbox.append(STEP, NOON)
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(1000):
        try:
            row = outbox.append(STEP, NOON)
        except OutboxError as error:
            assert "free some disk space" in str(error)  # noqa: PT017  which append fails is SQLite's to say
            assert error.transient  # noqa: PT017
            break
    else:
        pytest.fail("the disk never got full")
    outbox._db.execute("PRAGMA max_page_count = 1000000")
    assert outbox.total == row.total
    assert outbox.append(STEP, NOON).seq == row.seq + 1
    assert [one.total for one in outbox.pending(10**6)] == list(range(1, row.total + 2))


def test_another_thread_may_not_use_it(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    errors: list[BaseException] = []

    def use() -> None:
        try:
            outbox.append(STEP, NOON)
        except OutboxError as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_the_steps_of_one_turn_are_one_transaction_with_one_fsync(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    seen: list[str] = []
    outbox._db.set_trace_callback(seen.append)
    days = (0.0, 1.0, 86400.0)
    rows = outbox.append_all([(STEP, NOON + offset) for offset in days])
    outbox._db.set_trace_callback(None)
    assert [(row.total, row.seq) for row in rows] == [(1, 1), (2, 2), (3, 3)]
    assert outbox.pending(9) == rows
    assert sum(line.startswith("COMMIT") for line in seen) == 1
    assert [outbox.today(NOON + offset) for offset in days] == [2, 2, 1]
    assert (outbox.append_all([]), outbox.total, outbox.depth, outbox.last) == ([], 3, 3, rows[-1])


def test_a_turn_that_the_disk_refuses_is_refused_as_a_whole(
    tmp_path: Path, no_more_bytes: Callable[[int], None]
) -> None:
    outbox = opened(tmp_path / "outbox.db")
    first = outbox.append(STEP, NOON)
    no_more_bytes(log_end(outbox.path) + 5000)
    turn = [(STEP, NOON + index) for index in range(100)]
    with pytest.raises(OutboxError) as caught:
        outbox.append_all(turn)
    assert caught.value.transient
    assert (outbox.total, outbox.seq, outbox.today(NOON), outbox.pending(999)) == (1, 1, 1, [first])
    no_more_bytes(2**40)
    rows = outbox.append_all(turn)
    assert opened(crashed(outbox, tmp_path / "copy")).pending(999) == [first, *rows]
