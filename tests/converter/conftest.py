"""What the converter's tests share; those marked `tf` run only where TensorFlow is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from converter.dataset import NOBODY, SAMPLING_RATE_HZ, SOMEBODY, Track
from converter.spec import Spec, load_spec

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "models" / "step.keras"
"""The model of the day: it streams, with state fed back and two classes."""
WINDOW = Path(__file__).parent / "models" / "window.keras"
"""A plain one, as shipped with 0.1.0: 135 frames in, five probabilities out, no state."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the way out, what this environment cannot run."""
    if importlib.util.find_spec("tensorflow"):
        return
    skip = pytest.mark.skip(reason="needs the converter's environment: pip install '.[converter,dev]'")
    for item in items:
        if item.get_closest_marker("tf"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shipped_flatbuffer() -> bytes:
    return SHIPPED.with_suffix(".tflite").read_bytes()


@pytest.fixture(scope="session")
def shipped_spec() -> Spec:
    return load_spec(SHIPPED.with_suffix(".yaml"))


@pytest.fixture(scope="session")
def window_flatbuffer() -> bytes:
    return WINDOW.with_suffix(".tflite").read_bytes()


@pytest.fixture(scope="session")
def window_spec() -> Spec:
    return load_spec(WINDOW.with_suffix(".yaml"))


def make_track(*, walking: bool, seconds: float = 60.0, dataset: str = "awinda_hand", seed: int = 0) -> Track:
    """Make a track that rests at 1 g, with one frame of 5 g at every step."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((int(seconds * SAMPLING_RATE_HZ), 3), np.float32)
    frames[:, 2] = 1.0
    index = np.cumsum(rng.integers(12, 18, len(frames) // 18))[2:-2] if walking else np.empty(0, np.int64)
    frames[index, 2] = 5.0
    who = np.full(len(frames), SOMEBODY if walking else NOBODY, np.int8)
    return Track(
        dataset, "somebody", "somewhere", frames, index / SAMPLING_RATE_HZ, np.ones(len(frames), bool), walking=who
    )
