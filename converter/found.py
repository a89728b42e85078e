"""What a network in training says of a recording, and the steps that the device's detector would make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from converter.dataset import SAMPLING_RATE_HZ
from converter.shape import HOP_SAMPLES, LOOKAHEADS, LOOKBACKS
from edge.detector import StepDetector
from edge.types import Window

if TYPE_CHECKING:
    from edge.bouts import Gate
    from edge.types import FloatArray, TimeArray


class Answers(NamedTuple):
    """What a net says of a whole track and the rest after it: step [n, LOOKAHEADS], walking [n / HOP, LOOKBACKS]."""

    step: FloatArray
    walking: FloatArray


@dataclass(frozen=True, slots=True)
class Decision:
    """How answers become steps. lookahead: frames, of LOOKAHEADS; lookback: hops, of LOOKBACKS; gate: or none."""

    threshold: float
    refractory_s: float
    gate: Gate | None
    lookahead: int
    lookback: int


def steps_s(said: Answers, decision: Decision) -> TimeArray:
    """Return the times of the steps that the device's detector finds in the answers."""
    walking_said = said.walking[:, LOOKBACKS.index(decision.lookback)]
    if decision.gate is not None and walking_said.max() < decision.gate.on:
        return np.empty(0)
    detector = StepDetector(
        period_s=1 / SAMPLING_RATE_HZ,
        lookahead_s=decision.lookahead / SAMPLING_RATE_HZ,
        threshold=decision.threshold,
        refractory_s=decision.refractory_s,
        gate=decision.gate,
    )
    step = said.step[:, LOOKAHEADS.index(decision.lookahead)]
    nothing = np.empty((0, 0), np.float32)
    found: list[float] = []
    for hop, walking in enumerate(walking_said.tolist()):
        newest_s = (hop * HOP_SAMPLES + HOP_SAMPLES - 1) / SAMPLING_RATE_HZ
        probability = step[hop * HOP_SAMPLES : (hop + 1) * HOP_SAMPLES]
        found += [event.time_s for event in detector.push(Window(newest_s, newest_s, nothing), probability, walking)]
    return np.array(found)
