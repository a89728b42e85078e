"""The windower: the newest frames, once per hop, whatever the batching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.signal import Frames
from edge.windowing import SlidingWindow


def frames(count: int, start: int = 0) -> Frames:
    index = np.arange(start, start + count)
    return Frames(index / 25.0, index / 25.0 + 0.1, np.repeat(index[:, None], 3, axis=1).astype(np.float32))


def collect(windows: SlidingWindow, parts: list[Frames]) -> list[tuple[float, float, list[float]]]:
    return [(w.time_s, w.known_s, w.data[:, 0].tolist()) for part in parts for w in windows.push(part)]


def test_windows_hold_the_newest_frames_and_step_by_the_hop() -> None:
    got = collect(SlidingWindow(window_samples=8, hop_samples=3, channels=3), [frames(12)])
    assert [w[2] for w in got][2:] == [[1, 2, 3, 4, 5, 6, 7, 8], [4, 5, 6, 7, 8, 9, 10, 11]]
    assert [w[0] for w in got] == pytest.approx([2 / 25, 5 / 25, 8 / 25, 11 / 25])
    assert [w[1] for w in got] == pytest.approx([2 / 25 + 0.1, 5 / 25 + 0.1, 8 / 25 + 0.1, 11 / 25 + 0.1])


def test_before_the_first_frame_the_device_rested() -> None:
    windows = SlidingWindow(window_samples=8, hop_samples=3, channels=3)
    (first,) = collect(windows, [frames(3, start=40)])
    assert first[2] == [40, 40, 40, 40, 40, 40, 41, 42]


def test_reset_forgets_the_previous_segment() -> None:
    windows = SlidingWindow(window_samples=8, hop_samples=3, channels=3)
    collect(windows, [frames(11)])
    windows.reset()
    (first,) = collect(windows, [frames(3, start=90)])
    assert first[2] == [90, 90, 90, 90, 90, 90, 91, 92]


@given(
    sizes=st.lists(st.integers(0, 20), max_size=30),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda s: s[1] <= s[0]),
)
def test_windows_do_not_depend_on_batching(sizes: list[int], shape: tuple[int, int]) -> None:
    total = sum(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    parts = [frames(size, start) for size, start in zip(sizes, starts, strict=False)]
    window, hop = shape
    many = collect(SlidingWindow(window_samples=window, hop_samples=hop, channels=3), parts)
    one = collect(SlidingWindow(window_samples=window, hop_samples=hop, channels=3), [frames(total)])
    assert many == one
    assert len(one) == total // hop


@pytest.mark.parametrize("hop", [0, 9])
def test_a_hop_that_would_lose_frames_is_refused(hop: int) -> None:
    with pytest.raises(ValueError, match="1 to window_samples"):
        SlidingWindow(window_samples=8, hop_samples=hop, channels=3)
