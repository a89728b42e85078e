"""How findings look: aligned lines for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from edge.doctor.finding import Finding

COLOURS = {"ok": "\033[32m", "warn": "\033[33m", "fail": "\033[1;31m"}
RESET, DIM = "\033[0m", "\033[2m"
ARROW = " → "
INDENT = 15
NARROWEST = 50


class TextReport:
    """`fail  broker   what → what to do`: one line each in a file or pipe, wrapped and coloured on a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._width = max(NARROWEST, shutil.get_terminal_size((100, 24)).columns - 1)

    def add(self, finding: Finding) -> None:
        """Print one finding."""
        advice = f"{ARROW}{finding.advice}" if finding.advice else ""
        head = f"{finding.level:4s}  {finding.area:8s} "
        text = f"{head}{finding.text}{advice}"
        if self._terminal:
            wrapped = textwrap.wrap(text, self._width, subsequent_indent=" " * INDENT, break_on_hyphens=False)
            text = "\n".join(wrapped)
            text = f"{COLOURS[finding.level]}{finding.level:4s}{RESET}{text[4:]}"
        print(text, file=self._out, flush=True)

    def end(self, counts: dict[str, int]) -> None:
        """Print the last line."""
        told = ", ".join(f"{counts[level]} {level}" for level in ("ok", "warn", "fail"))
        print(f"summary: {told}", file=self._out, flush=True)


class JsonReport:
    """`{"level","area","text","advice"}` a line, then `{"summary":{"ok","warn","fail"}}`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def add(self, finding: Finding) -> None:
        """Print one finding."""
        row = {"level": finding.level, "area": finding.area, "text": finding.text, "advice": finding.advice}
        print(json.dumps(row, ensure_ascii=False), file=self._out, flush=True)

    def end(self, counts: dict[str, int]) -> None:
        """Print the counts."""
        print(json.dumps({"summary": counts}), file=self._out, flush=True)


class Bar:
    """The measurement's progress, on a terminal's stderr only."""

    def __init__(self, seconds: float) -> None:
        from edge.progress import Progress  # noqa: PLC0415  only with a measurement

        self._bar = Progress(f"watching the sensor for {seconds:g} s", 1.0)
        self._share = 0.0

    def __call__(self, share: float) -> None:
        """Show a share of 0..1."""
        self._bar.advance(share - self._share)
        self._share = share
        if share >= 1.0:
            self.clear()

    def clear(self) -> None:
        """Wipe it off."""
        self._bar.__exit__()
        sys.stderr.flush()
