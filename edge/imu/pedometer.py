"""The step count of a pedometer inside the sensor: a total out of a 16-bit counter that wraps and is reset."""

from __future__ import annotations

COUNTER_SIZE = 1 << 16
POLL_S = 5.0
"""As often as it can be published."""
FASTEST_HZ = 5.0
SURPLUS_STEPS = 20
"""Chips hold the first steps of a walk back until they are sure of it, then count them at once: ST 10, Bosch 4 to 7."""


class HardwareTotal:
    """Steps that the chip counted since this object was made; never goes down.

    total: None until a chip with a pedometer has answered. A reading that nobody can have walked since the last one is
    taken for a bus error; if the next one confirms it, counting goes on from there and what lay between is not counted.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self._last = 0
        self._read_s = 0.0
        self._asked_s = -POLL_S
        self._suspect: int | None = None

    def attach(self, now_s: float) -> None:
        """Take note that a chip has just been set up: it counts from 0, and may be another one than before."""
        self._last, self._read_s, self._suspect = 0, now_s, None

    def due(self, now_s: float) -> bool:
        """Whether it is time to ask again; asking counts, whether or not it works."""
        if now_s - self._asked_s < POLL_S:
            return False
        self._asked_s = now_s
        return True

    def feed(self, count: int, now_s: float) -> None:
        """Take the chip's counter, as read at this instant."""
        most = FASTEST_HZ * (now_s - self._read_s) + SURPLUS_STEPS
        steps = (count - self._last) % COUNTER_SIZE
        if steps > most and count <= most:
            steps = count  # it was reset
        if steps > most:
            confirmed = self._suspect is not None and (count - self._suspect) % COUNTER_SIZE <= most
            if not confirmed:
                self._suspect = count
                return
            steps = 0
        self.total = (self.total or 0) + steps
        self._last, self._read_s, self._suspect = count, now_s, None
