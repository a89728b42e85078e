"""A fleet of two, bookworm and trixie; only `make test-ansible` (pytest -m device tests/ansible) runs what needs it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.ansible.fleet import ALSO_WANTED, ANSIBLE, BEFOREHAND, Fleet
from tests.conftest import ROOT
from tests.device.broker import Listener
from tests.device.conftest import deb_pattern
from tests.device.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES = {"hall": "bookworm", "attic": "trixie"}
"""Ansible comes to them in this order."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs booted machines, unless it was asked for."""
    if "device" in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("device") and "ansible" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason="boots machines as root: run `make test-ansible`"))


@pytest.fixture(scope="session")
def debs() -> dict[str, Path]:
    """Give this checkout's package of each release."""
    found = {suite: [*(ROOT / "build" / "deb").glob(deb_pattern(suite))] for suite in DEVICES.values()}
    if not all(len(debs) == 1 for debs in found.values()) or not (ANSIBLE / "ansible-playbook").exists():
        pytest.fail("packages or Ansible are missing in build: run `make test-ansible`")
    return {suite: debs[0] for suite, debs in found.items()}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, debs: dict[str, Path]) -> Iterator[Fleet]:
    """Boot two devices without Footfall."""
    if os.getuid() != 0:
        pytest.fail("booting machines needs root: run `make test-ansible`")
    with ExitStack() as stack:
        machines = {}
        for name, suite in DEVICES.items():
            machine = stack.enter_context(Machine(ROOT / "build" / "device" / f"{suite}.tar"))
            machine.fetch(debs[suite], *BEFOREHAND, *ALSO_WANTED)
            machine.boot()
            machines[name] = machine
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), machines)
        stack.callback(fleet.close)
        fleet.start()
        yield fleet


@pytest.fixture(scope="module")
def listener(fleet: Fleet) -> Iterator[Listener]:
    """Listen to everything the devices publish."""
    one = Listener(fleet.broker)
    yield one
    one.close()
