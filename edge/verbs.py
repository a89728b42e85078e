"""The commands that a device carries out when asked over MQTT (edge.control)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edge import payloads
from edge.control import CommandError, only
from edge.errors import OutboxError
from edge.snapshot import LONGEST_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from edge.control import Verb
    from edge.outbox import Outbox
    from edge.payloads import DeviceInfo
    from edge.snapshot import Recent


def verbs(
    outbox: Outbox,
    info: DeviceInfo,
    recent: Recent,
    *,
    wall_clock: Callable[[], float],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Verb]:
    """Return what can be asked for now; recent: where snapshots come from, clock: that of its samples."""
    return {
        "ping": lambda request: _ping(request, wall_clock()),
        "info": lambda request: _info(request, info),
        "reset-today": lambda request: _reset_today(request, outbox, wall_clock()),
        "snapshot": lambda request: _snapshot(request, recent, wall_clock() - clock()),
    }


def _ping(request: Mapping[str, Any], wall_s: float) -> Iterator[Mapping[str, object]]:
    only(request)
    yield {"ts": payloads.rfc3339(round(wall_s * 1000.0))}


def _info(request: Mapping[str, Any], info: DeviceInfo) -> Iterator[Mapping[str, object]]:
    only(request)
    yield payloads.about(info)


def _reset_today(request: Mapping[str, Any], outbox: Outbox, wall_s: float) -> Iterator[Mapping[str, object]]:
    """Start today's count over; the lifetime total stays."""
    only(request)
    try:
        yield {"was": outbox.reset_today(wall_s), "today": 0}
    except OutboxError as error:
        if not error.transient:
            raise
        raise CommandError(f"not stored, try again: {error}") from error


def _snapshot(request: Mapping[str, Any], recent: Recent, wall_offset_s: float) -> Iterator[Mapping[str, object]]:
    only(request, "seconds")
    seconds = request.get("seconds", 1)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_S:
        raise CommandError(f"seconds: allowed is a number above 0, up to {LONGEST_S:g}")
    yield from recent.parts(float(seconds), wall_offset_s=wall_offset_s)
