"""Steps that the disk does not take: they wait in memory, in order, and none is stored twice."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import pytest

from edge import outbox_rescue
from edge.daemon import Shelf
from edge.imu.status import SensorState
from edge.imu_watch import quality
from edge.outbox import Outbox
from edge.outbox_file import beside
from edge.types import StepEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db", max_age_h=1.0, max_bytes=2**24)
    yield box
    box.close()


def steps(first: int, count: int) -> list[tuple[StepEvent, float]]:
    return [(StepEvent(float(i), float(i), 0.9, None), 1.7e9 + i) for i in range(first, first + count)]


def test_steps_wait_while_the_disk_is_full_and_are_stored_in_order_afterwards(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(outbox)
    shelf.store(steps(0, 3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the file's size is the nearest thing to a full disk that a process can make for itself.
    used = outbox_rescue.log(beside(outbox.path, "-wal")).end
    resource.setrlimit(resource.RLIMIT_FSIZE, (used or 0, hard))
    try:
        for i in range(3, 8):
            shelf.store(steps(i, 1))
        assert len(shelf.waiting) == 5
        assert outbox.total == 3
        (line,) = [record.getMessage() for record in caplog.records]
        assert "free some disk space" in line or "check the disk" in line
        assert "steps wait in memory: not sent before they are stored, lost if footfall stops" in line
        monkeypatch.setattr(shelf, "_retry_s", 0.0)
        monkeypatch.setattr(shelf._complaints, "_clock", lambda: time.monotonic() + 61.0)
        shelf.store([])
        assert "5 steps wait in memory" in caplog.records[-1].getMessage(), "said again, with the number"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.setattr(shelf, "_retry_s", 0.0)
    shelf.store(steps(8, 1))
    assert not shelf.waiting
    assert [row.ts_ms for row in outbox.pending(20)] == [round((1.7e9 + i) * 1000) for i in range(9)]
    assert outbox.total == 9


def test_quality_tells_the_worst() -> None:
    assert quality(0.1) == "ok"
    assert quality(0.1, is_storing=False) == "degraded"
    assert quality(5.0, is_storing=False) == "no_sensor"
    assert quality(0.1, state=SensorState.DEGRADED) == "degraded"
    assert quality(0.1, state=SensorState.PROBING, is_storing=False) == "no_sensor"
    assert quality(0.1, state=SensorState.LOST) == "no_sensor"
