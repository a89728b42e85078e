"""Sizes of the shipped network and what its heads are asked, apart from Keras."""

from __future__ import annotations

from dataclasses import dataclass

CHANNELS = 3
CLASSES = ("step", "walking")
HOP_SAMPLES = 2
"""Frames per answer of the walking head, and per inference on the device: 80 ms."""
LOOKAHEADS = (3, 5, 6)
"""Frames that the step head may wait, one answer for each; the device uses one."""
LOOKBACKS = (0, 12, 25, 37)
"""Hops that the walking head may wait, one answer for each; the device uses one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the net. dilations of the step trunk count frames, those of the walking track hops."""

    filters: int = 28
    stem_kernel: int = 7
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    walking_filters: int = 24
    walking_kernel: int = 3
    walking_dilations: tuple[int, ...] = (1, 2, 4, 8, 16)
    dropout: float = 0.0


SHAPE = Shape()
