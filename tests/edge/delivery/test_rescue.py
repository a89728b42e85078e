"""A damaged outbox gives back all that can still be read, says what is missing, and costs a bounded amount."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import outbox_file, outbox_rescue
from edge.errors import OutboxError
from edge.outbox import Outbox, OutboxRow
from edge.types import StepEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON_S = 1_795_435_200.0
GB = 10**9


def step(number: int) -> StepEvent:
    """Return a step unlike the others; values with a fraction, without, and none at all are stored differently."""
    return StepEvent(1.0, 1.2, 1.0 if number % 5 == 0 else 0.25 + number % 7 / 10, (None, 104.0, 99.5)[number % 3])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Outbox]:
    outbox = Outbox(path, max_age_h=8760, max_bytes=2**24, clock=lambda: 1000.0)
    try:
        yield outbox
    finally:
        outbox.close()


def filled(path: Path, count: int, *, acknowledged: int = 0) -> list[OutboxRow]:
    """Make an outbox with so many steps, of which the first were acknowledged; return those that wait."""
    with opened(path) as outbox:
        for first in range(0, count, 25):
            outbox.append_all([(step(number), NOON_S + number) for number in range(first, min(first + 25, count))])
        outbox.acknowledge(outbox.pending(acknowledged))
        return outbox.pending(count)


def overwrite(path: Path, page: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(page * outbox_file.PAGE_BYTES)
        file.write(content)


def test_what_waited_is_rescued_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    rows = filled(path, 500)
    overwrite(path, 0, b"\xaa" * 100)
    with opened(path) as outbox:
        assert outbox.pending(1000) == rows
        assert (outbox.total, outbox.dropped, outbox.today(NOON_S)) == (500, 0, 500)


@pytest.mark.parametrize("page", range(1, 60, 7))
def test_a_page_that_is_gone_takes_its_own_steps_and_they_are_counted(tmp_path: Path, page: int) -> None:
    path = tmp_path / "outbox.db"
    rows = filled(path, 500, acknowledged=100)
    overwrite(path, page, b"\xff" * outbox_file.PAGE_BYTES)
    with opened(path) as outbox:
        found = [row for row in outbox.pending(1000) if row.total > 100]
        assert found == [row for row in rows if row in found]
        assert len(found) + outbox.dropped == 400
        assert outbox.dropped <= 10
        assert outbox.total == 500
        assert outbox.append(step(0), NOON_S).total == 501


def test_a_second_start_finds_what_the_first_one_rescued(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    rows = filled(path, 50)
    overwrite(path, 0, b"\xaa" * 100)
    for _ in range(3):
        with opened(path) as outbox:
            assert outbox.pending(1000) == rows
    assert sorted(one.name for one in tmp_path.iterdir()) == ["outbox.db", "outbox.db.damaged"]


@pytest.mark.parametrize("digit", [0, 3, 5])
def test_a_flipped_bit_in_a_copy_of_the_total_does_not_make_it_jump(tmp_path: Path, digit: int) -> None:
    path = tmp_path / "outbox.db"
    rows = filled(path, 50)
    content = bytearray(path.read_bytes())
    at = content.index(b"lifetime_total0") + len("lifetime_total") + digit
    content[at] ^= 8  # 0 becomes 8
    content[:100] = b"\xaa" * 100
    path.write_bytes(content)
    with opened(path) as outbox:
        assert outbox.total == 50
        assert outbox.pending(1000) == rows


def _cost_of_opening(path: Path) -> dict[str, float]:
    """Open it in a process of its own; return its peak memory in MB and the MB that it read, and what it said."""
    program = """
import json, sys
from pathlib import Path
from edge.errors import OutboxError
from edge.outbox import Outbox
try:
    outbox = Outbox(Path(sys.argv[1]), max_age_h=24, max_bytes=2**24)
    said = f"total {outbox.total}"
    outbox.close()
except OutboxError as error:
    said = str(error)
read = next(int(line.split()[1]) for line in open("/proc/self/io") if line.startswith("rchar"))
# Not ru_maxrss: a child inherits its parent's.
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"said": said, "peak": peak_kb / 1e3, "read": read / 1e6}))
"""
    done = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


BEGINNINGS = {
    "zeros": (b"", "total 0"),
    "junk": (b"\x8f\x01junk" * 1000, "is no outbox"),
    "a database's first bytes": (b"SQLite format 3\0" + b"\xff" * 4000, "total 0"),
    "our total and nothing else": (b"SQLite format 3\0" + b"lifetime_total000000000042" * 3, "total 42"),
}


@pytest.mark.parametrize("case", BEGINNINGS)
def test_three_gigabytes_cost_little_memory_and_are_not_read_to_the_end(tmp_path: Path, case: str) -> None:
    path = tmp_path / "outbox.db"
    beginning, expected = BEGINNINGS[case]
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(3 * GB)  # a hole: it takes no room on the disk
    cost = _cost_of_opening(path)
    assert expected in str(cost["said"])
    assert cost["peak"] < 120.0
    searched_mb = (outbox_rescue.HEAD_BYTES + outbox_rescue.TAIL_BYTES) / 1e6
    assert cost["read"] < 3 * searched_mb + 50.0


def test_a_file_made_of_steps_cannot_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, 300)
    overwrite(path, 0, b"\xaa" * 100)
    with contextlib.closing(outbox_file.connect(tmp_path / "new.db", 300)) as db:
        db.execute("BEGIN")
        found = outbox_rescue.store(db, [outbox_rescue.Source(path)], first=1, last=300, most=10)
        db.execute("COMMIT")
    assert 10 <= found <= 1000


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_damage_whatsoever_is_more_than_an_error_or_a_rescue(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes are changed, removed and put in, in the file and in its log, as they lie there after a kill."""
    path, _ = _copy_of_a_killed_one(tmp_path_factory)
    for suffix in data.draw(st.lists(st.sampled_from(["", "-wal"]), min_size=1, max_size=2, unique=True)):
        target = path.with_name(path.name + suffix)
        content = bytearray(target.read_bytes())
        for at, length, junk in data.draw(_damages(len(content))):
            content[at : at + length] = junk
        target.write_bytes(content)
    for _ in range(2):
        try:
            with opened(path) as outbox:
                found = outbox.pending(10_000)
                assert outbox.depth == len(found) <= 10_000
                assert all(isinstance(row.seq, int) and 0.0 <= row.confidence <= 1.0 for row in found)
                assert outbox.total >= max((row.total for row in found), default=0)
                next_row = outbox.append(step(1), NOON_S)
                assert next_row.total == outbox.total
                assert (next_row.boot_id, next_row.seq) == (outbox.boot_id, 1)
        except OutboxError as error:
            assert "\n" not in str(error)  # noqa: PT017  an error is allowed, here only its looks matter


@given(flips=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 7)), min_size=1, max_size=1))
@settings(max_examples=60, deadline=None)
def test_one_flipped_bit_never_takes_the_total_down(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    path, count = _copy_of_a_killed_one(tmp_path_factory)
    names = ["outbox.db", "outbox.db-wal"]
    sizes = [path.with_name(name).stat().st_size for name in names]
    for position, bit in flips:
        at = position % sum(sizes)
        target, at = (names[0], at) if at < sizes[0] else (names[1], at - sizes[0])
        content = bytearray(path.with_name(target).read_bytes())
        content[at] ^= 1 << bit
        path.with_name(target).write_bytes(content)
    try:
        with opened(path) as outbox:
            assert outbox.total >= count
            # A bit of a step's own values cannot be told from a right one; a step can lose its place, not its fellows.
            assert len(outbox.pending(10_000)) >= count - 12
    except OutboxError as error:
        assert "is no outbox" in str(error)  # noqa: PT017  of a flipped magic or table name: nothing is touched then


def _damages(size: int) -> st.SearchStrategy[list[tuple[int, int, bytes]]]:
    one = st.tuples(
        st.integers(0, size), st.integers(0, 3000), st.one_of(st.binary(max_size=2000), st.just(bytes(4096)))
    )
    return st.lists(one, min_size=1, max_size=4)


@cache
def _killed() -> tuple[bytes, bytes, int]:
    """Return the bytes of an outbox that was killed with steps in its file and in its log, and how many there are."""
    with tempfile.TemporaryDirectory() as name, opened(Path(name) / "outbox.db") as outbox:
        outbox.append_all([(step(number), NOON_S + number) for number in range(60)])
        outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(60, 100):
            outbox.append(step(number), NOON_S + number)
        log = outbox.path.with_name("outbox.db-wal")
        return outbox.path.read_bytes(), log.read_bytes(), outbox.total


def _copy_of_a_killed_one(factory: pytest.TempPathFactory) -> tuple[Path, int]:
    file, log, count = _killed()
    path = factory.mktemp("killed") / "outbox.db"
    path.write_bytes(file)
    path.with_name("outbox.db-wal").write_bytes(log)
    return path, count
