"""Many recordings, some of them damaged: the good ones are worked on, the bad ones are named, all of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edge.errors import RecordingError
from edge.recording import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from edge.recording import Recording


class ReadableRecordings:
    """Iterates over (path, recording) of every file that can be read, one held at a time.

    problems: one line for each file that could not, once the iteration is over. A single file, and the last one where
    none could be read, raises its RecordingError instead: then there is nothing to work on.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.problems: dict[Path, str] = {}

    def __iter__(self) -> Iterator[tuple[Path, Recording]]:
        for path in self.paths:
            try:
                recording = load(path)
            except RecordingError as error:
                self.problems[path] = " ".join(str(error).split())
                if len(self.problems) == len(self.paths):
                    self._name(list(self.problems.values())[:-1])
                    raise
                continue
            yield path, recording

    def report(self, command: str) -> int:
        """Name on stderr what was left out; returns the exit code: 0, or 2 if anything was."""
        if not self.problems:
            return 0
        self._name(self.problems.values())
        count = f"{len(self.problems)} of {len(self.paths)} recordings could not be read and were left out"
        print(f"footfall {command}: {count}: mend or move them, then run it again", file=sys.stderr)
        return 2

    @staticmethod
    def _name(problems: Iterable[str]) -> None:
        for problem in problems:
            print(problem, file=sys.stderr)
