"""The outbox: steps wait here, on disk, until the broker has acknowledged them.

A step, its sequence number, the lifetime total and today's count are one SQLite transaction. It is on the disk when
`append` returns: WAL with synchronous=FULL costs one fsync a step, without which a power cut takes the last steps and
the total goes down. Deleting what was acknowledged runs without fsync: all that a power cut can do there is make us
send a step again, and receivers drop repeats.

Threading: one connection, opened, used and closed by one thread, the pipeline's (sqlite3 enforces it).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from edge.errors import OutboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from edge.types import StepEvent

log = logging.getLogger(__name__)

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE step (
    total INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, seq INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
    stored_s REAL NOT NULL, confidence REAL NOT NULL, cadence_spm REAL
);
CREATE TABLE day (date TEXT PRIMARY KEY, steps INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
_DROP_AT_ONCE = 64
_PENDING = """
SELECT total, boot_id, seq, ts_ms, stored_s, confidence, cadence_spm FROM step WHERE total > ? ORDER BY total LIMIT ?
"""

# The total is kept as twelve digits right behind its name, so that it can still be read out of the raw bytes of a
# file that SQLite no longer opens; it only grows, so the largest number found is the newest.
_TOTAL = "lifetime_total"
_TOTAL_IN_BYTES = re.compile(_TOTAL.encode() + rb"(\d{12})")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One stored step.

    total: lifetime steps up to and including this one; it orders the queue. (boot_id, seq) names the step for ever,
    seq counts from 1 in each boot_id. ts_ms: wall time, ms since the epoch. stored_s: the outbox's monotonic clock,
    comparable only within one boot_id. confidence 0..1.
    """

    total: int
    boot_id: str
    seq: int
    ts_ms: int
    stored_s: float
    confidence: float
    cadence_spm: float | None


class Outbox:
    """The queue in one SQLite file.

    boot_id is a fresh UUID for each opening. The kernel's boot id with a start counter would do as long as the counter
    survives, but it lives in this very file: after a damaged or restored file it would name two steps alike.
    Raises OutboxError from every method when the file cannot be read or written.
    """

    def __init__(
        self, path: Path, *, max_age_h: float, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self.boot_id = str(uuid.uuid4())
        self._max_age_s = max_age_h * 3600.0
        self._max_bytes = max_bytes
        self._clock = clock
        self._last: OutboxRow | None = None
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open(path)
            self._total = int(self._meta(_TOTAL, "0"))
            self._dropped = int(self._meta("dropped", "0"))
            last = self._meta("last_ts_ms", "")
            self._last_ts_ms = int(last) if last else None
            self._depth = int(self._db.execute("SELECT count(*) FROM step").fetchone()[0])

    @property
    def total(self) -> int:
        """Lifetime steps; never goes down."""
        return self._total

    @property
    def last(self) -> OutboxRow | None:
        """The last step of this boot_id, acknowledged or not; None before the first."""
        return self._last

    @property
    def seq(self) -> int:
        """Sequence number of the last step of this boot_id; 0 before the first."""
        return self._last.seq if self._last else 0

    @property
    def depth(self) -> int:
        """Rows that wait."""
        return self._depth

    @property
    def dropped(self) -> int:
        """Rows ever dropped unsent because of their age or the file's size."""
        return self._dropped

    @property
    def last_ts_ms(self) -> int | None:
        """Wall time of the last step ever, ms since the epoch."""
        return self._last_ts_ms

    def append(self, event: StepEvent, wall_time_s: float) -> OutboxRow:
        """Store a step that happened at `wall_time_s` (epoch seconds); on the disk when this returns."""
        row = OutboxRow(
            total=self._total + 1,
            boot_id=self.boot_id,
            seq=self.seq + 1,
            ts_ms=round(wall_time_s * 1000.0),
            stored_s=self._clock(),
            confidence=event.confidence,
            cadence_spm=event.cadence_spm,
        )
        with self._transaction(durable=True):
            self._db.execute(
                "INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?)",
                (row.total, row.boot_id, row.seq, row.ts_ms, row.stored_s, row.confidence, row.cadence_spm),
            )
            # A row for each date: a clock that steps across midnight and back does not cost a day its count.
            self._db.execute(
                "INSERT INTO day VALUES (?, 1) ON CONFLICT (date) DO UPDATE SET steps = steps + 1",
                (_local_date(wall_time_s),),
            )
            self._set_meta(_TOTAL, f"{row.total:012d}")
            self._set_meta("last_ts_ms", str(row.ts_ms))
            dropped = self._drop_beyond_bounds(wall_time_s)
        self._last, self._total, self._last_ts_ms = row, row.total, row.ts_ms
        self._depth += 1 - dropped
        self._dropped += dropped
        return row

    def pending(self, limit: int, *, after: int = 0) -> list[OutboxRow]:
        """Return the oldest rows, in order, at most `limit`, whose total is greater than `after`."""
        with _explained(self.path):
            return [OutboxRow(*row) for row in self._db.execute(_PENDING, (after, limit))]

    def acknowledge(self, rows: Iterable[OutboxRow]) -> None:
        """Remove rows that the broker has taken; rows that are gone already do no harm."""
        removed = 0
        with self._transaction(durable=False):
            for row in rows:
                removed += self._db.execute("DELETE FROM step WHERE total = ?", (row.total,)).rowcount
        self._depth -= removed

    def today(self, wall_time_s: float) -> int:
        """Count the steps so far on the local date of `wall_time_s`."""
        with _explained(self.path):
            found = self._db.execute("SELECT steps FROM day WHERE date = ?", (_local_date(wall_time_s),)).fetchone()
        return int(found[0]) if found else 0

    def age_s(self, row: OutboxRow, wall_time_s: float) -> float:
        """Seconds since the step: exact for this boot_id, whatever the wall clock did; by the wall clock before."""
        if row.boot_id == self.boot_id:
            return self._clock() - row.stored_s
        return wall_time_s - row.ts_ms / 1000.0

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with _explained(self.path):
            self._db.close()

    def _drop_beyond_bounds(self, wall_time_s: float) -> int:
        """Drop the oldest rows while they are too old or the file too large; return how many."""
        dropped = 0
        while (oldest := self.pending(1)) and self.age_s(oldest[0], wall_time_s) > self._max_age_s:
            dropped += self._db.execute(
                "DELETE FROM step WHERE total IN (SELECT total FROM step ORDER BY total LIMIT ?)"
                " AND CASE boot_id WHEN ? THEN stored_s < ? ELSE ts_ms < ? END",
                (
                    _DROP_AT_ONCE,
                    self.boot_id,
                    self._clock() - self._max_age_s,
                    (wall_time_s - self._max_age_s) * 1000.0,
                ),
            ).rowcount
        while self._used_bytes() > self._max_bytes:
            rows = self._db.execute(
                "DELETE FROM step WHERE total IN (SELECT total FROM step ORDER BY total LIMIT ?)", (_DROP_AT_ONCE,)
            ).rowcount
            if rows == 0:
                break
            dropped += rows
        if dropped:
            self._set_meta("dropped", str(self._dropped + dropped))
        return dropped

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _meta(self, name: str, default: str) -> str:
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else default

    def _set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = ?2", (name, value))

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        with _explained(self.path):
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                    self._db.execute("ROLLBACK")
                raise


def _local_date(wall_time_s: float) -> str:
    return datetime.fromtimestamp(wall_time_s).astimezone().date().isoformat()


def _open(path: Path) -> sqlite3.Connection:
    """Open or create the file; a damaged one is moved aside and its total carried over."""
    logged = _shown_total(_beside(path, "-wal"))  # before SQLite sees it: a log it cannot use, it deletes
    aside = _beside(path, ".damaged")
    try:
        # No file, but a damaged one: the power went right after it was moved aside.
        return _connect(path, logged if path.exists() else max(logged, _shown_total(aside)))
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        damage = error
    total = max(logged, _shown_total(path))
    for suffix in ("-wal", ""):  # the log first: whatever stays behind must not be replayed into the new file
        if _beside(path, suffix).exists():
            os.replace(_beside(path, suffix), _beside(aside, suffix))  # noqa: PTH105  says that it overwrites
    log.error(
        "outbox %s is damaged (%s): moved to %s, starting a new one; the lifetime total goes on from %d",
        path, damage, aside, total,
    )  # fmt: skip
    return _connect(path, total)


def _connect(path: Path, total: int) -> sqlite3.Connection:
    """Open the file; `total` is where an empty one starts to count."""
    db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        # Exclusive: two daemons on one file would send every step twice, and no shared memory is needed.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        _prepare(db, path, total)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path, total: int) -> None:
    """Create the tables in an empty file; refuse a foreign or a damaged one."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = int(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if version == 0 and tables == 0:
        db.executescript(f"BEGIN; {_SCHEMA}")
        db.execute("INSERT INTO meta VALUES (?, ?)", (_TOTAL, f"{total:012d}"))
        db.execute("COMMIT")
    elif version != _VERSION:
        wanted = f"found version {version}, wanted {_VERSION}"
        raise OutboxError(f"{path} is no outbox of this Footfall ({wanted}): set outbox.path to another file")
    elif (found := str(db.execute("PRAGMA quick_check(1)").fetchone()[0])) != "ok":
        raise _Damaged(found)


class _Damaged(sqlite3.DatabaseError):
    """SQLite's own check found the file inconsistent."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    return isinstance(error, _Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _shown_total(path: Path) -> int:
    """Return the largest lifetime total in the raw bytes of a file; 0 where there is none."""
    if not path.is_file():
        return 0
    return max((int(digits) for digits in _TOTAL_IN_BYTES.findall(path.read_bytes())), default=0)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into an OutboxError."""
    try:
        yield
    except OutboxError:
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        remedy = {
            sqlite3.SQLITE_BUSY: "another footfall has it open: stop it first, or set outbox.path",
            sqlite3.SQLITE_FULL: "free some disk space",
            sqlite3.SQLITE_CORRUPT: "restart footfall: it moves a damaged outbox aside",
        }.get(code, "check the disk, and that outbox.path is a file that this user may write")
        raise OutboxError(f"outbox {path}: {error}; {remedy}") from error
    except OSError as error:
        raise OutboxError(f"outbox {path}: {error.strerror}; set outbox.path to a file this user may write") from error
