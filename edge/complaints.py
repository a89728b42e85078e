"""Warnings about what goes on and on: said once, and then ever more rarely."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0
_MOST_KINDS = 64  # reasons hold texts from outside: a broker that invents new ones must not fill the memory


@dataclass(slots=True)
class _Said:
    due_s: float
    pause_s: float
    unsaid: int = 0


class Complaints:
    """Logs a complaint when it is new, and again after 1 min, 2 min, 4 min … up to once an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, _Said] = {}

    def log(self, message: str, *, key: str | None = None) -> bool:
        """Log the message as a warning, unless it is too soon to repeat it; return whether it was logged.

        key: what makes two messages the same complaint, the whole text by default.
        """
        now_s = self._clock()
        said = self._said.get(key or message)
        if said is None:
            if len(self._said) >= _MOST_KINDS:
                self._said.pop(next(iter(self._said)))
            self._said[key or message] = _Said(now_s + _FIRST_PAUSE_S, 2.0 * _FIRST_PAUSE_S)
            log.warning("%s", message)
            return True
        if now_s < said.due_s:
            said.unsaid += 1
            return False
        log.warning("%s%s", message, f" ({said.unsaid} more times since it was said last)" if said.unsaid else "")
        said.due_s, said.pause_s, said.unsaid = now_s + said.pause_s, min(2.0 * said.pause_s, _LONGEST_PAUSE_S), 0
        return True

    def clear(self) -> None:
        """Start over: the trouble has passed."""
        self._said.clear()
