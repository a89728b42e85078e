"""How far back a model with state can hear: after so long nothing of what came before can change its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.shape import HOP_SAMPLES, SHAPE
from edge.signal import HALF_WIDTH_FRAMES

if TYPE_CHECKING:
    from edge.classifier import StepClassifier

HOP_S = HOP_SAMPLES / 25.0


def memory_s(classifier: StepClassifier) -> float:
    """Return how long after the first sample of a segment every answer is as if there had been no gap before it, s.

    A convolution of kernel k and dilation d hears (k - 1) d frames back, those of a chain add up; the walking track
    hears a mean per hop, so its frames are hops. To these come the hop on whose start a segment may have to wait and
    half of the resampler's kernel, which the first frames miss. The lengths are compared with the file's state tensors.
    """
    stem = SHAPE.stem_kernel - 1
    trunk = [(SHAPE.kernel - 1) * dilation for dilation in SHAPE.dilations]
    slow = [(SHAPE.walking_kernel - 1) * dilation for dilation in SHAPE.walking_dilations]
    held = {detail["name"]: int(detail["shape"][1]) for detail, _ in classifier._state}
    if sorted(held.values()) != sorted([stem, *trunk, *slow]):
        raise ValueError(f"{classifier.path} remembers {held}, which converter.shape.SHAPE does not tell; adapt this")
    frames = stem + sum(trunk) + sum(slow) * HOP_SAMPLES
    waiting = HOP_SAMPLES + HALF_WIDTH_FRAMES
    return (frames + waiting) / classifier.manifest.sampling_rate_hz
