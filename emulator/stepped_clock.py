"""The daemon with a wall clock that jumps by an hour at SIGUSR1, as if NTP or a user had set it.

The machine's own clock is left alone, others need it; time.time() of this process is what jumps, which is all that the
daemon ever asks for the date.
"""

from __future__ import annotations

import signal
import sys
import time

JUMP_S = 3600.0

_offset_s = 0.0
_real = time.time


def _jumped() -> float:
    return _real() + _offset_s


def _jump(*_: object) -> None:
    global _offset_s  # noqa: PLW0603  a clock is global
    _offset_s += JUMP_S


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _jump)
    time.time = _jumped
    from edge.__main__ import main

    sys.exit(main())
