"""Training windows: drawn, warped, spliced and disturbed, with a step heat-map as the target.

About 60 % of the windows show labelled walking, the rest people who do not walk. Chunks of the latter that the net gets
wrong are drawn more often; some walks start or end in one of them, as walks do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.dataset import SAMPLING_RATE_HZ, Track
from converter.rotation import random_rotations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from edge.types import FloatArray, TimeArray

    IntArray = npt.NDArray[np.intp]

SHARES: dict[str, float] = {
    "awinda_hand": 0.28,
    "oxford_opt": 0.34,
    "wisdm_watch": 0.22,
    "wisdm_phone": 0.09,
    "spsw_watch": 0.04,
    "spsw_phone": 0.03,
}
"""Share of the windows drawn from each data set."""
HEAT_SD_S = 0.06
FAR_S = 9.0
CHUNK_FRAMES = 250
MAX_WARP = 1.2
SPLICED_SHARE = 0.3
SPLICE_MARGIN_FRAMES = 10
SCALE_SD = 0.12
MAX_NOISE_G = 0.02
BIAS_SD_G = 0.02
MINING_RATE = 0.5
EASY_LOSS, TYPICAL_LOSS = 0.03, 0.15
"""A chunk without loss keeps a weight of EASY_LOSS / TYPICAL_LOSS, one with a typical loss a little over 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """inputs: [b, n, 3] g; target, weight: [b, n - context, 1], each `lookahead` frames before the newest seen."""

    inputs: FloatArray
    target: FloatArray
    weight: FloatArray
    pool: IntArray
    chunk: IntArray


class Pool:
    """All tracks of one data set end to end: frames, time to the steps around each frame, and where labels hold."""

    def __init__(self, tracks: Sequence[Track], shift_s: Mapping[str, float], rest: int) -> None:
        parts = [_rested(track, shift_s.get(track.placement, 0.0), rest) for track in tracks]
        lengths = np.array([len(part[0]) for part in parts])
        self.frames, self.since_s, self.until_s, self.known = (
            np.concatenate([part[i] for part in parts]) for i in range(4)
        )
        ends = np.cumsum(lengths)
        chunks = [
            (chunk, end - length, end)
            for length, end in zip(lengths, ends, strict=True)
            for chunk in range(end - length, end, CHUNK_FRAMES)
        ]
        self.chunk_start, self.track_start, self.track_end = np.array(chunks).T
        self.chunk_weight = np.ones(len(chunks))
        self.walks = any(track.walks for track in tracks)

    def draw(self, count: int, rng: np.random.Generator) -> IntArray:
        """Return chunk numbers, those with a high loss more often."""
        share = self.chunk_weight / self.chunk_weight.sum()
        drawn: IntArray = rng.choice(len(share), size=count, p=share)
        return drawn

    def remember(self, chunk: IntArray, loss: FloatArray) -> None:
        """Let the loss of windows of non-walkers move the weight of their chunks."""
        if not self.walks:
            kept = (1 - MINING_RATE) * self.chunk_weight[chunk]
            self.chunk_weight[chunk] = kept + MINING_RATE * (EASY_LOSS + loss) / TYPICAL_LOSS


class Sampler:
    """Draws batches from pools of tracks, the same ones for the same seed.

    window_frames: input frames of a window; context: how many of them the first answer needs besides its own.
    shift_s: seconds to add to the labels of each placement.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        window_frames: int,
        context: int,
        lookahead: int,
        rng: np.random.Generator,
        shift_s: Mapping[str, float],
    ) -> None:
        self._rng = rng
        self._window_frames, self._context, self._lookahead = window_frames, context, lookahead
        names = [name for name in SHARES if any(track.dataset == name for track in tracks)]
        self._pools = [Pool([t for t in tracks if t.dataset == name], shift_s, context) for name in names]
        self._negatives = [number for number, pool in enumerate(self._pools) if not pool.walks]
        share = np.array([SHARES[name] for name in names])
        self._share = share / share.sum()

    def batch(self, size: int) -> Batch:
        """Return the next batch."""
        rng = self._rng
        pool = np.sort(rng.choice(len(self._pools), size=size, p=self._share))
        warp = np.exp(rng.uniform(-np.log(MAX_WARP), np.log(MAX_WARP), size))
        frames, distance_s, known, chunk = self._windows(pool, warp)
        self._splice(pool, warp, frames, distance_s, known)
        heat = np.exp(-0.5 * (distance_s / HEAT_SD_S) ** 2).astype(np.float32)
        asked = slice(self._context - self._lookahead, self._window_frames - self._lookahead)
        target, weight = heat[:, asked, None], known[:, asked, None] * (1 + 2 * heat[:, asked, None])
        return Batch(_disturbed(frames, rng), target, weight.astype(np.float32), pool, chunk)

    def remember(self, batch: Batch, loss: FloatArray) -> None:
        """Take note of the mean loss [b] of each window, to draw hard ones more often."""
        for number in self._negatives:
            here = batch.pool == number
            self._pools[number].remember(batch.chunk[here], loss[here])

    def _windows(self, pool: IntArray, warp: TimeArray) -> tuple[FloatArray, TimeArray, FloatArray, IntArray]:
        chunk = np.empty(len(pool), np.intp)
        parts = []
        for number in np.unique(pool):
            here = pool == number
            chunk[here] = self._pools[number].draw(int(here.sum()), self._rng)
            parts.append(self._cut(self._pools[number], chunk[here], warp[here]))
        frames, distance_s, known = (np.concatenate([part[i] for part in parts]) for i in range(3))
        return frames, distance_s, known, chunk

    def _cut(self, pool: Pool, chunk: IntArray, warp: TimeArray) -> tuple[FloatArray, TimeArray, FloatArray]:
        """Return frames, seconds to the nearest step and known 0/1 of windows around chunks, at a warped pace."""
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
        return frames, distance_s, pool.known[index] * inside

    def _splice(
        self, pool: IntArray, warp: TimeArray, frames: FloatArray, distance_s: TimeArray, known: FloatArray
    ) -> None:
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
            frames[window, where], distance_s[window, where], known[window, where] = (piece[0, where] for piece in part)
            known[window, max(0, cut - SPLICE_MARGIN_FRAMES) : cut + SPLICE_MARGIN_FRAMES] = 0


def _rested(track: Track, shift_s: float, rest: int) -> tuple[FloatArray, TimeArray, TimeArray, FloatArray]:
    """Return frames, seconds since and until a step, and known 0/1, with `rest` still frames before the first.

    A recording starts for the device as if it had rested before (edge.windowing); so does it here.
    """
    frames = np.concatenate([np.repeat(track.frames[:1], rest, axis=0), track.frames])
    known = np.concatenate([np.repeat(track.known[:1], rest), track.known]).astype(np.float32)
    time_s = (np.arange(len(frames)) - rest) / SAMPLING_RATE_HZ
    steps_s = np.concatenate([[-1e6], track.steps_s + shift_s, [1e6]])
    after = np.searchsorted(steps_s, time_s, side="right")
    since_s, until_s = time_s - steps_s[after - 1], steps_s[after] - time_s
    return frames, np.minimum(since_s, FAR_S), np.minimum(until_s, FAR_S), known


def _disturbed(frames: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the windows turned at random, scaled, and with the noise and bias of another sensor."""
    count = len(frames)
    turned = frames @ random_rotations(count, rng)
    turned *= np.exp(rng.normal(0, SCALE_SD, (count, 1, 1)))
    turned += rng.normal(0, 1, turned.shape) * rng.uniform(0, MAX_NOISE_G, (count, 1, 1))
    turned += rng.normal(0, BIAS_SD_G, (count, 1, 3))
    disturbed: FloatArray = turned.astype(np.float32)
    return disturbed
