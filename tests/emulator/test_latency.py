"""`make latency` measures what it says: every step is matched, whatever the broker does; no figure is judged here."""

from __future__ import annotations

import pytest

from emulator import latency
from tests.broker import MOSQUITTO

pytestmark = pytest.mark.broker


def test_every_step_is_timed_and_no_broker_costs_a_step(tmp_path_factory: pytest.TempPathFactory) -> None:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here: apt install mosquitto")
    report = latency.measure(tmp_path_factory.mktemp("latency"), seconds=3.0, speed=8.0)
    assert report["lost"] == 0
    assert report["steps"] > 20
    assert set(report["stored"].values()) == {report["steps"]}, "the broker's health changed the count"
    assert 0.0 < report["p50_ms"] <= report["p99_ms"]
    assert "hung" in latency.table(report)


def test_percentiles_are_those_of_the_list() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (latency.percentile(values, 50), latency.percentile(values, 99)) == (50.0, 99.0)
    assert latency.percentile([], 50) == float("inf")
