"""Which broker the link takes, when it comes back to the first, what the log says, and how a silent one is noticed."""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from edge import config
from edge.mqtt import CALM_S, Backoff, Link
from edge.mqtt_connect import Will
from emulator.ports import free_port
from tests.broker import Broker, Subscriber, wait_until
from tests.edge.device import MuteBroker, named, warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.edge.device import Device

pytestmark = pytest.mark.broker


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Broker]:
    directory = tmp_path / "second"
    directory.mkdir()
    broker = Broker(directory)
    broker.start()
    yield broker
    broker.stop()


def where(device: Device) -> int:
    return device.publisher._link._index if device.publisher.connected else -1


def test_the_second_broker_serves_while_the_first_is_away_and_no_longer(
    broker: Broker, second: Broker, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    offset_s = [0.0]
    device = devices(
        broker.port,
        MQTT__FALLBACK_HOSTS=f"[127.0.0.1:{second.port}]",
        clock=lambda: time.monotonic() + offset_s[0],
    )
    device.connect()
    there = Subscriber(second.port)
    assert where(device) == 1
    device.walk(5)
    device.deliver()
    (line,) = warnings(caplog)
    assert f"no MQTT broker at 127.0.0.1:{broker.port}" in line
    assert f"127.0.0.1:{second.port} serves instead" in line
    broker.start()
    here = Subscriber(broker.port)
    device.drain_until(device.idle, "everything acknowledged, or the jump of the clock makes it five minutes late")
    offset_s[0] += 301.0
    device.drain_until(lambda: where(device) == 0, "back at the first broker")
    device.walk(5)
    device.deliver()
    wait_until(lambda: len(here.steps()) == 5)
    assert there.steps() + here.steps() == named(device.outbox.boot_id, 10)
    wait_until(lambda: there.on("availability")[-1].payload == b"offline")
    assert here.on("availability")[-1].payload == b"online"
    assert len(warnings(caplog)) == 1
    here.close()
    there.close()


def test_when_the_first_broker_dies_the_second_takes_over(
    broker: Broker, second: Broker, devices: Callable[..., Device]
) -> None:
    broker.start()
    device = devices(broker.port, MQTT__FALLBACK_HOSTS=f"[127.0.0.1:{second.port}]")
    device.connect()
    assert where(device) == 0
    there = Subscriber(second.port)
    broker.kill()
    device.walk(20, pause_s=0.01)
    device.deliver()
    wait_until(lambda: len(set(there.steps())) == 20)
    there.close()


def test_a_hung_broker_is_given_up_after_one_and_a_half_keepalives(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    device = devices(broker.port, MQTT__KEEPALIVE_S="5")
    device.connect()
    device.walk(3)
    device.deliver()
    broker.signal(signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        while not warnings(caplog):
            device.walk(1, pause_s=0.1)
            assert time.monotonic() < began_s + 60.0, "the silence is noticed"
        assert time.monotonic() - began_s >= 5.0
    finally:
        broker.signal(signal.SIGCONT)
    assert "silent" in warnings(caplog)[0]
    subscriber.wait_subscribed()
    device.deliver()
    wait_until(lambda: len(set(subscriber.steps())) == device.outbox.total)


def test_a_broker_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Two hours of connections that are cut after a second: few lines, though hundreds of connections."""
    caplog.set_level(logging.INFO)
    now_s = [0.0]
    settings = config.load(None, {}).mqtt
    link = Link(settings, "c", Will("a", b"off"), {}, backoff=Backoff(), clock=lambda: now_s[0])
    connections = 0
    while now_s[0] < 7200.0:
        link._open(StubbornSession(), 0)  # type: ignore[arg-type]
        connections += 1
        now_s[0] += 40.0  # stable enough for the back-off to start over
        assert link.session is not None
        link._lost(link.session)
        now_s[0] += 1.0
    assert connections > 150
    assert len(caplog.records) <= 20
    lost = [record.getMessage() for record in caplog.records if "lost" in record.getMessage()]
    assert "more times since it was said last" in lost[-1]
    link._open(StubbornSession(), 0)  # type: ignore[arg-type]
    now_s[0] += CALM_S
    link.turn()
    link._lost(StubbornSession())  # type: ignore[arg-type]
    assert caplog.records[-1].getMessage().endswith("steps wait in the outbox")


class StubbornSession:
    """What Link sees of a session whose connection has just been cut."""

    is_mqtt5, ended, reason = True, False, "the connection broke"

    def turn(self) -> None:
        """Nothing comes."""

    def close(self) -> None:
        """Nothing to close."""


def test_the_first_connection_of_a_fleet_is_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr("random.uniform", uniform)
    settings = config.load(None, {"FOOTFALL__MQTT__FIRST_CONNECT_WITHIN_S": "120"}).mqtt
    now_s = [0.0]
    link = Link(settings, "c", Will("a", b"off"), {}, backoff=Backoff(), clock=lambda: now_s[0])
    link.start()
    now_s[0] = 119.9
    link.turn()
    assert not link_is_trying(link)
    now_s[0] = 120.1
    link.turn()
    assert link_is_trying(link)
    link.stop()
    assert asked == [(0.0, 120.0)]


def link_is_trying(link: Link) -> bool:
    return link._attempt is not None


def test_a_stop_during_an_attempt_returns_at_once(devices: Callable[..., Device]) -> None:
    with MuteBroker() as mute:
        device = devices(mute.port, MQTT__FALLBACK_HOSTS=f"[127.0.0.1:{free_port()}]")
        device.publisher.drain(device.outbox)
        began_s = time.monotonic()
        device.close()
        assert time.monotonic() - began_s < 5.0


def test_paho_starts_no_thread(broker: Broker, devices: Callable[..., Device]) -> None:
    """A thread would be woken for every message."""
    before = set(threading.enumerate())
    broker.start()
    device = devices(broker.port)
    device.connect()
    device.walk(5)
    device.deliver()
    wait_until(lambda: set(threading.enumerate()) <= before, what="the thread that connected has ended")
