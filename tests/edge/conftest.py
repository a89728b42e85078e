"""Fixtures of the tests that talk MQTT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.broker import Broker, Subscriber
from tests.edge.device import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    """Make devices that are closed in the end."""
    made: list[Device] = []

    def make(port: int, **options: Any) -> Device:
        made.append(Device(tmp_path, port, **options))
        return made[-1]

    yield make
    for device in made:
        device.close()


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    """Start the broker and listen to it."""
    broker.start()
    listener = Subscriber(broker.port)
    yield listener
    listener.close()
