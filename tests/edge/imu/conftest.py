"""Fixtures of the driver tests."""

from __future__ import annotations

import pytest

from tests.edge.imu.bench import Bench


@pytest.fixture
def bench() -> Bench:
    """Give a good sensor on a good bus."""
    return Bench()
