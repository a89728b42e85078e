"""`footfall simulate-fleet`: many light devices in one process, for load tests of a broker and what is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.errors import UsageError
from edge.progress import Progress
from fleet.simulated_device import Settings, SimulatedDevice, Tally

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DRAIN_S = 120.0
"""How long after the end the devices may still need to deliver what waits."""
SPARE_FILES = 64
_TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """How big a fleet, for how long, and with which seed."""

    devices: int
    seconds: float
    seed: int = 1


def simulate(
    load: Load, settings: Settings, truth: Path | None = None, at_end: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Run a fleet and return its figures; writes what every device has made to `truth`, as JSON, if given.

    at_end: called when the time is over, before the devices deliver what still waits.
    Raises UsageError where this machine cannot hold so many connections.
    """
    _raise_file_limit(load.devices)
    figures, devices = asyncio.run(_simulate(load, settings, at_end))
    if truth is not None:
        made = {device.device_id: {"boot_id": device.boot_id, "steps": device.seq} for device in devices}
        truth.write_text(json.dumps(made) + "\n", encoding="utf-8")
    return figures


async def _simulate(
    load: Load, settings: Settings, at_end: Callable[[], None]
) -> tuple[dict[str, Any], list[SimulatedDevice]]:
    tally = Tally(array("d"), array("d"))
    devices = [SimulatedDevice(n, settings, tally, random.Random(f"{load.seed}-{n}")) for n in range(load.devices)]  # noqa: S311  load, not secrets
    before_mb, before_cpu_s = _rss_mb(), time.process_time()
    began_s = time.monotonic()
    tasks = [asyncio.create_task(device.run()) for device in devices]
    with Progress(f"{load.devices} devices", load.seconds) as progress:
        while (gone_s := time.monotonic() - began_s) < load.seconds:
            await asyncio.sleep(min(_TICK_S, load.seconds - gone_s))
            progress.advance(_TICK_S)
    figures = _figures(load, tally, time.monotonic() - began_s)
    figures["simulator_kb_per_device"] = round(1024.0 * (_rss_mb() - before_mb) / load.devices, 1)
    figures["simulator_cpu_s"] = round(time.process_time() - before_cpu_s, 1)
    at_end()
    for device in devices:
        device.stop_making()
    deadline_s = time.monotonic() + DRAIN_S
    while any(device.depth for device in devices) and time.monotonic() < deadline_s:  # noqa: ASYNC110  10,000 of them
        await asyncio.sleep(_TICK_S)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
    figures |= {"steps_made": tally.steps_made, "steps_acked": tally.steps_acked}
    figures |= {"batches_again": tally.batches_again, "errors": tally.errors}
    return figures, devices


def _figures(load: Load, tally: Tally, seconds: float) -> dict[str, Any]:
    return {
        "devices": load.devices,
        "connected": tally.connected,
        "seconds": round(seconds, 1),
        "steps_per_s": round(tally.steps_made / seconds, 1),
        "messages_per_s": round(tally.batches_sent / seconds, 1),
        "connections": tally.connections,
        "ack_p50_ms": _percentile_ms(tally.ack_s, 0.5),
        "ack_p99_ms": _percentile_ms(tally.ack_s, 0.99),
        "reconnect_p50_s": _percentile_s(tally.reconnect_s, 0.5),
        "reconnect_p99_s": _percentile_s(tally.reconnect_s, 0.99),
    }


def _percentile_s(values: array[float], share: float) -> float | None:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 4) if values else None


def _percentile_ms(values: array[float], share: float) -> float | None:
    value_s = _percentile_s(values, share)
    return None if value_s is None else round(1000.0 * value_s, 1)


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def _raise_file_limit(devices: int) -> None:
    """Let the process open a socket for each device, as far as the system allows."""
    needed = devices + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UsageError(
            f"--devices is {devices}; this process may open {hard} files: "
            f"at most {hard - SPARE_FILES}, or raise `ulimit -Hn`"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
