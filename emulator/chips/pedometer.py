"""The step counter inside a chip: crude on purpose, so that nobody takes it for Footfall's."""

from __future__ import annotations

import math

from emulator.chips.motion import STANDARD_GRAVITY

RISE_G, FALL_G = 1.15, 1.02
"""A step is an excursion of the acceleration's length above RISE_G that has come from below FALL_G."""
REFRACTORY_S = 0.25


class Pedometer:
    """Counts peaks of the acceleration's length, 16 bits as the registers of all these parts."""

    def __init__(self) -> None:
        self.steps = 0
        self._armed = True
        self._last_s = -math.inf

    def feel(self, acceleration: list[float], at_s: float) -> None:
        """Take one sample; acceleration: m/s²."""
        length_g = math.hypot(*acceleration) / STANDARD_GRAVITY
        if length_g < FALL_G:
            self._armed = True
        elif self._armed and length_g > RISE_G and at_s - self._last_s >= REFRACTORY_S:
            self.steps = (self.steps + 1) & 0xFFFF
            self._armed = False
            self._last_s = at_s
