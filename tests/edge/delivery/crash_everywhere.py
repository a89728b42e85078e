"""`make crash`: end the outbox's process at every single statement and write, and let every single write fail.

Three ways:
- statement: the process kills itself before SQLite's n-th statement;
- KILL: strace kills it at the n-th system call that changes a file;
- EIO, ENOSPC: strace lets the n-th such call fail, and the process goes on.
After each, the next start must find the state before or after the operation that was under way, and nothing else.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge.progress import Progress
from tests.edge.delivery import crash
from tests.edge.delivery.crash import SCENARIOS

if TYPE_CHECKING:
    from typing import Any

CHANGING = "pwrite64,ftruncate,fsync,fdatasync,rename,link,unlink,sendfile,copy_file_range"
"""The system calls with which SQLite and we change files; `write` is left to the worker's own words."""
WAYS = ("statement", "KILL", "EIO", "ENOSPC")
TIMEOUT_S = 120.0


class Place(NamedTuple):
    """The n-th call of this name, 1 is the first; strace counts each name for itself."""

    call: str
    number: int


class HarmError(AssertionError):
    """A crash has lost, repeated or invented something."""


def can_trace() -> bool:
    """Whether strace is here and may trace."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-qq", "-o", os.devnull, "true"], check=False).returncode == 0


class Lives:
    """Plays one scenario again and again, each time from a copy of the same beginning."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._begin, reference = folder / "begin", folder / "reference"
        for one in (self._begin, reference):
            one.mkdir(parents=True)
        crash.prepare(SCENARIOS[name], self._begin)
        self.states = crash.expected(name, reference)

    def places(self, way: str) -> list[Place]:
        """Return every place there is to crash at."""
        folder = self._fresh()
        if way == "statement":
            return [Place("", number) for number in range(1, self._forked(folder, None)[1] + 1)]
        log = self._folder / "calls"
        command = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={CHANGING}", *self._worker(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S, env=_environment())
        calls: Counter[str] = Counter()
        found = []
        for call in re.findall(r"^\d+ +(\w+)\(", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE):
            calls[call] += 1
            found.append(Place(call, calls[call]))
        return found

    def crash_at(self, way: str, place: Place) -> None:
        """Live until that place; raises HarmError if the next start does not find what it should."""
        folder = self._fresh()
        finished = self._forked(folder, place.number)[0] if way == "statement" else self._traced(folder, way, place)
        self._judge(folder, finished, died=way in ("statement", "KILL"), where=f"{self.name}: {way} at {place}")
        shutil.rmtree(folder)

    def _judge(self, folder: Path, finished: int, *, died: bool, where: str) -> None:
        found = crash.look(folder / "outbox.db")
        allowed = [*self.states[max(finished, 0) : finished + 2]] if died else [self.states[-1]]
        if finished < 0:  # not even open: what lay there at the start
            allowed = [self.states[0]]
        if found not in allowed:
            raise HarmError(f"{where}, {finished} operations done: found {found}, allowed {allowed}")
        if not died and finished != len(self.states) - 1:
            raise HarmError(f"{where}: gave up after {finished} operations")

    def _fresh(self) -> Path:
        folder = self._folder / "life"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._begin, folder)
        return folder

    def _worker(self, folder: Path) -> list[str]:
        return [sys.executable, "-m", "tests.edge.delivery.crash", self.name, str(folder)]

    def _traced(self, folder: Path, way: str, place: Place) -> int:
        fault = "signal=KILL" if way == "KILL" else f"error={way}"
        inject = f"inject={place.call}:{fault}:when={place.number}"
        command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=none", "-e", inject, *self._worker(folder)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S, env=_environment()
        )
        if "Traceback" in done.stderr:
            raise HarmError(f"{self.name}: {way} at {place}: {done.stderr}")
        return _last(done.stdout)

    def _forked(self, folder: Path, place: int | None) -> tuple[int, int]:
        """Play in a forked child that kills itself before a statement; return operations done, statements seen."""
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy's idle threads; the child never needs them
            child = os.fork()
        if child == 0:
            os.close(reader)
            _live_until(self.name, folder, place, writer)
        os.close(writer)
        with os.fdopen(reader, encoding="ascii") as words:
            text = words.read()
        os.waitpid(child, 0)
        lines = text.splitlines()
        statements = next((int(line[1:]) for line in reversed(lines) if line.startswith("s")), 0)
        return _last("\n".join(line for line in lines if not line.startswith("s"))), statements


def _live_until(name: str, folder: Path, place: int | None, writer: int) -> None:
    """Never returns."""
    seen = 0

    def statement(_text: str) -> None:
        nonlocal seen
        seen += 1
        if seen == place:
            os.kill(os.getpid(), signal.SIGKILL)

    connect: Any = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> Any:
        db = connect(*arguments, **options)
        db.set_trace_callback(statement)
        return db

    status = 1
    try:
        sqlite3.connect = watched
        operations = SCENARIOS[name].operations
        crash.play(folder / "outbox.db", operations, lambda number: _write(writer, f"{number}\n"))
        _write(writer, f"s{seen}\n")
        status = 0
    finally:
        os._exit(status)  # without the cleaning up of the process that was forked


def _write(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode())


def _last(text: str) -> int:
    """Return the number of the last finished operation; -1 where not even the opening was."""
    return int((text.split() or ["-1"])[-1])


def _environment() -> dict[str, str]:
    """No byte code is to be written, and numpy is to start no threads."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}


def sampled(found: list[Place], sample: int | None) -> list[Place]:
    """Return all places, or so many of them, evenly spread."""
    if sample is None or sample >= len(found):
        return found
    return [found[number * len(found) // sample] for number in range(sample)]


def main() -> int:
    """Print a table; exit 1 if any crash did harm."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--sample", type=int, help="so many places of each kind instead of all")
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # what the outbox says of every rescue
    harm: list[str] = []
    print("| scenario | way | places | lost or repeated |\n|---|---|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="footfall-crash-", dir=_fast_folder()) as name:
        for number, scenario in enumerate(SCENARIOS):
            lives = Lives(scenario, Path(name) / str(number))
            for way in WAYS:
                harm += _all_places(lives, way, options.sample)
    for line in harm[:20]:
        print(line, file=sys.stderr)
    print(f"\ncrash: lost_or_repeated={len(harm)}")
    return 1 if harm else 0


def _all_places(lives: Lives, way: str, sample: int | None) -> list[str]:
    harm = []
    chosen = sampled(lives.places(way), sample)
    with Progress(f"{lives.name}, {way}", len(chosen)) as progress:
        for place in chosen:
            try:
                lives.crash_at(way, place)
            except AssertionError as error:
                harm.append(str(error))
            progress.advance(1)
    print(f"| {lives.name} | {way} | {len(chosen)} | {len(harm)} |", flush=True)
    return harm


def _fast_folder() -> str | None:
    """Where no real disk waits: a kill leaves the same bytes there, since the kernel goes on."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


if __name__ == "__main__":
    sys.exit(main())
