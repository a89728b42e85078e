"""The outbox's disk: right to write, room, kind of file system, and soundness of the file.

The file itself is never opened by SQLite: even a reader would create files beside it, take locks, or fail under a
daemon at work. A copy of it and its log is looked at instead, taken while nobody wrote.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, fail, ok, read_text, warn
from edge.outbox_file import beside
from edge.outbox_rescue import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.doctor.finding import Context

AREA = "disk"
LIMIT_S = 60.0
FREE_FAIL_BYTES, FREE_WARN_BYTES = 10e6, 100e6
VOLATILE = ("tmpfs", "ramfs", "overlay")
NO_LOCKS = ("nfs", "nfs4", "cifs", "smb3", "vfat", "exfat", "9p")
COPY_TRIES = 3
MOST_COPIED_BYTES = 128 * 2**20


def check(context: Context) -> Iterator[Finding]:
    """Look at the outbox and where it lies."""
    path = context.config.outbox.path.absolute()
    folder = path.parent
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    yield from _writable(path, existing)
    yield from _space(existing)
    yield from _file_system(existing, context.root)
    if path.exists():
        yield _content(path)


def _writable(path: Path, existing: Path) -> Iterator[Finding]:
    if existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        advice = (
            "the file system is mounted read-only: look at `dmesg` for errors of the card, then remount it"
            if read_only
            else "run doctor as the daemon's user, or set outbox.path to a file this user may write"
        )
        yield fail(AREA, f"{existing} cannot be written by this user", advice)
    elif not existing.is_dir():
        yield fail(AREA, f"{existing} is not a directory", "set outbox.path to a file in a directory")
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield fail(
            AREA, f"the outbox {path} belongs to another user", f"run `ls -l {path}`; run doctor as the daemon's user"
        )
    elif path.is_dir():
        yield fail(AREA, f"outbox.path {path} is a directory", "set outbox.path to a file")
    else:
        state = "exists" if path.exists() else "will be created"
        yield ok(AREA, f"the outbox {path} {state} and can be written")


def _space(existing: Path) -> Iterator[Finding]:
    status = os.statvfs(existing)
    free_bytes = status.f_bavail * status.f_frsize
    text = f"{free_bytes / 1e6:.0f} MB free on the outbox's file system"
    if free_bytes < FREE_FAIL_BYTES:
        yield fail(AREA, text, "free some space: `sudo journalctl --vacuum-size=50M`, `sudo apt-get clean`")
    elif free_bytes < FREE_WARN_BYTES:
        yield warn(AREA, text, "free some space before it runs out: `sudo apt-get clean`")
    else:
        yield ok(AREA, text)
    if status.f_files and not status.f_favail:
        yield fail(AREA, "the outbox's file system has no inodes left", "delete some of its many small files")


def _file_system(existing: Path, root: Path) -> Iterator[Finding]:
    kind = file_system_of(existing, read_text(root / "proc/self/mounts") or "")
    if kind in VOLATILE:
        yield warn(
            AREA,
            f"the outbox lies on {kind}: what waits there, and the lifetime total, may not survive a power cut",
            "set outbox.path to a file on the card (ext4), such as /var/lib/footfall/outbox.db",
        )
    elif kind in NO_LOCKS:
        yield warn(
            AREA,
            f"the outbox lies on {kind}, where locks and power-safe writes cannot be relied on",
            "set outbox.path to a file on a local ext4 file system",
        )
    elif kind:
        yield ok(AREA, f"the outbox's file system is {kind}")


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system a path is on, by the lines of /proc/self/mounts; empty if unknown."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if path.resolve().is_relative_to(point) and len(point) >= best:
            best, kind = len(point), fields[2]
    return kind


def _content(path: Path) -> Finding:
    try:
        with tempfile.TemporaryDirectory(prefix="footfall-doctor-") as folder:
            copy = _copied(path, Path(folder))
            return _sound(path, copy) if isinstance(copy, Path) else copy
    except OSError as error:
        return warn(AREA, f"the outbox could not be checked: {error.strerror}", "free some space in /tmp, run it again")


def _copied(path: Path, folder: Path) -> Path | Finding:
    """Copy the file and its log while nobody writes to them; a finding where that is not possible."""
    log = beside(path, "-wal")
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    if size > MOST_COPIED_BYTES or size > shutil.disk_usage(folder).free / 2:
        return ok(AREA, f"the outbox has {size / 1e6:.0f} MB: too large to be checked beside a running daemon")
    for _ in range(COPY_TRIES):
        before = _state(path), _state(log)
        copy = Path(shutil.copyfile(path, folder / "outbox.db"))
        beside(copy, "-wal").unlink(missing_ok=True)
        if log.exists():
            shutil.copyfile(log, beside(copy, "-wal"))
        if (_state(path), _state(log)) == before:
            return copy
        time.sleep(0.3)
    return ok(AREA, "the daemon is writing to the outbox all the time: it was not checked")


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _sound(path: Path, copy: Path) -> Finding:
    try:
        with closing(sqlite3.connect(copy)) as db:
            verdict = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
            waiting = int(db.execute("SELECT count(*) FROM step").fetchone()[0])
            found = db.execute("SELECT value FROM meta WHERE name = ?", (TOTAL,)).fetchone()
    except sqlite3.DatabaseError as error:
        verdict, waiting, found = str(error), 0, None
    if verdict != "ok":
        return fail(
            AREA,
            f"the outbox {path} is damaged ({' '.join(verdict.split())})",
            "restart the daemon: it moves a damaged file aside and carries the total on; then check the card",
        )
    total = f"lifetime total {int(found[0])}" if found else "no lifetime total"
    return ok(AREA, f"the outbox is sound: {waiting} steps wait, {total}")
