"""A progress bar for a terminal, silent everywhere else."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 30
REFRESH_S = 0.1
SHOW_AFTER_S = 1.0


class Progress:
    """Draws `label ━━━━──── 40 %` on stderr once the work has taken a second; use it as a context manager."""

    def __init__(
        self, label: str, total: float, *, enabled: bool = True, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._total, self._now = label, max(total, 1e-9), now
        self._done = 0.0
        self._show_s = now() + SHOW_AFTER_S
        self._active = enabled and sys.stderr.isatty()
        self._drawn = False

    def advance(self, amount: float) -> None:
        """Add to what is done; redraws at most ten times a second."""
        self._done += amount
        if self._active and self._now() >= self._show_s:
            self._show_s = self._now() + REFRESH_S
            self._draw()

    def _draw(self) -> None:
        share = min(1.0, self._done / self._total)
        bar = "━" * round(WIDTH * share) + "─" * (WIDTH - round(WIDTH * share))
        sys.stderr.write(f"\r{self._label[:40]:40s} {bar} {100 * share:3.0f} %")
        sys.stderr.flush()
        self._drawn = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            sys.stderr.write("\r\033[K")
