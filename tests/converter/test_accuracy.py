"""The shipped int8 file, streamed through the device's pipeline, on people that took no part in making it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edge.classifier import StepClassifier
from edge.evaluate import evaluate
from edge.pipeline import Pipeline
from edge.recording import find_recordings, load
from edge.types import SampleBatch
from tests.converter.conftest import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = pytest.mark.data


def scores(paths: Iterable[Path]) -> dict[str, Any]:
    classifier = StepClassifier(SHIPPED.with_suffix(".tflite"))

    def detected(path: Path) -> Any:
        recording = load(path)
        pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz)
        batch = SampleBatch(recording.time_s, recording.imu)
        return recording, [step.time_s for step in (*pipeline.push(batch), *pipeline.finish())]

    total: dict[str, Any] = evaluate(detected(path) for path in paths)["total"]
    return total


def test_hand_held_walks_of_unseen_people(recordings_dir: Path) -> None:
    total = scores(
        p for p in find_recordings([recordings_dir / "awinda_hand"]) if p.name[:8] in ("person_7", "person_8")
    )
    assert total["true_steps"] > 1500
    assert total["f1_250ms"] >= 0.975


def test_phones_of_unseen_people(recordings_dir: Path) -> None:
    assert scores(find_recordings([recordings_dir / "oxford_val"]))["f1_250ms"] >= 0.985


def test_false_steps_at_a_desk_stay_rare(recordings_dir: Path) -> None:
    typing = [p for p in find_recordings([recordings_dir / "wisdm_phone"]) if int(p.name[:4]) >= 1636]
    total = scores(typing)
    assert total["non_walking_hours"] > 1
    assert total["false_steps_per_hour"] < 20
