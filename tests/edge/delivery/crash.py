"""One life of an outbox, told in numbered operations, that can be cut off anywhere: what `make crash` runs.

    python -m tests.edge.delivery.crash SCENARIO FOLDER

plays a scenario in FOLDER and writes the number of each finished operation to standard output. It is started under
strace, which kills it or lets a system call fail; or it is forked, and kills itself at a statement.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edge import outbox_file
from edge.errors import OutboxError
from edge.outbox import Outbox
from edge.types import StepEvent

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = StepEvent(time_s=1.0, emitted_s=1.2, confidence=0.9, cadence_spm=104.0)
NOON_S = 1_795_435_200.0
MAX_BYTES = 28 * 512
"""So small that the size bound drops steps within a scenario."""
LOG_PAGES = 40
"""SQLite plays its log into the file so often that this happens within a scenario, too."""
MOST_TRIES = 5

Operation = tuple[str, int]
"""("append", steps in one turn), ("acknowledge", how many of the oldest), ("reopen", 0)."""

_TURNS: list[Operation] = [
    *[("append", 1), ("append", 3), ("acknowledge", 2), ("append", 2), ("acknowledge", 1)] * 4,
    ("reopen", 0),
    *[("append", 40), ("append", 1), ("acknowledge", 30), ("append", 60), ("append", 2)],
    ("reopen", 0),
    *[("acknowledge", 100), ("append", 1), ("append", 2)],
]


@dataclass(frozen=True)
class State:
    """What an outbox holds. waiting: the lifetime totals that wait, in order."""

    total: int
    dropped: int
    today: int
    waiting: tuple[int, ...]


def _damage_nothing(_path: Path) -> None:
    """Leave everything as it is."""


def _damage_file(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[outbox_file.PAGE_BYTES * 5] ^= 0xFF
    path.write_bytes(content)


def _damage_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    content = bytearray(log.read_bytes())
    content[len(content) // 3] ^= 1
    log.write_bytes(content)


@dataclass(frozen=True)
class Scenario:
    """What lies there at the start, and what is then done."""

    before: tuple[Operation, ...]
    leave_log: bool
    damage: Callable[[Path], None]
    operations: tuple[Operation, ...]


SCENARIOS = {
    "use": Scenario((), False, _damage_nothing, tuple(_TURNS)),
    "rescue the file": Scenario((("append", 30),), False, _damage_file, (("append", 1), ("acknowledge", 3))),
    "rescue the log": Scenario(
        (("append", 8), ("reopen", 0), *[("append", 1)] * 12), True, _damage_log, (("append", 1), ("acknowledge", 3))
    ),
}


def opened(path: Path) -> Outbox:
    """Open the outbox of a scenario."""
    outbox = Outbox(path, max_age_h=720, max_bytes=MAX_BYTES, clock=lambda: 1.0)
    outbox._db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    return outbox


def look(path: Path) -> State:
    """Open the outbox as the next start would; say what is in it."""
    outbox = opened(path)
    rows = outbox.pending(10**6)
    names = {(row.boot_id, row.seq) for row in rows}
    assert len(names) == len(rows) == outbox.depth, "a name was given twice"
    assert all(row.boot_id != outbox.boot_id for row in rows), "this start has the boot_id of an earlier one"
    state = State(outbox.total, outbox.dropped, outbox.today(NOON_S), tuple(row.total for row in rows))
    outbox.close()
    return state


def prepare(scenario: Scenario, folder: Path) -> Path:
    """Put what lies there at the start into the folder; return the outbox's path."""
    path = folder / "outbox.db"
    if not scenario.before:
        return path
    outbox = opened(path)
    for operation in scenario.before:
        outbox = apply(outbox, operation)
    names = [name for name in ("outbox.db", "outbox.db-wal") if (folder / name).exists()]
    left = {name: (folder / name).read_bytes() for name in names}  # as a kill would leave them
    outbox.close()
    if scenario.leave_log:
        for name, content in left.items():
            (folder / name).write_bytes(content)
    scenario.damage(path)
    return path


def apply(outbox: Outbox, operation: Operation) -> Outbox:
    """Do one operation; returns the outbox to go on with."""
    kind, count = operation
    if kind == "append":
        outbox.append_all([(STEP, NOON_S)] * count)
    elif kind == "acknowledge":
        outbox.acknowledge(outbox.pending(count))
    else:
        outbox.close()
        return opened(outbox.path)
    return outbox


def play(path: Path, operations: tuple[Operation, ...], finished: Callable[[int], None]) -> None:
    """Do all operations; what fails is done again, as the daemon does, or after a restart, as systemd does."""
    outbox = _insist(lambda: opened(path))
    finished(0)
    for number, operation in enumerate(operations, start=1):
        outbox = _insist_on(outbox, operation)
        finished(number)
    outbox.close()
    finished(len(operations) + 1)


def _insist(attempt: Callable[[], Outbox]) -> Outbox:
    for _ in range(MOST_TRIES - 1):
        try:
            return attempt()
        except OutboxError:
            continue
    return attempt()


def _insist_on(outbox: Outbox, operation: Operation) -> Outbox:
    for _ in range(MOST_TRIES):
        try:
            return apply(outbox, operation)
        except OutboxError as error:
            if not error.transient or operation[0] == "reopen":
                if operation[0] == "reopen":
                    operation = ("append", 0)
                path = outbox.path
                outbox.close()
                outbox = _insist(lambda path=path: opened(path))  # type: ignore[misc]
    raise AssertionError(f"{operation} does not work")


@cache
def expected(name: str, base: Path) -> tuple[State, ...]:
    """Return the state after every operation of an undisturbed life; the first is that after the opening."""
    scenario = SCENARIOS[name]
    states: list[State] = []
    path = prepare(scenario, base)
    outbox = opened(path)

    def note() -> None:
        waiting = tuple(row.total for row in outbox.pending(10**6))
        states.append(State(outbox.total, outbox.dropped, outbox.today(NOON_S), waiting))

    note()
    for operation in scenario.operations:
        outbox = apply(outbox, operation)
        note()
    outbox.close()
    return (*states, states[-1])


def main(name: str, folder: Path) -> int:
    """Play a scenario that `prepare` has prepared."""
    play(folder / "outbox.db", SCENARIOS[name].operations, lambda number: _say(f"{number}\n"))
    return 0


def _say(line: str) -> None:
    os.write(sys.stdout.fileno(), line.encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
