"""The outbox: steps wait here, on disk, until the broker has acknowledged them.

Steps, their sequence numbers, the lifetime total and today's count are one SQLite transaction. They are on the disk
when `append_all` returns: WAL with synchronous=FULL costs one fsync a turn of the pipeline, without which a power cut
takes the last steps and the total goes down. Deleting what was acknowledged runs without fsync: all that a power cut
can do there is make us send a step again, and receivers drop repeats.

Threading: one connection, opened, used and closed by one thread, the pipeline's (sqlite3 enforces it).
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import sqlite3
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from edge import outbox_file, outbox_start
from edge.complaints import Complaints
from edge.outbox_file import beside, explained, reserve_log
from edge.outbox_rescue import DROPPED, OLDEST, TOTAL
from edge.outbox_start import meta, set_meta
from edge.wall_clock import synchronised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from edge.types import StepEvent

log = logging.getLogger(__name__)

_DROP_AT_ONCE = 64
_BOOT_ID = re.compile(r"[0-9a-f-]{36}")
_TIMES_MS = (-62_135_510_400_000, 253_402_214_400_000)  # what datetime can write, less a day for the time zone
_PENDING = """
SELECT total, boot_id, seq, ts_ms, stored_s, confidence, cadence_spm FROM step WHERE total > ? ORDER BY total LIMIT ?
"""


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
    is_clock_right: whether the wall clock is known to be right; asked at each append until it says True.
    Raises OutboxError from every method when the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_age_h: float,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        is_clock_right: Callable[[], bool | None] = synchronised,
    ) -> None:
        self.path = path
        # Made once: pathlib interns every name, and Python's table of those grows with each one that comes and goes.
        self._watched = (path, beside(path, "-wal"))
        self.boot_id = str(uuid.uuid4())
        self._max_age_s = max_age_h * 3600.0
        self._max_bytes = max_bytes
        self._clock, self._is_clock_right = clock, is_clock_right
        self._opened_s = clock()
        self._is_dated = False  # whether the wall clock has been right in this boot_id
        self._complaints = Complaints(clock)
        self._last: OutboxRow | None = None
        self._closed = False
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            start = outbox_start.open_outbox(path)
            self._db, self._total = start.db, start.total
            reserve_log(path)
            self._files = self._identities()
            self._dropped = meta(self._db, DROPPED) or 0
            last_ts_ms = meta(self._db, "last_ts_ms")
            self._last_ts_ms = last_ts_ms if _is_time(last_ts_ms) else None
            self._depth = self._count_rows()
            self._drop_impossible()

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
        """Store a step that happened at `wall_time_s` (epoch seconds); as append_all."""
        return self.append_all([(event, wall_time_s)])[0]

    def append_all(self, steps: Sequence[tuple[StepEvent, float]]) -> list[OutboxRow]:
        """Store steps, each with its wall time (epoch seconds), in one transaction; on the disk when this returns.

        All of them or none: after an OutboxError nothing is stored; if it is transient, the same call may be repeated.
        """
        if not steps:
            return []
        rows = self._named(steps)
        last, wall_time_s = rows[-1], steps[-1][1]
        is_dated = self._is_dated or self._is_clock_right() is True
        with self._transaction(durable=True):
            self._db.executemany(
                "INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(r.total, r.boot_id, r.seq, r.ts_ms, r.stored_s, r.confidence, r.cadence_spm) for r in rows],
            )
            # A row for each date: a clock that steps across midnight and back does not cost a day its count.
            self._db.executemany(
                "INSERT INTO day VALUES (?, ?) ON CONFLICT (date) DO UPDATE SET steps = steps + ?2",
                list(Counter(_local_date(wall_s) for _, wall_s in steps).items()),
            )
            set_meta(self._db, TOTAL, last.total)
            set_meta(self._db, "last_ts_ms", last.ts_ms)
            if is_dated and not self._is_dated:
                self._note_dated(rows[0].total)
            dropped = self._drop_beyond_bounds(wall_time_s, is_dated=is_dated)
            self._note_oldest()
        self._is_dated = is_dated
        self._last, self._total, self._last_ts_ms = last, last.total, last.ts_ms
        self._depth += len(rows) - dropped
        self._dropped += dropped
        if dropped:
            self._complaints.log(
                f"outbox {self.path}: {dropped} steps dropped unsent ({self._dropped} in all), the oldest that waited: "
                f"older than {self._max_age_s / 3600.0:g} h, or beyond {self._max_bytes} bytes (outbox.max_age_h, "
                "outbox.max_bytes); see that the MQTT broker can be reached",
                key="dropped",
            )
        return rows

    def _named(self, steps: Sequence[tuple[StepEvent, float]]) -> list[OutboxRow]:
        """Give the steps their place in the queue and their name."""
        now_s = self._clock()
        return [
            OutboxRow(
                total=self._total + number,
                boot_id=self.boot_id,
                seq=self.seq + number,
                ts_ms=round(wall_time_s * 1000.0),
                stored_s=now_s,
                confidence=event.confidence,
                cadence_spm=event.cadence_spm,
            )
            for number, (event, wall_time_s) in enumerate(steps, start=1)
        ]

    def pending(self, limit: int, *, after: int = 0) -> list[OutboxRow]:
        """Return the oldest rows, in order, at most `limit`, whose total is greater than `after`.

        Rows that the disk has spoilt are dropped and counted: nobody could read them, and they would come up for ever.
        """
        self._keep_the_file()
        while True:
            with explained(self.path):
                found = [OutboxRow(*row) for row in self._db.execute(_PENDING, (after, limit))]
            rows = [row for row in found if _is_sound(row)]
            if len(rows) == len(found):
                return rows
            self._drop_unreadable([row.total for row in found if not _is_sound(row)])
            if rows:
                return rows

    def acknowledge(self, rows: Iterable[OutboxRow]) -> None:
        """Remove rows that the broker has taken; rows that are gone already do no harm."""
        removed = 0
        with self._transaction(durable=False):
            for row in rows:
                removed += self._db.execute("DELETE FROM step WHERE total = ?", (row.total,)).rowcount
            if removed > 1:  # a single one is noted with the next step, which changes that page anyway
                self._note_oldest()
        self._depth -= removed

    def today(self, wall_time_s: float) -> int:
        """Count the steps so far on the local date of `wall_time_s`, or since reset_today() on that date."""
        with explained(self.path):
            return max(0, self._on(_local_date(wall_time_s)) - self._reset_on(_local_date(wall_time_s)))

    def reset_today(self, wall_time_s: float) -> int:
        """Start the count of that local date over; return what it was. The days' own counts stay: they bear witness."""
        date, was = _local_date(wall_time_s), self.today(wall_time_s)
        with self._transaction(durable=True):
            self._db.execute("DELETE FROM meta WHERE name LIKE 'reset:%'")
            self._db.execute("INSERT INTO meta VALUES (?, ?)", (f"reset:{date}", str(self._on(date))))
        return was

    def _on(self, date: str) -> int:
        found = self._db.execute("SELECT steps FROM day WHERE date = ?", (date,)).fetchone()
        return found[0] if found and isinstance(found[0], int) else 0

    def _reset_on(self, date: str) -> int:
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (f"reset:{date}",)).fetchone()
        text = str(found[0]) if found else ""
        return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else 0

    def age_s(self, row: OutboxRow, wall_time_s: float) -> float:
        """Seconds since the step: exact for this boot_id, whatever the wall clock did; by the wall clock before."""
        if row.boot_id == self.boot_id:
            return self._clock() - row.stored_s
        return wall_time_s - row.ts_ms / 1000.0

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        if self._closed:
            return
        self._closed = True
        with explained(self.path):
            try:
                self._keep_the_file()
            finally:
                self._db.close()

    def _drop_beyond_bounds(self, wall_time_s: float, *, is_dated: bool) -> int:
        """Drop the oldest rows while they are too old or the file too large; return how many.

        Rows of an earlier boot_id age by the wall clock, but only where it was right then and is right now; the others
        age from when we opened the file.
        """
        now_s = self._clock()
        dropped = self._delete_oldest(
            "CASE WHEN boot_id = ? THEN stored_s < ?"
            " WHEN ? AND total >= (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'dated:' || boot_id)"
            " THEN ts_ms < ? ELSE ? END",
            self.boot_id, now_s - self._max_age_s, is_dated, (wall_time_s - self._max_age_s) * 1000.0,
            now_s - self._opened_s > self._max_age_s,
        )  # fmt: skip
        while self._used_bytes() > self._max_bytes:
            rows = self._delete_batch("TRUE")
            if rows == 0:
                break
            dropped += rows
        if dropped:
            set_meta(self._db, DROPPED, self._dropped + dropped)
        return dropped

    def _note_dated(self, total: int) -> None:
        """Keep from which step on this boot_id's times are right; forget that of those whose steps have all gone."""
        self._db.execute(
            "DELETE FROM meta WHERE name LIKE 'dated:%' AND value < (SELECT max(value) FROM meta WHERE name LIKE "
            "'dated:%' AND CAST(value AS INTEGER) <= (SELECT min(total) FROM step))"
        )
        set_meta(self._db, f"dated:{self.boot_id}", total)

    def _note_oldest(self) -> None:
        """Keep where the queue begins: after damage it tells which steps waited, and so how many are missing."""
        oldest = self._db.execute("SELECT min(total) FROM step").fetchone()[0]
        set_meta(self._db, OLDEST, self._total + 1 if oldest is None else oldest)

    def _delete_oldest(self, condition: str, *values: object) -> int:
        """Delete from the front of the queue for as long as whole batches meet the condition; return how many."""
        dropped = rows = self._delete_batch(condition, *values)
        while rows == _DROP_AT_ONCE:
            rows = self._delete_batch(condition, *values)
            dropped += rows
        return dropped

    def _delete_batch(self, condition: str, *values: object) -> int:
        return self._db.execute(
            f"DELETE FROM step WHERE total IN (SELECT total FROM step ORDER BY total LIMIT {_DROP_AT_ONCE})"  # noqa: S608
            f" AND {condition}",
            values,
        ).rowcount

    def _drop_unreadable(self, totals: list[int]) -> None:
        with self._transaction(durable=False):
            for total in totals:
                self._db.execute("DELETE FROM step WHERE total = ?", (total,))
            set_meta(self._db, DROPPED, self._dropped + len(totals))
        self._depth -= len(totals)
        self._dropped += len(totals)
        log.error(
            "outbox %s: %d unreadable steps dropped, total %d first: check the disk", self.path, len(totals), totals[0]
        )

    def _drop_impossible(self) -> None:
        """Drop rows that claim totals still to come, which a spoilt key may do: they would block the real ones."""
        ahead = [
            row[0] for row in self._db.execute("SELECT total FROM step WHERE total > ? OR total < 1", (self._total,))
        ]
        if ahead:
            self._drop_unreadable(ahead)

    def _identities(self) -> list[tuple[int, int] | None]:
        return [outbox_file.identity(path) for path in self._watched]

    def _keep_the_file(self) -> None:
        """Write the file anew if somebody has deleted or replaced it: nothing else would notice before a restart."""
        try:
            now = self._identities()
        except OSError:  # we may not look: then nobody knows
            return
        if now == self._files:
            return
        with explained(self.path):
            replaced = now[0] not in (None, self._files[0])
            if replaced and now[1] == self._files[1]:
                # Our log beside a stranger's database: SQLite would play it into that.
                beside(self.path, "-wal").unlink(missing_ok=True)
            self._db = outbox_file.rewrite(self._db, self.path, total=self._total, replaced=replaced)
            self._files = self._identities()
            self._depth = self._count_rows()
        log.error(
            "outbox %s was deleted or replaced while in use: written anew; lifetime total %d, %d steps wait",
            self.path, self._total, self._depth,
        )  # fmt: skip

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _count_rows(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM step").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        self._keep_the_file()
        with explained(self.path):
            if self._db.in_transaction:  # a failed one that could not even be rolled back then
                self._db.execute("ROLLBACK")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                    self._db.execute("ROLLBACK")
                raise


def _is_sound(row: OutboxRow) -> bool:
    """Whether a row's values are such as append stores: the disk may change them, and SQLite takes any type."""
    numbers = (row.stored_s, row.confidence, 0.0 if row.cadence_spm is None else row.cadence_spm)
    return (
        isinstance(row.boot_id, str)
        and _BOOT_ID.fullmatch(row.boot_id) is not None
        and isinstance(row.seq, int)
        and row.seq > 0
        and _is_time(row.ts_ms)
        and all(isinstance(number, float) and math.isfinite(number) for number in numbers)
        and 0.0 <= row.confidence <= 1.0
    )


def _is_time(ms: object) -> bool:
    return isinstance(ms, int) and _TIMES_MS[0] <= ms <= _TIMES_MS[1]


def _local_date(wall_time_s: float) -> str:
    return datetime.fromtimestamp(wall_time_s).astimezone().date().isoformat()
