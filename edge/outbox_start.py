"""Opening the outbox: what is damaged is rescued as far as it can be read, counted, and kept aside.

Nothing here may be done twice or be left half done by a power cut:
1. SQLite's log gets a second name, because SQLite deletes a log that it cannot use; and before a start writes to it,
   a log with steps that SQLite cannot see is copied, and stays a source until they are stored.
2. A damaged file's steps are written to a file of their own, `.rescued`; only when that is complete is the damaged
   one moved aside and the other put in its place. A start that finds `.rescued` and no file finishes that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge import outbox_rescue
from edge.errors import OutboxError
from edge.outbox_file import asides, beside, connect, free_aside, is_damage, was_an_outbox
from edge.outbox_rescue import DROPPED, OLDEST, TOTAL, Counts, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

_MOST_RESCUED = 1_000_000
_PIECE_BYTES = 2**20
_FIRST_PAGE_BYTES = 4096
"""As much as an outbox has, at most, before its first log was played into it."""


@dataclass(frozen=True)
class Start:
    """The opened database and the lifetime total that it, its log or its wreck has ever shown."""

    db: sqlite3.Connection
    total: int


def open_outbox(path: Path) -> Start:
    """Open or create the file, rescue what a damaged one still shows.

    Raises OutboxError for a file that never was an outbox, sqlite3.Error, OSError.
    """
    _finish_rescue(path)
    kept = _keep_log(path)
    copy = beside(path, "-wal.copy")
    is_retry = copy.exists()
    logs = [outbox_rescue.log(one) for one in (copy, kept) if one is not None and one.exists()]
    shown = outbox_rescue.counts([Source(path), *logs])
    if not path.exists():  # but a damaged one: the power went right after it was moved aside
        shown.total = max(shown.total, *(outbox_rescue.counts([aside]).total for aside in _asides(path)), 0)
    first = shown.total
    if logs and shown.oldest and _has_no_tables(path):
        # All there is stands in the log, and SQLite removes or overwrites one that it cannot play back. If it must make
        # the file anew, that begins before what waited, which is rescued then.
        logs = _secured(path, logs)
        first = min(shown.oldest - 1, shown.total)
    try:
        db = connect(path, first)
    except OutboxError:
        _forget(kept)
        raise
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            _forget(kept)
            raise
        if not shown.total and not was_an_outbox(path):
            _forget(kept)
            raise OutboxError(f"{path} is no outbox ({error}): set outbox.path to another file") from error
        db = _rescue(path, kept, logs, shown, error)
    total, is_raised = _raise_total(db, path, shown, logs)
    _forget(kept)
    if copy.exists():
        if is_raised or is_retry:
            copy.replace(beside(free_aside(path), "-wal"))
        else:
            copy.unlink()
    return Start(db, total)


def meta(db: sqlite3.Connection, name: str) -> int | None:
    """Return a number that was kept; None where there is none any more."""
    found = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    text = str(found[0]) if found else ""
    return int(text) if re.fullmatch(r"-?[0-9]{1,15}", text) else None


def set_meta(db: sqlite3.Connection, name: str, value: int) -> None:
    """Keep a number, in twelve digits: those can be found again in a wreck."""
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = ?2", (name, f"{value:012d}"))


def _raise_total(db: sqlite3.Connection, path: Path, shown: Counts, logs: list[Source]) -> tuple[int, bool]:
    """Return the lifetime total, and whether the file said less than its own bytes show: then it is raised to that.

    The count may be lost where it is kept, in a spoilt page or in a log that SQLite could not read to its end; the
    days and the rows are witnesses of their own, and agree where neither is spoilt. Steps in such a log are rescued.
    """
    stored = meta(db, TOTAL)
    stored = None if stored is not None and stored < 0 else stored  # no count: nothing is known to be lost
    rows, days = (
        int(db.execute(question).fetchone()[0] or 0)
        for question in ("SELECT max(total) FROM step", "SELECT sum(steps) FROM day")
    )
    total = max(stored or 0, shown.total, min(rows, days) if stored is not None else days)
    if stored == total:
        return total, False
    rescued = missing = 0
    logs = _copied(path, logs)
    with _transaction(db):
        if stored is not None:
            rescued = outbox_rescue.store(db, logs, first=stored + 1, last=total, most=_MOST_RESCUED)
            there = "SELECT count(*) FROM step WHERE total > ? AND total <= ?"
            missing = total - stored - int(db.execute(there, (stored, total)).fetchone()[0])
            set_meta(db, DROPPED, (meta(db, DROPPED) or 0) + missing)
            _raise_days(db, shown.days)
        set_meta(db, TOTAL, total)
    log.error(
        "outbox %s: the lifetime total was %s and has been %d: raised; %d steps rescued, %d lost and counted as "
        "dropped; SQLite's log is kept as %s",
        path, "unreadable" if stored is None else stored, total, rescued, missing,
        beside(free_aside(path), "-wal") if logs else "nothing, there is none",
    )  # fmt: skip
    return total, True


def _rescue(
    path: Path, kept: Path | None, logs: list[Source], shown: Counts, damage: sqlite3.Error
) -> sqlite3.Connection:
    """Put a new file with all that can be read of a damaged one in its place; the damaged one is moved aside."""
    ready = beside(path, ".rescued")
    ready.unlink(missing_ok=True)
    with contextlib.closing(connect(ready, shown.total)) as db, _transaction(db):
        # Some of them may have been acknowledged: sent again, they are dropped as repeats. A lost one stays lost.
        rescued = outbox_rescue.store(db, [Source(path), *logs], first=1, last=shown.total, most=_MOST_RESCUED)
        lost = _lost(db, shown)
        set_meta(db, DROPPED, shown.dropped + (lost or 0))
        set_meta(db, OLDEST, shown.oldest)
        _raise_days(db, shown.days)
    aside = free_aside(path)
    if kept is not None:
        shutil.copyfile(kept, beside(aside, "-wal"))
    path.replace(aside)
    _finish_rescue(path)
    log.error(
        "outbox %s is damaged (%s): moved to %s; the lifetime total goes on from %d; %d waiting steps rescued, %s",
        path, damage, aside, shown.total, rescued,
        "how many others waited is not known" if lost is None else f"{lost} at most lost and counted as dropped",
    )  # fmt: skip
    return connect(path, shown.total)


def _lost(db: sqlite3.Connection, shown: Counts) -> int | None:
    """Return how many steps that may have waited were not found; None where the file does not tell."""
    first = shown.oldest or db.execute("SELECT min(total) FROM step").fetchone()[0]
    if first is None:
        return 0 if shown.total == 0 else None
    found = int(db.execute("SELECT count(*) FROM step WHERE total >= ?", (first,)).fetchone()[0])
    return max(0, shown.total - int(first) + 1 - found)


def _raise_days(db: sqlite3.Connection, days: dict[str, int]) -> None:
    db.executemany(
        "INSERT INTO day VALUES (?, ?) ON CONFLICT (date) DO UPDATE SET steps = max(steps, ?2)", list(days.items())
    )


def _finish_rescue(path: Path) -> None:
    """Put a complete `.rescued` in the place of the file that was moved aside for it; remove an incomplete one."""
    ready = beside(path, ".rescued")
    if not ready.exists():
        return
    if path.exists():  # the power went before all was written
        for suffix in ("", "-wal", "-journal"):
            beside(ready, suffix).unlink(missing_ok=True)
        return
    beside(path, "-wal").unlink(missing_ok=True)  # SQLite would play it into the new file; a copy is kept aside
    ready.replace(path)
    _sync_folder(path)


def _sync_folder(path: Path) -> None:
    """Make the names beside a file survive a power cut."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _has_no_tables(path: Path) -> bool:
    """Whether the file is not there or was never written to: the first steps of an outbox are in its log alone."""
    if not path.exists():
        return True
    return path.stat().st_size <= _FIRST_PAGE_BYTES and b"CREATE TABLE" not in path.read_bytes()


def _secured(path: Path, logs: list[Source]) -> list[Source]:
    """Copy the log before SQLite sees it; without room for that, only one is risked that SQLite can play back."""
    try:
        return _copied(path, logs)
    except OSError:
        if path.exists() and outbox_rescue.has_sound_head(logs[0].path):
            return logs
        raise


def _asides(path: Path) -> list[Source]:
    found = [aside for aside in asides(path) if aside.exists()]
    logs = [beside(aside, "-wal") for aside in asides(path) if beside(aside, "-wal").exists()]
    return [Source(one) for one in found] + [outbox_rescue.log(one) for one in logs]


def _keep_log(path: Path) -> Path | None:
    """Give SQLite's log a second name; return it, or the one that an interrupted start has left."""
    original, kept = beside(path, "-wal"), beside(path, "-wal.kept")
    if original.exists() and original.stat().st_size:
        kept.unlink(missing_ok=True)
        try:
            os.link(original, kept)
        except OSError:  # FAT has no second names
            _copy_used(outbox_rescue.log(original), kept)
    return kept if kept.exists() else None


def _copy_used(log: Source, copy: Path) -> None:
    """Copy as much of a log as is in use: zeros follow, and a disk may be nearly full."""
    left = log.end
    with log.path.open("rb") as source, copy.open("wb") as target:
        while piece := source.read(_PIECE_BYTES if left is None else min(_PIECE_BYTES, left)):
            target.write(piece)
            left = None if left is None else left - len(piece)


def _forget(kept: Path | None) -> None:
    if kept is not None:
        kept.unlink(missing_ok=True)


def _copied(path: Path, logs: list[Source]) -> list[Source]:
    """Copy the log, which this process is about to write to, unless an interrupted start has done so."""
    copy, half = beside(path, "-wal.copy"), beside(path, "-wal.half")
    if not logs or copy.exists():
        return logs
    try:
        _copy_used(logs[0], half)
        with half.open("rb") as file:
            os.fsync(file.fileno())
    except OSError:  # what did not fit on the disk must not fill it
        half.unlink(missing_ok=True)
        raise
    half.replace(copy)
    _sync_folder(path)
    return [Source(copy, logs[0].end)]


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("PRAGMA synchronous = FULL")
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
