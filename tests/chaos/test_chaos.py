"""Short versions of `make chaos` and `make offline`, and proof that the chaos test sees harm when there is some."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.broker import MOSQUITTO
from tests.chaos import faults
from tests.chaos.bench import Life
from tests.chaos.recorder import Recorder
from tests.chaos.run import Chaos, chaos

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto here: apt install mosquitto"),
]


def test_one_fault_of_each_kind_loses_and_repeats_nothing(tmp_path: Path) -> None:
    result = chaos(tmp_path, count=len(faults.ALL), seed=5, least_steps=100, walk_s=150.0)
    assert not any(result.harm.values()), (result.harm, result.notes)
    assert result.figures["faults"] == len(faults.ALL)
    assert result.figures["steps_received"] == result.figures["steps_committed"] > 200


def test_every_kind_comes_about_equally_often_and_the_seed_decides() -> None:
    plans = [[one.__name__ for one in faults.plan(200, Random(seed), with_network=True)] for seed in (3, 3, 4)]  # noqa: S311
    assert plans[0] == plans[1] != plans[2]
    assert set(Counter(plans[0]).values()) <= {14, 15}
    assert len(set(plans[0])) == len(faults.ALL)


class DeadBench:
    """What is left when everything has ended: books to compare."""

    def __init__(self, recorder: Recorder, *lives: Life) -> None:
        self.recorder, self.lives = recorder, list(lives)
        self.unexpected: list[str] = []


def books(arrived: list[tuple[int, int, int]]) -> Recorder:
    """Keep books of single steps: seq, confidence in percent, lifetime total."""
    recorder = Recorder(0)
    for seq, confidence, total in arrived:
        recorder._take("boot", seq, [confidence], total)
    return recorder


REFERENCE = [91, 72, 55, 83]
CASES = {
    "all is well": ([(1, 91, 1), (2, 72, 2), (3, 55, 3)], None),
    "one did not arrive": ([(1, 91, 1), (3, 55, 3)], "lost"),
    "one too many": ([(1, 91, 1), (2, 72, 2), (3, 55, 3), (4, 83, 4)], "duplicates_after_dedup"),
    "one lost before it had a number": ([(1, 72, 1), (2, 55, 2), (3, 83, 3)], "off_the_reference"),
    "out of order": ([(1, 91, 1), (3, 55, 3), (2, 72, 2)], "order_violations"),
    "a total that does not fit": ([(1, 91, 1), (2, 72, 2), (3, 55, 9)], "contradictions"),
}


@pytest.mark.parametrize("case", CASES)
def test_harm_is_seen(case: str, tmp_path: Path) -> None:
    arrived, expected = CASES[case]
    bench = DeadBench(books(arrived), Life(0, 3, 0, 0, "SIGKILL"))
    run = Chaos(bench, tmp_path, tmp_path, Random(0))  # type: ignore[arg-type]  # noqa: S311
    run.judge(REFERENCE)
    assert {name for name, count in run.result.harm.items() if count} == ({expected} if expected else set())
