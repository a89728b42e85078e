"""A crash at any statement, and at or in any write, loses nothing that was promised and repeats nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from edge.outbox import Outbox
from tests.edge.delivery.crash import SCENARIOS
from tests.edge.delivery.crash_everywhere import HarmError, Lives, Place, can_trace, sampled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLE = 3
"""Places for each way and scenario in the suite; `make crash` takes all."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_statements(scenario: str, tmp_path: Path) -> None:
    lives = Lives(scenario, tmp_path)
    found = lives.places("statement")
    assert len(found) > 20
    for place in sampled(found, 30):
        lives.crash_at("statement", place)


@pytest.mark.skipif(not can_trace(), reason="strace is missing or may not trace here: apt install strace")
@pytest.mark.parametrize("way", ["KILL", "EIO", "ENOSPC"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_or_refused_a_write(scenario: str, way: str, tmp_path: Path) -> None:
    lives = Lives(scenario, tmp_path)
    found = lives.places(way)
    assert {"pwrite64", "fdatasync"} <= {place.call for place in found}
    for place in sampled(found, SAMPLE):
        lives.crash_at(way, place)


def test_the_harm_of_an_outbox_without_transactions_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def none(_outbox: Outbox, *, durable: bool) -> Iterator[None]:
        del durable
        yield

    lives = Lives("use", tmp_path)
    monkeypatch.setattr(Outbox, "_transaction", none)
    with pytest.raises(HarmError):
        crash_at_all(lives, range(20, 60))


def crash_at_all(lives: Lives, numbers: range) -> None:
    for number in numbers:
        lives.crash_at("statement", Place("", number))
