"""An emulated I2C bus with emulated sensors on it, so that the whole device runs on any Linux machine."""

from __future__ import annotations

from edge.errors import FootfallError


class EmulatorError(FootfallError, OSError):
    """What was asked for cannot be emulated on this machine."""
