"""Training windows: drawn, warped, spliced and disturbed, with a step heat-map and a walking label as targets.

About 40 % of the windows show walking with labelled steps, 20 % walking without, and the rest people who do not walk.
Chunks of the latter that the net gets wrong are drawn more often; some walks start or end in one of them, as walks do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.dataset import NOBODY, SAMPLING_RATE_HZ, SOMEBODY, UNKNOWN, Track
from converter.rotation import random_rotations
from converter.shape import HOP_SAMPLES, LOOKAHEADS, LOOKBACKS
from converter.vibration import shaken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from edge.types import FloatArray, TimeArray

    IntArray = npt.NDArray[np.intp]
    BoolArray = npt.NDArray[np.bool_]
    LabelArray = npt.NDArray[np.int8]

SHARES: dict[tuple[str, str], float] = {
    ("awinda_hand", "steps"): 0.20,
    ("oxford_opt", "steps"): 0.22,
    ("ipol_gait", "steps"): 0.12,
    ("spsw_watch", "walking"): 0.10,
    ("spsw_phone", "walking"): 0.04,
    ("sisfall_waist", "walking"): 0.06,
    ("wisdm_watch", "nobody"): 0.24,
    ("wisdm_phone", "nobody"): 0.08,
    ("sisfall_waist", "nobody"): 0.08,
}
"""Share of the windows drawn from each data set and kind, of those that are there."""
HEAT_SD_S = 0.06
FAR_S = 9.0
REST_FRAMES = 75
"""A recording that ends goes on for the device as if it rested (edge.pipeline); so does it here."""
UNSURE_FRAMES = 12
"""How far around a splice or an end nobody can say whether that is walking."""
WARM_UP_FRAMES = 10
WARM_UP_HOPS = 12
"""What comes out in the first instants after a start is not asked for."""
BOUT_END_WEIGHT = 3.0
"""The first and the last step of a walk are weak and rare: without more weight the net leaves them out."""
BOUT_GAP_S = 2.0
STEP_REACH_S = 0.15
"""How far around such a step its weight reaches."""
CHUNK_FRAMES = 250
MAX_WARP = 1.2
PACED_SHARE = 0.4
PACES = (1 / 2.2, 1.9)
SLOW_EXPONENT = (0.0, 2.0)
FAST_EXPONENT = (0.5, 2.5)
"""Some walks go much slower or faster, their motion as a power of the pace: shuffling, hurrying, running."""
WEAK_SHARE = 0.1
WEAKEST = 0.3
"""Some walkers move little: a soft floor, a thick bag, a child."""
SHAKEN_SHARE = 0.25
"""So many of those who do not walk are shaken by a vehicle, a machine or their own hand."""
FULL_SCALE_G = 4.0
"""What the int8 input can say; running goes beyond it."""
SPLICED_SHARE = 0.3
SCALE_SD = 0.12
GAIN_SD = 0.3
"""Of the motion without gravity: other people and other places on the body move more or less."""
MAX_NOISE_G = 0.02
BIAS_SD_G = 0.02
MINING_RATE = 0.5
EASY_LOSS, TYPICAL_LOSS = 0.03, 0.15
"""A chunk without loss keeps a weight of EASY_LOSS / TYPICAL_LOSS, one with a typical loss a little over 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """inputs: [b, n, 3] g. step, step_weight: [b, n, LOOKAHEADS]; walking, walking_weight: [b, hops, LOOKBACKS]."""

    inputs: FloatArray
    step: FloatArray
    step_weight: FloatArray
    walking: FloatArray
    walking_weight: FloatArray
    pool: IntArray
    chunk: IntArray
    shaken: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """frames: [b, n, 3] g; for each frame seconds to the nearest step, whether steps are known, and who walks."""

    frames: FloatArray
    distance_s: TimeArray
    known: FloatArray
    walking: LabelArray


class Pool:
    """Tracks of one data set and kind end to end, with time to the steps around each frame, and where labels hold."""

    def __init__(self, tracks: Sequence[Track], shift_s: Mapping[str, float]) -> None:
        parts = [_rested(track, shift_s.get(track.placement, 0.0)) for track in tracks]
        lengths = np.array([len(part[0]) for part in parts])
        self.frames, self.since_s, self.until_s, self.known, self.walking = (
            np.concatenate([part[i] for part in parts]) for i in range(5)
        )
        ends = np.cumsum(lengths)
        chunks = [
            (chunk, end - length, end)
            for length, end in zip(lengths, ends, strict=True)
            for chunk in range(end - length, end, CHUNK_FRAMES)
        ]
        self.chunk_start, self.track_start, self.track_end = np.array(chunks).T
        self.chunk_weight = np.ones(len(chunks))
        self.mined = tracks[0].kind == "nobody"

    def draw(self, count: int, rng: np.random.Generator) -> IntArray:
        """Return chunk numbers, those with a high loss more often."""
        share = self.chunk_weight / self.chunk_weight.sum()
        drawn: IntArray = rng.choice(len(share), size=count, p=share)
        return drawn

    def remember(self, chunk: IntArray, loss: FloatArray) -> None:
        """Let the loss of windows of non-walkers move the weight of their chunks."""
        if self.mined:
            kept = (1 - MINING_RATE) * self.chunk_weight[chunk]
            self.chunk_weight[chunk] = kept + MINING_RATE * (EASY_LOSS + loss) / TYPICAL_LOSS


class Sampler:
    """Draws batches from pools of tracks, the same ones for the same seed.

    window_frames: length of a window, whole hops. shift_s: seconds to add to the labels of each placement.
    """

    def __init__(
        self, tracks: Sequence[Track], *, window_frames: int, rng: np.random.Generator, shift_s: Mapping[str, float]
    ) -> None:
        self._rng = rng
        self._window_frames = window_frames
        members = {key: [track for track in tracks if (track.dataset, track.kind) == key] for key in SHARES}
        there = [key for key, found in members.items() if found]
        self._pools = [Pool(members[key], shift_s) for key in there]
        self._negatives = [number for number, pool in enumerate(self._pools) if pool.mined]
        share = np.array([SHARES[key] for key in there])
        self._share = share / share.sum()

    def batch(self, size: int) -> Batch:
        """Return the next batch."""
        rng = self._rng
        pool = np.sort(rng.choice(len(self._pools), size=size, p=self._share))
        walks = ~np.isin(pool, self._negatives)
        warp, gain = self._paces(walks)
        windows, chunk = self._windows(pool, warp)
        self._splice(pool, warp, windows)
        shake = ~walks & (rng.random(size) < SHAKEN_SHARE)
        if shake.any():
            windows.frames[shake] = shaken(windows.frames[shake], rng)
        step, step_weight = _step_targets(windows)
        walking, walking_weight = _walking_targets(windows)
        inputs = _disturbed(windows.frames, gain, rng)
        return Batch(inputs, step, step_weight, walking, walking_weight, pool, chunk, shake)

    def remember(self, batch: Batch, loss: FloatArray) -> None:
        """Take note of the mean loss [b] of each window, to draw hard ones more often."""
        for number in self._negatives:
            here = (batch.pool == number) & ~batch.shaken
            self._pools[number].remember(batch.chunk[here], loss[here])

    def _paces(self, walks: BoolArray) -> tuple[TimeArray, TimeArray]:
        """Return for each window how much faster it goes than recorded, and how much stronger its motion is."""
        rng, size = self._rng, len(walks)
        warp = np.exp(rng.uniform(-np.log(MAX_WARP), np.log(MAX_WARP), size))
        gain = np.exp(rng.normal(0, GAIN_SD, size))
        paced = walks & (rng.random(size) < PACED_SHARE)
        slowest, fastest = PACES
        warp[paced] = np.exp(rng.uniform(np.log(slowest), np.log(fastest), int(paced.sum())))
        exponent = np.where(warp < 1, rng.uniform(*SLOW_EXPONENT, size), rng.uniform(*FAST_EXPONENT, size))
        gain[paced] *= (warp**exponent)[paced]
        weak = walks & (rng.random(size) < WEAK_SHARE)
        gain[weak] *= np.exp(rng.uniform(np.log(WEAKEST), 0, int(weak.sum())))
        return warp, gain

    def _windows(self, pool: IntArray, warp: TimeArray) -> tuple[Windows, IntArray]:
        chunk = np.empty(len(pool), np.intp)
        parts = []
        for number in np.unique(pool):
            here = pool == number
            chunk[here] = self._pools[number].draw(int(here.sum()), self._rng)
            parts.append(self._cut(self._pools[number], chunk[here], warp[here]))
        return _joined(parts), chunk

    def _cut(self, pool: Pool, chunk: IntArray, warp: TimeArray) -> Windows:
        """Return windows around chunks, at a warped pace."""
        span = self._window_frames * warp
        first, end = pool.track_start[chunk], pool.track_end[chunk]
        start = pool.chunk_start[chunk] + self._rng.uniform(-0.5, 0.5, len(chunk)) * CHUNK_FRAMES
        start = np.clip(start, first, np.maximum(end - span, first))
        at = start[:, None] + np.arange(self._window_frames) * warp[:, None]
        inside = at <= end[:, None] - 1
        at = np.minimum(at, end[:, None] - 1.001)
        index = at.astype(np.intp)
        share = at - index
        frames = pool.frames[index] * (1 - share[..., None]) + pool.frames[index + 1] * share[..., None]
        past_s = pool.since_s[index] + share / SAMPLING_RATE_HZ
        ahead_s = pool.until_s[index] - share / SAMPLING_RATE_HZ
        distance_s = np.minimum(np.abs(past_s), np.abs(ahead_s)) / warp[:, None]
        walking = np.where(inside, pool.walking[index], np.int8(UNKNOWN))
        return Windows(frames, distance_s, pool.known[index] * inside, walking)

    def _splice(self, pool: IntArray, warp: TimeArray, windows: Windows) -> None:
        """Overwrite the start or the end of some walks with people who do not walk."""
        rng = self._rng
        if not self._negatives:
            return
        walkers = np.flatnonzero(~np.isin(pool, self._negatives))
        for window in walkers[rng.random(len(walkers)) < SPLICED_SHARE]:
            other = self._pools[rng.choice(self._negatives)]
            part = self._cut(other, other.draw(1, rng), warp[window : window + 1])
            cut = int(rng.uniform(0.3, 0.85) * self._window_frames)
            where = slice(0, cut) if rng.random() < 0.7 else slice(cut, self._window_frames)
            windows.frames[window, where] = part.frames[0, where]
            windows.distance_s[window, where] = part.distance_s[0, where]
            windows.known[window, where] = part.known[0, where]
            windows.walking[window, where] = part.walking[0, where]
            around = slice(max(0, cut - UNSURE_FRAMES), cut + UNSURE_FRAMES)
            windows.known[window, around] = 0
            windows.walking[window, around] = UNKNOWN


def _joined(parts: Sequence[Windows]) -> Windows:
    return Windows(
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.distance_s for part in parts]),
        np.concatenate([part.known for part in parts]),
        np.concatenate([part.walking for part in parts]),
    )


def _step_targets(windows: Windows) -> tuple[FloatArray, FloatArray]:
    """Return heat-map and weight [b, n, LOOKAHEADS]: at frame f the answer is about frame f minus the look-ahead."""
    heat = np.exp(-0.5 * (windows.distance_s / HEAT_SD_S) ** 2)
    frame = np.arange(heat.shape[1])[:, None] - np.asarray(LOOKAHEADS)
    asked = np.maximum(frame, 0)
    target, known = heat[:, asked], windows.known[:, asked] * (frame >= WARM_UP_FRAMES)
    return target.astype(np.float32), (known * (1 + 2 * target)).astype(np.float32)


def _walking_targets(windows: Windows) -> tuple[FloatArray, FloatArray]:
    """Return target and weight [b, hops, LOOKBACKS]: at hop h the answer is about hop h minus the look-back."""
    newest = windows.walking[:, HOP_SAMPLES - 1 :: HOP_SAMPLES]
    hop = np.arange(newest.shape[1])[:, None] - np.asarray(LOOKBACKS)
    asked = newest[:, np.maximum(hop, 0)]
    known = (asked != UNKNOWN) & (hop >= 0) & (np.arange(newest.shape[1])[:, None] >= WARM_UP_HOPS)
    return (asked == SOMEBODY).astype(np.float32), known.astype(np.float32)


def _rested(track: Track, shift_s: float) -> tuple[FloatArray, TimeArray, TimeArray, FloatArray, LabelArray]:
    """Return frames, seconds since and until a step, known as a weight, and walking, with rest after the last frame."""
    frames = np.concatenate([track.frames, np.repeat(track.frames[-1:], REST_FRAMES, axis=0)])
    known = np.concatenate([track.known, np.ones(REST_FRAMES)]).astype(np.float32)
    rest = np.full(REST_FRAMES, NOBODY, np.int8)
    rest[: 2 * UNSURE_FRAMES] = UNKNOWN
    time_s = np.arange(len(frames)) / SAMPLING_RATE_HZ
    steps_s = np.concatenate([[-1e6], track.steps_s + shift_s, [1e6]])
    after = np.searchsorted(steps_s, time_s, side="right")
    since_s, until_s = time_s - steps_s[after - 1], steps_s[after] - time_s
    nearest = np.where(since_s < until_s, after - 1, after)
    known[_ends_a_bout(steps_s)[nearest] & (np.minimum(since_s, until_s) < STEP_REACH_S)] *= BOUT_END_WEIGHT
    walking = np.concatenate([track.walking, rest])
    return frames, np.minimum(since_s, FAR_S), np.minimum(until_s, FAR_S), known, walking


def _ends_a_bout(steps_s: TimeArray) -> BoolArray:
    """Say which steps are the first or the last of a walk."""
    far = np.diff(steps_s, prepend=-np.inf, append=np.inf) > BOUT_GAP_S
    ends: BoolArray = far[:-1] | far[1:]
    return ends


def _disturbed(frames: FloatArray, gain: TimeArray, rng: np.random.Generator) -> FloatArray:
    """Return the windows turned at random, scaled, and with the noise and bias of another sensor.

    gain: [b] of the motion, without gravity.
    """
    count = len(frames)
    resting = frames.mean(axis=1, keepdims=True)
    turned = (resting + gain[:, None, None] * (frames - resting)) @ random_rotations(count, rng)
    turned *= np.exp(rng.normal(0, SCALE_SD, (count, 1, 1)))
    turned += rng.normal(0, 1, turned.shape) * rng.uniform(0, MAX_NOISE_G, (count, 1, 1))
    turned += rng.normal(0, BIAS_SD_G, (count, 1, 3))
    disturbed: FloatArray = np.clip(turned, -FULL_SCALE_G, FULL_SCALE_G).astype(np.float32)
    return disturbed
