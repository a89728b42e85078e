"""The outbox's file: created, checked, moved aside when damaged, written anew when it was deleted."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
from typing import TYPE_CHECKING, Any

from edge import outbox_rescue
from edge.errors import OutboxError
from edge.outbox_rescue import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

CACHE_KB = 256
PAGE_BYTES = 512
"""A step changes four pages, and SQLite writes whole ones: small pages wear out the card less (docs/outbox.md)."""
LOG_PAGES = 8000
"""SQLite's log is played into the file when it has grown to so many pages, about 4 MB."""
LOG_BYTES = 32 + (LOG_PAGES + 100) * (24 + PAGE_BYTES)  # the commit that reaches the mark goes beyond it
_ROOM = 10
"""The log takes its full size at once only where so many times as much is free."""
_PIECE_BYTES = 2**16
_VERSION = 1
_FLIPPED = 1024
"""A version from here on is a flipped bit in the header; below it a newer Footfall has been here."""
_TABLES = {
    "step": "CREATE TABLE step (\n    total INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, seq INTEGER NOT NULL, "
    "ts_ms INTEGER NOT NULL,\n    stored_s REAL NOT NULL, confidence REAL NOT NULL, cadence_spm REAL\n)",
    "day": "CREATE TABLE day (date TEXT PRIMARY KEY, steps INTEGER NOT NULL) WITHOUT ROWID",
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
}
_MAGIC = b"SQLite format 3\0"
_MAX_ASIDE = 10

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another footfall has it open: stop it first, or set outbox.path",
    sqlite3.SQLITE_FULL: "free some disk space",
    sqlite3.SQLITE_CORRUPT: "restart footfall: it moves a damaged outbox aside",
}
_TRANSIENT = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)
_TRANSIENT_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def connect(path: Path, total: int) -> sqlite3.Connection:
    """Open the file; `total` is where an empty one starts to count."""
    # psow=0: an SD card may garble the whole sector that it writes when the power goes. SQLite then fills up the last
    # sector of every commit, so that no later write touches one that holds a step it has promised.
    db = sqlite3.connect(f"{path.absolute().as_uri()}?psow=0", uri=True, timeout=1.0, isolation_level=None)
    # A flipped bit may make text that is no UTF-8; such a row is found by its value, not by an exception.
    db.text_factory = lambda content: content.decode(errors="replace")
    try:
        # Exclusive: two daemons on one file would send every step twice, and no shared memory is needed.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        _refuse_newer(db, path)
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; an old one keeps its own
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KB}")  # SQLite's own default would grow to 2 MB over the days
        _prepare(db, path, total)
    except BaseException:
        db.close()
        raise
    return db


def _refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    """Leave the file of a newer Footfall as it is: its steps are in a shape that we may not understand."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if not _VERSION < version < _FLIPPED:
        return
    if _TABLES.keys() & {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}:
        raise OutboxError(
            f"{path} was made by a newer Footfall (outbox version {version}, this one knows {_VERSION}): install that "
            "one again to have its steps sent, or set outbox.path to another file, which counts from 0"
        )


def _prepare(db: sqlite3.Connection, path: Path, total: int) -> None:
    """Create the tables in an empty file; refuse a foreign or a damaged one."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = dict(db.execute("SELECT name, sql FROM sqlite_schema").fetchall())
    if version == 0 and not tables:
        db.executescript(f"BEGIN; {'; '.join(_TABLES.values())}; PRAGMA user_version = {_VERSION};")
        db.execute("INSERT INTO meta VALUES (?, ?)", (TOTAL, f"{total:012d}"))
        db.execute("COMMIT")
        return
    known = _TABLES.keys() & tables.keys()
    if not known or (version != _VERSION and known != _TABLES.keys()):
        wanted = f"found version {version}, wanted {_VERSION}"
        raise OutboxError(f"{path} is no outbox of this Footfall ({wanted}): set outbox.path to another file")
    if not _TABLES.items() <= tables.items():
        raise _Damaged("its tables are not as they were made")
    if (found := str(db.execute("PRAGMA quick_check(1)").fetchone()[0])) != "ok":
        raise _Damaged(" ".join(found.split()))
    if version != _VERSION:  # all the rest is ours and sound: a bit of the header has flipped
        log.warning("outbox %s calls itself version %d but holds version %d: corrected", path, version, _VERSION)
        db.execute(f"PRAGMA user_version = {_VERSION}")


class _Damaged(sqlite3.DatabaseError):
    """The file is inconsistent, as SQLite's own check or ours found."""


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether an error is about what the file holds, not about the way to it."""
    return isinstance(error, _Damaged) or _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def was_an_outbox(path: Path) -> bool:
    """Whether the file begins as a database, or holds nothing but zeros, as a power cut may leave it."""
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    return head == _MAGIC or outbox_rescue.is_blank(path)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to the outbox: `-wal` is SQLite's log."""
    return path.with_name(path.name + suffix)


def reserve_log(path: Path) -> None:
    """Let SQLite's log have its full size from the start, filled with zeros, which SQLite takes for no log.

    A commit that makes a file longer waits for the file system's journal too: twice as often, and it wears out the
    card. Does nothing where there is little room or it does not succeed; the next commit tells what is wrong.
    """
    with contextlib.suppress(OSError):
        disk = os.statvfs(path.parent)
        if disk.f_bavail * disk.f_frsize < _ROOM * LOG_BYTES:
            return
        # SQLite's locks are on the database: closing another descriptor of its log drops none.
        with beside(path, "-wal").open("r+b", buffering=0) as file:
            before = size = file.seek(0, os.SEEK_END)
            try:
                while size < LOG_BYTES:
                    size += file.write(bytes(min(_PIECE_BYTES, LOG_BYTES - size)))
                os.fsync(file.fileno())
            except OSError:  # a quota, which the disk's free space does not show
                file.truncate(before)
                raise


def asides(path: Path) -> list[Path]:
    """Return the names for what is moved aside, oldest first; the last one is used again and again."""
    return [beside(path, ".damaged" + (f".{number}" if number else "")) for number in range(_MAX_ASIDE)]


def free_aside(path: Path) -> Path:
    """Return the name under which to keep a damaged file: never one that is taken, up to a bound."""
    names = asides(path)
    free = (one for one in names if not one.exists() and not beside(one, "-wal").exists())
    return next(free, names[-1])


def move_aside(path: Path) -> Path:
    """Rename the file and its log; return the new name."""
    aside = free_aside(path)
    for suffix in ("-wal", ""):  # the log first: whatever stays behind must not be replayed into the new file
        if beside(path, suffix).exists():
            os.replace(beside(path, suffix), beside(aside, suffix))  # noqa: PTH105  says that it overwrites
    return aside


def identity(path: Path) -> tuple[int, int] | None:
    """Return what stays the same while a path names the same file; None where there is none; raises OSError."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def rewrite(db: sqlite3.Connection, path: Path, *, total: int, replaced: bool) -> sqlite3.Connection:
    """Write a database, whose file somebody has deleted or replaced while it was open, to its path again.

    replaced: another file stands there now; it is moved aside, unless another process uses it. If even the open
    database cannot be read any more, an empty one that starts at `total` takes its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if replaced:
        _refuse_in_use(path)
    fresh = beside(path, ".new")
    fresh.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(fresh)) as copy:
            db.backup(copy)
    except sqlite3.DatabaseError as error:
        if _code(error) in _TRANSIENT:
            raise
        fresh.unlink(missing_ok=True)
    if replaced:
        log.error("outbox %s: the file that has taken its place is kept as %s", path, move_aside(path))
    db.close()  # before the new one is there: it deletes the log that goes by its name
    if fresh.exists():
        fresh.replace(path)
    fresh_db = connect(path, total)
    reserve_log(path)
    return fresh_db


def _refuse_in_use(path: Path) -> None:
    """Raise sqlite3.OperationalError (SQLITE_BUSY) if another process has this file open as its outbox."""
    with contextlib.closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as probe:
        try:
            probe.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if _code(error) == sqlite3.SQLITE_BUSY:
                raise


def _code(error: sqlite3.Error) -> int:
    code: Any = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF  # the low byte is the primary code


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into an OutboxError."""
    try:
        yield
    except OutboxError:
        raise
    except sqlite3.Error as error:
        code = _code(error)
        remedy = _REMEDIES.get(code, "check the disk, and that outbox.path is a file that this user may write")
        raise OutboxError(f"outbox {path}: {error}; {remedy}", transient=code in _TRANSIENT) from error
    except OSError as error:
        message = f"outbox {path}: {error.strerror}; set outbox.path to a file this user may write"
        raise OutboxError(message, transient=error.errno in _TRANSIENT_ERRNO) from error
