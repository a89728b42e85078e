"""Fleet mode: a batch every so many seconds instead of single steps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.broker import wait_until
from tests.edge.device import STEP, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker import Broker, Subscriber
    from tests.edge.device import Device

pytestmark = pytest.mark.broker


def connected(devices: Callable[..., Device], broker: Broker) -> tuple[Device, list[float]]:
    """Return a connected device with batches of a minute, and what its clock is ahead by, s."""
    offset_s = [0.0]
    device = devices(broker.port, MQTT__BATCH_S="60", clock=lambda: time.monotonic() + offset_s[0])
    device.connect()
    device.drain_until(device.idle, "all acknowledged")
    return device, offset_s


def test_steps_wait_for_their_batch_and_are_not_late(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device, offset_s = connected(devices, broker)
    device.walk(10, pause_s=0.01)
    offset_s[0] += 50.0
    device.walk(10, pause_s=0.01)
    assert device.outbox.depth == 20
    offset_s[0] += 11.0
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 20)
    (batch,) = [one.json() for one in subscriber.on("batch")]
    assert (batch["seq0"], len(batch["dt"]), batch["late"]) == (1, 20, False)
    assert subscriber.on("step") == []
    assert subscriber.steps() == named(device.outbox.boot_id, 20)


def test_only_what_waited_longer_than_its_batch_made_it_is_late(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    offset_s = [0.0]
    device = devices(broker.port, MQTT__BATCH_S="60", clock=lambda: time.monotonic() + offset_s[0])
    device.outbox.append(STEP, time.time())
    offset_s[0] += 91.0
    device.outbox.append(STEP, time.time())
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 2)
    assert [(one.json()["seq0"], one.json()["late"]) for one in subscriber.on("batch")] == [(1, True), (2, False)]


def test_total_and_state_go_out_with_the_batch_that_they_count_in(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device, offset_s = connected(devices, broker)
    for _ in range(3):
        for _ in range(5):
            offset_s[0] += 6.0  # longer than the pause between two states
            device.walk(1)
        device.publisher.quality = "degraded"
        offset_s[0] += 31.0
        device.deliver()
        device.drain_until(device.idle, "all acknowledged")
        device.publisher.drain(device.outbox)
        device.drain_until(device.idle, "the total, too")
    wait_until(lambda: subscriber.on("steps")[-1:] and subscriber.on("steps")[-1].payload == b"15")
    assert [int(one.payload) for one in subscriber.on("steps")] == [0, 5, 10, 15]
    states = [(one.json()["total"], one.json()["quality"]) for one in subscriber.on("state")]
    assert states == [(0, "ok"), (5, "degraded"), (10, "degraded"), (15, "degraded")]


def test_a_clean_stop_sends_what_waits_for_its_batch(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port, MQTT__BATCH_S="3600")
    device.connect()
    device.drain_until(device.idle, "all acknowledged")
    device.walk(5)
    device.publisher.close(device.outbox)
    assert device.outbox.depth == 0
    wait_until(lambda: subscriber.steps() == named(device.outbox.boot_id, 5))


def test_a_day_of_backlog_needs_few_turns(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    """20,000 late steps, an eighth of a day of steady walking, in few turns: at 10 a second a day takes 10 s."""
    device = devices(broker.port)
    now_s = time.time()
    with device.outbox._transaction(durable=False):
        device.outbox._db.executemany(
            "INSERT INTO step VALUES (?, ?, ?, ?, 0.0, 0.5, NULL)",
            [(n, device.outbox.boot_id, n, round((now_s - 9e4 + n) * 1000)) for n in range(1, 20_001)],
        )
    device.outbox._total = device.outbox._depth = 20_000
    device.connect()
    turns = 0
    while device.outbox.depth:
        device.publisher.drain(device.outbox)
        turns += 1
        time.sleep(0.1)  # as long as a turn of the pipeline
        assert turns < 100
    assert turns <= 30
    wait_until(lambda: len(subscriber.steps()) == 20_000, timeout_s=30)
    assert len(set(subscriber.steps())) == 20_000
