"""A model that tells no step from none is warned about with the answers it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.lifeless import lifeless
from tests.converter.proving import with_spec

if TYPE_CHECKING:
    from converter.spec import Spec


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0.5, 0.5, "answers 0.50 to 0.50 on every calibration window, never the threshold 0.6: it finds no step"),
        (0.0, 0.55, "answers 0.00 to 0.55 on every calibration window, never the threshold 0.6: it finds no step"),
        (0.598, 0.602, "answers 0.60 to 0.60 on every calibration window: it finds no step"),
        (0.95, 0.99, "answers 0.95 to 0.99 on every calibration window, never below the threshold"),
    ],
)
def test_it_is_told_with_its_answers(window_spec: Spec, low: float, high: float, message: str) -> None:
    (warning,) = lifeless(window_spec, np.linspace(low, high, 50, dtype=np.float32).reshape(10, 5, 1))
    assert message in warning


def test_the_step_s_class_decides(window_spec: Spec) -> None:
    named = with_spec(window_spec, classes=("none", "step"))
    answers = np.full((40, 1, 2), 0.5, np.float32)
    answers[:, 0, 0] = np.linspace(0, 1, 40)
    assert lifeless(named, answers)
    assert not lifeless(named, answers[..., ::-1])


def test_a_dead_step_head_beside_a_living_walking_head(shipped_spec: Spec) -> None:
    answers = np.full((10, 20, 2, 2), 0.1, np.float32)
    answers[..., shipped_spec.classes.index("walking")] = np.linspace(0, 1, 20)[:, None]
    assert len(lifeless(shipped_spec, answers)) == 1
    answers[..., shipped_spec.step_class] = np.linspace(0, 1, 20)[:, None]
    assert lifeless(shipped_spec, answers) == []


def test_a_model_that_finds_steps_is_not_warned_about(window_spec: Spec) -> None:
    assert lifeless(window_spec, np.linspace(0, 1, 50, dtype=np.float32).reshape(10, 5, 1)) == []
