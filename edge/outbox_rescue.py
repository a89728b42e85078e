"""What can still be read out of the raw bytes of a damaged outbox file or of its log.

SQLite gives up on a file at the first page that makes no sense. Its records do not need it: a waiting step is one cell
with a name of 36 letters in a fixed place, and every count only grows, so the largest one found is the newest. The
scan reads a bounded part of a file in chunks: a file of 3 GB costs no more memory, and hardly more time, than a sound
one. Source of the layout: https://www.sqlite.org/fileformat2.html, "Record Format" and "B-tree Pages".
"""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Each of these is kept as twelve digits right behind its name.
TOTAL, OLDEST, DROPPED = "lifetime_total", "oldest_waiting", "dropped"
_COUNTS = re.compile(rb"(lifetime_total|oldest_waiting|dropped)(\d{12})")

_HEX = rb"[0-9a-f]"
_UUID = rb"-".join(_HEX + b"{%d}" % length for length in (8, 4, 4, 4, 12))
# A record of the step table: header of 8 bytes; total is the row's key, hence NULL (0); boot_id is text of 36 (0x55);
# seq, ts_ms are integers (1-6; 8 and 9 are the constants 0 and 1); the three REALs may be kept as integers, or NULL.
_STEP = re.compile(rb"\x08\x00\x55([\x01-\x06\x09][\x01-\x06\x08\x09][\x01-\x09]{2}[\x00-\x09])(" + _UUID + rb")")
# A record of the day table: header of 3 bytes; text of 10 (0x21), an integer.
_DAY = re.compile(rb"\x03\x21([\x01-\x06\x09])(\d{4}-\d{2}-\d{2})")
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_NAME_BYTES = 36
_OVERLAP_BYTES = 256  # more than a cell has

_CHUNK_BYTES = 2**20
HEAD_BYTES, TAIL_BYTES = 2**26, 2**25
"""How much of a larger file is searched: its counts are in the first pages, its newest steps in the last."""
_LOG_HEAD_BYTES, _FRAME_HEAD_BYTES = 32, 24
_LOG_MAGIC = b"\x37\x7f\x06"
_KEPT_VALUES = 64
_NEAR = 20_000
"""More than the steps of a whole log, and less than a flipped bit in one of the upper seven digits makes of them."""
_MAX_DAYS = 4000
_STORE_AT_ONCE = 1000

Row = tuple[int, str, int, int, float, float, float | None]
"""The columns of the step table."""


class Source(NamedTuple):
    """A file to search, up to `end` bytes where that is given."""

    path: Path
    end: int | None = None


@dataclass
class Counts:
    """The largest counts that a file shows; 0 where there is none. days: steps of each local date."""

    total: int = 0
    oldest: int = 0
    dropped: int = 0
    days: dict[str, int] = field(default_factory=dict)


def counts(sources: Iterable[Source]) -> Counts:
    """Return the largest counts shown anywhere in these files, but for such as a flipped bit has made."""
    shown: dict[str, set[int]] = {TOTAL: set(), OLDEST: set(), DROPPED: set()}
    days: dict[str, int] = {}
    for source in sources:
        for text in _texts(source):
            for name, digits in _COUNTS.findall(text):
                shown[name.decode()].add(int(digits))
            for values in shown.values():
                values.difference_update(sorted(values)[:-_KEPT_VALUES])
            _add_days(days, text)
    total = _largest({*shown[TOTAL], sum(days.values())} if shown[TOTAL] else set())
    return Counts(total, _largest(shown[OLDEST]), _largest(shown[DROPPED]), days)


def _largest(values: set[int]) -> int:
    """Return the largest value that another one is near to: each commit writes them, and none is far from the last."""
    ordered = sorted(values, reverse=True)
    for value, next_smaller in itertools.pairwise(ordered):
        if value - next_smaller <= _NEAR:
            return value
    return ordered[-1] if ordered else 0


def _add_days(days: dict[str, int], text: bytes) -> None:
    for found in _DAY.finditer(text):
        size = _SIZES[found[1][0]]
        date, steps = found[2].decode(), _number(found[1][0], text[found.end() : found.end() + size])
        if isinstance(steps, int) and 0 < steps < 10**6 and (date in days or len(days) < _MAX_DAYS):
            days[date] = max(days.get(date, 0), steps)


def rows(sources: Iterable[Source]) -> Iterator[Row]:
    """Yield every waiting step that these files show, in the order of their bytes; some more than once."""
    for source in sources:
        for text in _texts(source):
            for found in _STEP.finditer(text):
                if (row := _row(text, found.start(), found[1])) is not None:
                    yield row


def store(db: sqlite3.Connection, sources: Iterable[Source], *, first: int, last: int, most: int) -> int:
    """Put the steps with these totals (both ends included) into the step table; return how many it then has gained.

    At most `most`, so that a file made of steps cannot fill the disk. The caller begins and ends the transaction.
    """
    stored = 0
    group: list[Row] = []

    def flush() -> int:
        before = db.total_changes
        db.executemany("INSERT OR IGNORE INTO step VALUES (?, ?, ?, ?, ?, ?, ?)", group)
        group.clear()
        return db.total_changes - before

    for row in rows(sources):
        if first <= row[0] <= last:
            group.append(row)
        if len(group) == _STORE_AT_ONCE:
            stored += flush()
        if stored >= most:
            return stored
    return stored + flush()


def is_blank(path: Path) -> bool:
    """Whether the searched part holds nothing but zeros, as a power cut may leave it."""
    return not any(text.strip(b"\0") for text in _texts(Source(path)))


def has_sound_head(path: Path) -> bool:
    """Whether SQLite will play a log back, as far as its head tells.

    Source: https://www.sqlite.org/fileformat2.html, "The WAL File Format" and "Checksum Algorithm".
    """
    with path.open("rb") as file:
        head = file.read(_LOG_HEAD_BYTES)
    if len(head) < _LOG_HEAD_BYTES or head[:3] != _LOG_MAGIC or head[3] & 0xFE != 0x82:
        return False
    words = struct.unpack(">6I" if head[3] & 1 else "<6I", head[:24])
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return head[24:] == struct.pack(">2I", first, second)


def log(path: Path) -> Source:
    """Return SQLite's log as a source that ends with its last commit, be the frames before it sound or not.

    What follows was being written when the process ended: nobody was told that it is stored. Frames of an earlier
    round of the log carry another salt.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LOG_HEAD_BYTES)
        page_bytes = int.from_bytes(head[8:12], "big")
        if head[:3] != _LOG_MAGIC or not 512 <= page_bytes <= 65536 or page_bytes & (page_bytes - 1):
            return Source(path)
        frame_bytes, salts, end = _FRAME_HEAD_BYTES + page_bytes, head[16:24], None
        for offset in range(_LOG_HEAD_BYTES, min(size, HEAD_BYTES), frame_bytes):
            file.seek(offset)
            frame = file.read(_FRAME_HEAD_BYTES)
            if offset == _LOG_HEAD_BYTES and frame[8:16] != salts:
                file.seek(offset + frame_bytes)  # the head or the first frame is spoilt: the second one tells which
                salts = frame[8:16] if file.read(_FRAME_HEAD_BYTES)[8:16] == frame[8:16] else salts
            if frame[8:16] == salts and any(frame[4:8]):
                end = offset + frame_bytes
    return Source(path, end or 0)


def _row(text: bytes, header: int, types: bytes) -> Row | None:
    """Decode the cell whose record begins at `header`; None where it is no whole cell, such as one that was freed."""
    sizes = [_SIZES[kind] for kind in types]
    key = _key_before(text, header)
    if key is None or text[key[1] - 1] != 8 + _NAME_BYTES + sum(sizes):
        return None
    position = header + 8 + _NAME_BYTES
    values: list[float | None] = []
    for kind, size in zip(types, sizes, strict=True):
        values.append(_number(kind, text[position : position + size]))
        position += size
    if position > len(text):
        return None
    seq, ts_ms, stored_s, confidence, cadence_spm = values
    name = text[header + 8 : header + 8 + _NAME_BYTES].decode("ascii")
    reals = float(stored_s or 0), float(confidence or 0), None if cadence_spm is None else float(cadence_spm)
    return key[0], name, int(seq or 0), int(ts_ms or 0), *reals


def _key_before(text: bytes, end: int) -> tuple[int, int] | None:
    """Return the variable-length integer that ends there, and where it begins; None where there is none."""
    start = end - 1
    if start < 1 or text[start] & 0x80:
        return None
    value, shift = text[start], 7
    while start > 1 and text[start - 1] & 0x80 and shift < 56:
        start -= 1
        value |= (text[start] & 0x7F) << shift
        shift += 7
    return value, start


def _number(kind: int, content: bytes) -> int | float | None:
    """Decode a value of the given serial type."""
    if kind == 0:
        return None
    if kind == 7:
        return float(struct.unpack(">d", content)[0]) if len(content) == 8 else None
    return kind - 8 if kind > 7 else int.from_bytes(content, "big", signed=True)


def _texts(source: Source) -> Iterator[bytes]:
    """Yield the searched part of a file in pieces that overlap by more than a record."""
    if not source.path.is_file():
        return
    with source.path.open("rb") as file:
        size = source.path.stat().st_size if source.end is None else source.end
        whole = size <= HEAD_BYTES + TAIL_BYTES
        for begin, end in [(0, size)] if whole else [(0, HEAD_BYTES), (size - TAIL_BYTES, size)]:
            position, tail = begin, b""
            file.seek(begin)
            while position < end and (chunk := file.read(min(_CHUNK_BYTES, end - position))):
                position += len(chunk)
                yield tail + chunk
                tail = chunk[-_OVERLAP_BYTES:]
