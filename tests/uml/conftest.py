"""One User-Mode-Linux for all tests that only ask different questions of the same run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.uml import host, jobs
from tests.uml.wiring import PIN_OF

if TYPE_CHECKING:
    from collections.abc import Callable

    Boot = Callable[..., Any]

BOOT_TIMEOUT_S = 1200.0
"""A minute where the machine is quiet; simulated time makes the results the same where it is not."""


@pytest.fixture(scope="session")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """Run a job in a User-Mode-Linux of its own; returns what it returned."""
    if os.environ.get("FOOTFALL_UML") != "1" or not host.built():
        pytest.skip("no User-Mode-Linux here: run `make test-uml`")

    def booted(job: Callable[..., object], **arguments: object) -> object:
        return host.run(job, tmp_path_factory.mktemp("uml"), timeout_s=BOOT_TIMEOUT_S, **arguments).result

    return booted


@pytest.fixture(scope="session")
def raw(boot: Boot) -> dict[str, Any]:
    """Return what the kernel's drivers read of every chip that lies still."""
    answers: dict[str, Any] = boot(jobs.raw_reads, names=sorted(PIN_OF))
    return answers


@pytest.fixture(scope="session")
def moved(boot: Boot) -> dict[str, Any]:
    """Return what Footfall reads of every chip through the kernel's buffer while it moves."""
    answers: dict[str, Any] = boot(jobs.buffered_reads, names=jobs.BUFFERED, seconds=jobs.MOVEMENT_S)
    return answers
