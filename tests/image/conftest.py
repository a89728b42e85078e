"""What the image's tests share; only `make test-image` (pytest -m image) runs those that boot it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.broker import Broker, Subscriber
from tests.image.raspi import Card, Pi, has_tools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what boots the image, unless it was asked for."""
    if "image" in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("image"):
            item.add_marker(pytest.mark.skip(reason="boots the SD image in QEMU: run `make test-image`"))


@pytest.fixture(scope="module")
def host_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run a Mosquitto on this machine, which the emulated one reaches through its user-mode network."""
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def subscriber(host_broker: Broker) -> Iterator[Subscriber]:
    """Listen to everything."""
    one = Subscriber(host_broker.port)
    yield one
    one.close()


def new_pi(directory: Path) -> Pi:
    """Write the image on a new card and put it into a new device."""
    if not has_tools():
        pytest.fail("build/image/footfall.img or mtools is missing: run `make image`, then `make test-image`")
    return Pi(Card(directory / "card.img"), directory)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    """Give a device with a freshly written card."""
    pi = new_pi(tmp_path_factory.mktemp("first"))
    yield pi
    pi.cut_power()


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    """Give another device with another card."""
    pi = new_pi(tmp_path_factory.mktemp("second"))
    yield pi
    pi.cut_power()


@pytest.fixture
def walker(tmp_path: Path) -> Iterator[Pi]:
    """Give a third device, which is walked with."""
    pi = new_pi(tmp_path)
    yield pi
    pi.cut_power()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an SSH key for this test."""
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path
