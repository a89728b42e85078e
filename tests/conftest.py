"""What several test modules share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.broker import MOSQUITTO, Broker

if TYPE_CHECKING:
    from collections.abc import Iterator

# No example database: it would make a failure depend on what ran here before. No deadlines: the machine may be busy.
settings.register_profile(
    "footfall", database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("footfall")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    """Find the real recordings, wherever `make data` looks for or puts them."""
    for folder in (ROOT / "data" / "recordings", ROOT.parent / "shared" / "data" / "recordings"):
        if folder.is_dir():
            return folder
    pytest.skip("no real recordings here: run `make data`")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a private Mosquitto that is not running yet."""
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here: apt install mosquitto")
    directory = tmp_path / "broker"
    directory.mkdir()
    private = Broker(directory)
    yield private
    private.stop()
